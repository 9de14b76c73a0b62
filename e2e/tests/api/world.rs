//! A running API, an organization with a member of each role, and another organization.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, Result};
use api::{Config, Connections, Settings};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::platform::Cli;
use e2e::postgres::TestDatabase;
use model::{OpeningKey, Role, Secret};
use reqwest::Method;
use serde_json::{Value, json};
use service::Shutdown;
use store::Store;
use store::bootstrap::{Bootstrap, NewUser};
use tokio::process::Command;
use uuid::Uuid;

use crate::contract::Contract;

pub(crate) const PASSWORD: &str = "correct-horse-MARKER-password";

/// An answer that fits the contract.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) etag: Option<String>,
    pub(crate) location: Option<String>,
    pub(crate) retry_after: Option<String>,
    pub(crate) text: String,
    pub(crate) json: Value,
}

impl Answer {
    pub(crate) fn id(&self) -> &str {
        self.json["id"].as_str().expect("an id")
    }

    pub(crate) fn problem(&self) -> &str {
        self.json["type"].as_str().unwrap_or_default().trim_start_matches("urn:spillway:problem:")
    }
}

pub(crate) struct World {
    pub(crate) database: TestDatabase,
    pub(crate) organization: Uuid,
    pub(crate) edge_key: OpeningKey,
    pub(crate) worker_key: OpeningKey,
    pub(crate) answers: Mutex<String>,
    tokens: BTreeMap<String, String>,
    base: String,
    client: reqwest::Client,
    contract: Contract,
    shutdown: Shutdown,
    folder: tempfile::TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.request();
    }
}

impl World {
    pub(crate) async fn new() -> Result<Self> {
        Self::with(|_| {}).await
    }

    /// A world whose API has other settings.
    pub(crate) async fn with(adapt: impl FnOnce(&mut Settings)) -> Result<Self> {
        service::install_crypto_provider();
        let database = TestDatabase::create().await?;
        let mut bootstrap = Bootstrap::connect(database.admin_url()).await?;
        let organization = bootstrap.create_organization(&"acme".parse()?, "Acme").await?;
        for role in Role::ALL {
            let user = new_user(role.as_str())?;
            bootstrap.create_user(&user, organization, role).await?;
        }
        let other = bootstrap.create_organization(&"other".parse()?, "Other").await?;
        bootstrap.create_user(&new_user("stranger")?, other, Role::Owner).await?;

        let folder = tempfile::tempdir()?;
        let (edge_key, worker_key) = (OpeningKey::generate(), OpeningKey::generate());
        let write = |name: &str, text: &str| -> Result<PathBuf> {
            let path = folder.path().join(name);
            std::fs::write(&path, text)?;
            Ok(path)
        };
        ssh_keygen(folder.path(), "user-ca")?;
        ssh_keygen(folder.path(), "host-ca")?;
        let connections = Connections {
            api_database_url: Secret::new(database.api_url()?),
            api_jwt_key: write("jwt", &STANDARD.encode([7; 32]))?,
            api_user_ca_key: folder.path().join("user-ca"),
            api_host_ca_public: folder.path().join("host-ca.pub"),
            api_edge_sealing_key: write("edge", &edge_key.sealing_key().to_string())?,
            api_worker_sealing_key: write("worker", &worker_key.sealing_key().to_string())?,
        };
        let mut settings = Settings {
            api_listen: "127.0.0.1:0".parse()?,
            api_tls_certificate: None,
            api_tls_key: None,
            api_allow_plain_http: false,
            api_trust_forwarded_for: false,
            api_access_token_seconds: 900,
            api_refresh_token_seconds: 3600,
            api_sign_ins_per_email: 1000.try_into()?,
            api_sign_ins_per_address: 1000.try_into()?,
            api_password_checks: 2.try_into()?,
            api_database_connections: 12,
        };
        adapt(&mut settings);
        let bound = api::bind(Config { settings, connections }).await?;
        let base = format!("http://{}", bound.address());
        let shutdown = Shutdown::new();
        let stop = shutdown.clone();
        shutdown.spawn(async move {
            if let Err(error) = bound.run(stop).await {
                eprintln!("{error}");
            }
        });
        let mut world = Self {
            database,
            organization: organization.uuid(),
            edge_key,
            worker_key,
            answers: Mutex::default(),
            tokens: BTreeMap::new(),
            base,
            client: reqwest::Client::builder().timeout(Duration::from_secs(20)).build()?,
            contract: Contract::read()?,
            shutdown,
            folder,
        };
        for name in Role::ALL.map(Role::as_str).into_iter().chain(["stranger"]) {
            let answer = world.sign_in(name, PASSWORD).await?;
            let token = answer.json["access_token"].as_str().context("a token")?.to_owned();
            world.tokens.insert(name.to_owned(), token);
        }
        // Tokens are meant to be in those answers; what follows must not repeat them.
        world.answers = Mutex::default();
        Ok(world)
    }

