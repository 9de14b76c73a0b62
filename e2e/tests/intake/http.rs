//! Lines over HTTP(S), as shippers send them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::process::Process;
use e2e::wait;
use reqwest::{Client, Response};
use serde_json::Value;

use crate::{DEADLINE, Source, World};

mod connections;
mod databases;
mod durability;
mod keys;
mod new_tokens;
mod refusals;
mod rotation;
mod shippers;
mod tenants;

/// A running intake and a client of it.
struct Http {
    process: Process,
    url: String,
    client: Client,
}

/// What was answered.
#[derive(Debug)]
struct Answer {
    status: u16,
    retry_after: Option<u64>,
    kind: String,
    body: String,
}

impl Http {
    async fn start(world: &World, arguments: &[&str]) -> Result<Self> {
        service::install_crypto_provider();
        let client = Client::builder().timeout(DEADLINE).no_proxy();
        Self::start_with(world, arguments, client.build()?, "http://127.0.0.1").await
    }

    async fn start_with(
        world: &World,
        arguments: &[&str],
        client: Client,
        host: &str,
    ) -> Result<Self> {
        // What an earlier one said is not of interest.
        std::fs::write(world.log(), "")?;
        let mut process = world.intake(arguments)?;
        let port = wait::until("the intake listens", DEADLINE, async || {
            process.check_running()?;
            Ok(port(&process.log()))
        });
        let url = format!("{host}:{}", port.await?);
        Ok(Self { process, url, client })
    }

    /// Sends a body with a source's token and some headers.
    async fn post(
        &self,
        path: &str,
        source: &Source,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Result<Answer> {
        let authorization = format!("Bearer {}", source.token);
        let mut all = vec![("authorization", authorization.as_str())];
        all.extend_from_slice(headers);
        self.post_as(path, &all, body).await
    }

    async fn post_as(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Result<Answer> {
        let mut request = self.client.post(format!("{}{path}", self.url)).body(body.into());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::of(request.send().await?).await
    }
}

impl Answer {
    async fn of(response: Response) -> Result<Self> {
        let header = |name: &str| {
            Some(response.headers().get(name)?.to_str().unwrap_or_default().to_owned())
        };
        let retry_after = header("retry-after").map(|seconds| seconds.parse()).transpose()?;
        Ok(Self {
            status: response.status().as_u16(),
            retry_after,
            kind: header("content-type").unwrap_or_default(),
            body: response.text().await?,
        })
    }

    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("not JSON: {}", self.body))
    }

    /// Fails unless the status is this one.
    fn is(self, status: u16) -> Result<Self> {
        ensure!(self.status == status, "{status} was wanted: {self:?}");
        Ok(self)
    }
}

/// The port that the intake says it listens on for HTTP(S).
fn port(log: &str) -> Option<u16> {
    let line = log.lines().find(|line| line.contains("listening for HTTP"))?;
    let line: Value = serde_json::from_str(line).ok()?;
    line.get("address")?.as_str()?.rsplit(':').next()?.parse().ok()
}

/// One of a source's counts.
async fn count(world: &World, source: &Source, column: &str) -> Result<i64> {
    let statement = format!("select {column} from log_source_counts where source_id = $1");
    let row = world.admin.query_opt(&statement, &[&source.id.uuid()]).await?;
    Ok(row.map_or(0, |row| row.get(0)))
}

/// Waits until a source's count is this.
async fn count_until(world: &World, source: &Source, column: &str, wanted: i64) -> Result<()> {
    wait::until_true(column, Duration::from_secs(20), async || {
        Ok(count(world, source, column).await? == wanted)
    })
    .await
}
