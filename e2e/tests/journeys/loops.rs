//! A drain whose receiver logs into the drain's own environment.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::arrivals::Arrival;
use e2e::docker::TestImage;
use e2e::https_receiver::{HttpsReceiver, Received};
use e2e::platform::Platform;
use e2e::wait;
use reqwest::Client;
use serde_json::Value;

const DEADLINE: Duration = Duration::from_secs(30);

/// The drain `loop` to a receiver, and the source `web-logs` that the receiver logs to.
struct Loop {
    platform: Platform,
    receiver: HttpsReceiver,
    client: Client,
    token: String,
    /// Lines of the app that were delivered, and requests that were posted back.
    delivered: Vec<Arrival>,
    posted: usize,
}

impl Loop {
    async fn start() -> Result<Self> {
        service::install_crypto_provider();
        let image = TestImage::Busybox.ensure().await?;
        let platform = Platform::with_app(&image, &[]).await?;
        let receiver = HttpsReceiver::start().await?;
        let authority = platform.folder().join("ca.pem");
        std::fs::write(&authority, receiver.authority())?;
        let (url, authority) = (receiver.url(), authority.display().to_string());
        let create = ["drain", "create", "https", "loop", "--url", &url, "--ca-file", &authority];
        let place = ["--environment", "production"];
        platform.cli().run(&[&create[..], &place, &["--activity=false"]].concat()).await?;
        let create = ["source", "create", "web-logs", "--app", "web"];
        let created = platform.cli().json(&[&create[..], &place].concat()).await?;
        let token = created.get("token").and_then(Value::as_str).context("a token")?.to_owned();
        let client = Client::builder().timeout(DEADLINE).no_proxy().build()?;
        Ok(Self { platform, receiver, client, token, delivered: Vec::new(), posted: 0 })
    }

    async fn post(&self, kind: &str, body: impl Into<reqwest::Body>) -> Result<()> {
        let request = self.client.post(format!("{}/logs", self.platform.intake()));
        let request = request.bearer_auth(&self.token).header("content-type", kind.to_owned());
        // Who logs what came back is told that it was taken: trying again would not help.
        request.body(body).send().await?.error_for_status()?;
        Ok(())
    }

    /// Posts back what was delivered since the last call, as JSON and as plain lines.
    async fn turn(&mut self) -> Result<()> {
        for request in self.receiver.take_requests().into_iter().filter(Received::is_accepted) {
            for line in request.lines()? {
                let line = Arrival::from_json(&line)?;
                // Delivery is at least once.
                let is_new = self.delivered.iter().all(|one| one.field("id") != line.field("id"));
                if is_new && line.field("source") == "app" {
                    self.delivered.push(line);
                }
            }
            for kind in ["application/x-ndjson", "text/plain"] {
                self.post(kind, request.body.clone()).await?;
                self.posted += 1;
            }
        }
        Ok(())
    }

    /// Lets it loop until something holds.
    async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) -> Result<()> {
        wait::until_true(what, DEADLINE, async || {
            self.turn().await?;
            Ok(holds(self))
        })
        .await
    }

    fn has(&self, message: &str) -> bool {
        self.delivered.iter().any(|line| line.message == message)
    }

    async fn show(&self, noun: &str, handle: &str) -> Result<Value> {
        self.platform.cli().json(&[noun, "show", handle, "--environment", "production"]).await
    }
}

fn number(shown: &Value, name: &str) -> u64 {
    shown.get(name).and_then(Value::as_u64).unwrap_or_default()
}

#[tokio::test]
async fn a_line_that_comes_back_ends_at_its_drain_which_says_so() -> Result<()> {
    let mut turning = Loop::start().await?;
    turning.post("text/plain", "once").await?;
    turning.until("the line to be posted back", |it| it.has("once") && it.posted >= 2).await?;
    let drain = wait::until("the loop to be told", DEADLINE, async || {
        let source = turning.show("source", "web-logs").await?;
        let drain = turning.show("drain", "loop").await?;
        let told = number(&source, "looped") >= 2 && number(&drain, "looped_lines") >= 2;
        Ok(told.then_some(drain))
    })
    .await?;
    ensure!(drain.get("state") == Some(&Value::from("looping")), "{drain}");

    // What follows in the stream comes after all that could have come of the loop.
    for message in ["new", "last"] {
        turning.post("text/plain", message).await?;
        turning.until("a new line", |it| it.has(message)).await?;
    }
    let messages: Vec<_> = turning.delivered.iter().map(|line| line.message.as_str()).collect();
    ensure!(messages == ["once", "new", "last"], "{messages:?}");
    wait::until_true("the counts to stand still", DEADLINE, async || {
        let drain = turning.show("drain", "loop").await?;
        let source = turning.show("source", "web-logs").await?;
        // Each of three lines, and twice what was delivered of it.
        ensure!(number(&source, "lines") <= 9, "{source}");
        let still = number(&drain, "lag_records") == 0 && number(&drain, "delivered_lines") == 3;
        Ok(still && number(&source, "lines") == 9)
    })
    .await
}