    pub(crate) async fn sign_in(&self, name: &str, password: &str) -> Result<Answer> {
        let email = format!("{name}@example.com");
        let body = json!({"email": email, "password": password});
        self.send(None, Method::POST, "/v1/sign-in", Some(body), &[]).await
    }

    /// The token of `anonymous` (none), `stranger`, or a role.
    pub(crate) fn token(&self, name: &str) -> Option<&str> {
        self.tokens.get(name).map(String::as_str)
    }

    pub(crate) async fn get(&self, name: &str, path: &str) -> Result<Answer> {
        self.send(self.token(name), Method::GET, path, None, &[]).await
    }

    pub(crate) async fn post(&self, name: &str, path: &str, body: Value) -> Result<Answer> {
        self.send(self.token(name), Method::POST, path, Some(body), &[]).await
    }

    pub(crate) async fn patch(
        &self,
        name: &str,
        path: &str,
        body: Value,
        headers: &[(&str, &str)],
    ) -> Result<Answer> {
        self.send(self.token(name), Method::PATCH, path, Some(body), headers).await
    }

    pub(crate) async fn delete(
        &self,
        name: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer> {
        self.send(self.token(name), Method::DELETE, path, None, headers).await
    }

    pub(crate) async fn send(
        &self,
        token: Option<&str>,
        method: Method,
        path: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Result<Answer> {
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.base));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = &body {
            request = request.json(body);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.with_context(|| format!("{method} {path}"))?;
        let header = |name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let content_type = header("content-type");
        let (status, etag) = (response.status().as_u16(), header("etag"));
        let (location, retry_after) = (header("location"), header("retry-after"));
        let text = response.text().await?;
        let json = serde_json::from_str(&text).unwrap_or_default();
        self.contract
            .check(method.as_str(), path, status, content_type.as_deref(), &json)
            .with_context(|| format!("{method} {path} answered {status} {text}"))?;
        self.answers.lock().expect("not poisoned").push_str(&text);
        Ok(Answer { status, etag, location, retry_after, text, json })
    }

    /// Server-sent events, as they come.
    pub(crate) async fn events(
        &self,
        name: &str,
        path: &str,
        last_event_id: Option<&str>,
    ) -> Result<reqwest::Response> {
        let mut request = self.client.get(format!("{}{path}", self.base));
        request = request.bearer_auth(self.token(name).unwrap_or_default());
        request = request.header("accept", "text/event-stream").timeout(Duration::from_mins(2));
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        Ok(request.send().await?)
    }

    /// Sends a body as it is; the answer need not fit the contract's path.
    pub(crate) async fn send_raw(
        &self,
        name: &str,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<(u16, Value)> {
        let request = self.client.post(format!("{}{path}", self.base));
        let request = request.bearer_auth(self.token(name).unwrap_or_default());
        let response = request.header("content-type", content_type).body(body).send().await?;
        Ok((response.status().as_u16(), response.json().await?))
    }

    /// An environment's handle.
    pub(crate) async fn handle(&self, environment: &str) -> Result<String> {
        let shown = self.get("owner", &format!("/v1/environments/{environment}")).await?;
        Ok(shown.json["handle"].as_str().context("a handle")?.to_owned())
    }

    /// `platform` as this caller, with these arguments.
    pub(crate) fn cli(&self, name: &str, arguments: &[&str]) -> Result<Command> {
        let mut command = Cli::new(self.folder.path()).command(arguments)?;
        command.env("SPILLWAY_TOKEN", self.token(name).unwrap_or_default());
        command.env("SPILLWAY_API_URL", &self.base);
        Ok(command)
    }

    pub(crate) fn environments_path(&self) -> String {
        format!("/v1/organizations/{}/environments", self.organization)
    }

    pub(crate) async fn environment(&self) -> Result<String> {
        let created = self
            .post("owner", &self.environments_path(), json!({"handle": random_handle()}))
            .await?;
        Ok(created.id().to_owned())
    }

    pub(crate) async fn app(&self, environment: &str) -> Result<String> {
        let body = json!({"handle": random_handle(), "image": "busybox"});
        let path = format!("/v1/environments/{environment}/apps");
        Ok(self.post("owner", &path, body).await?.id().to_owned())
    }

    pub(crate) async fn database(&self, environment: &str) -> Result<String> {
        let body = json!({"handle": random_handle(), "engine": "postgresql"});
        let path = format!("/v1/environments/{environment}/databases");
        Ok(self.post("owner", &path, body).await?.id().to_owned())
    }

    pub(crate) async fn drain(&self, environment: &str) -> Result<String> {
        let path = format!("/v1/environments/{environment}/log-drains");
        Ok(self.post("owner", &path, syslog_drain()).await?.id().to_owned())
    }

    pub(crate) async fn log_source(&self, environment: &str) -> Result<String> {
        let path = format!("/v1/environments/{environment}/log-sources");
        let body = json!({"handle": random_handle(), "app_id": self.app(environment).await?});
        Ok(self.post("owner", &path, body).await?.id().to_owned())
    }

    /// An edge that says it is running.
    pub(crate) async fn edge(&self) -> Result<()> {
        let client = self.database.connect().await?;
        client
            .execute(
                "insert into edges (id, name, address) values ($1, 'edge', '127.0.0.1:2222')",
                &[&Uuid::now_v7()],
            )
            .await?;
        Ok(())
    }

    /// A worker that answers each drain's test.
    pub(crate) fn worker(&self) -> Result<()> {
        let store = Store::connect(&self.database.worker_url()?, 2)?;
        let stop = self.shutdown.clone();
        self.shutdown.spawn(async move {
            let steps = json!([{"step": "send", "ok": true, "detail": "sent", "duration_ms": 1.5}]);
            while !stop.is_requested() {
                let open = store.open_drain_tests().await.unwrap_or_default();
                let configurations = store.claim_configuration_tests().await.unwrap_or_default();
                let open = open.into_iter().map(|test| test.id);
                for test in open.chain(configurations.into_iter().map(|(test, _)| test)) {
                    if let Err(error) = store.finish_drain_test(test, true, &steps).await {
                        eprintln!("{error}");
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        Ok(())
    }
}

fn new_user(name: &str) -> Result<NewUser> {
    static HASH: OnceLock<Secret<String>> = OnceLock::new();
    if HASH.get().is_none() {
        let hash = api::hash_password(&Secret::new(PASSWORD.to_owned()))?;
        drop(HASH.set(hash));
    }
    let password_hash = HASH.get().context("set above")?.clone();
    let email = format!("{name}@example.com");
    Ok(NewUser { email, name: name.to_owned(), password_hash })
}

fn ssh_keygen(folder: &std::path::Path, name: &str) -> Result<()> {
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
        .arg(folder.join(name))
        .status()?;
    anyhow::ensure!(made.success(), "ssh-keygen failed");
    Ok(())
}

/// A handle that no test has used.
pub(crate) fn random_handle() -> String {
    format!("h-{}", Uuid::now_v7().simple())
}

/// A new ed25519 public key; any 32 bytes are one for those who only pass it on.
pub(crate) fn public_key() -> String {
    let mut blob = Vec::new();
    for part in [b"ssh-ed25519".as_slice(), &rand::random::<[u8; 32]>()] {
        blob.extend(u32::try_from(part.len()).expect("short").to_be_bytes());
        blob.extend(part);
    }
    format!("ssh-ed25519 {} test", STANDARD.encode(blob))
}

/// What creates a drain.
pub(crate) fn syslog_drain() -> Value {
    json!({
        "handle": random_handle(), "kind": "syslog_tls_tcp",
        "destination": {"host": "logs.example.com"}, "drain_ephemeral_sessions": true
    })
}
