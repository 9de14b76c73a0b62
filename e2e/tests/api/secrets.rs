//! Secrets go in and never come out: not in an answer, not in the log.

use std::io::Write;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use reqwest::Method;
use serde_json::json;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::world::{PASSWORD, World, random_handle};

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_any_answer_or_log_line() -> Result<()> {
    let log = Captured::default();
    // All that the API and its libraries have to say; the test's own client is not the API.
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("trace,hyper_util=off,reqwest=off,tokio_postgres=off"))
        .with_writer(log.clone())
        .with_ansi(false)
        .init();
    let world = World::new().await?;
    let environment = world.environment().await?;
    let app = world.app(&environment).await?;

    let path = format!("/v1/apps/{app}/configuration");
    let body = json!({"variables": {"URL": "MARKER-value"}});
    assert_eq!(world.patch("owner", &path, body, &[]).await?.status, 200);
    world.get("engineer", &path).await?;
    // Refused ones, too: a mistake must not show what it was made with.
    for body in [
        json!({"variables": {"URL": ["MARKER-list"]}}),
        json!({"variables": {"1URL": "MARKER-name"}}),
        json!({"variables": "MARKER-text"}),
    ] {
        assert_eq!(world.patch("owner", &path, body, &[]).await?.status, 422);
    }

    let path = format!("/v1/environments/{environment}/log-drains");
    let drain = |credentials| {
        json!({"handle": random_handle(), "kind": "https_post", "drain_apps": true,
            "destination": {"url": "https://logs.example.com/"}, "credentials": credentials})
    };
    let body = drain(json!({"headers": {"Authorization": "Bearer MARKER-header"}}));
    let created = world.post("owner", &path, body).await?;
    assert_eq!(created.status, 201, "{}", created.text);
    let shown = format!("/v1/log-drains/{}", created.id());
    world.get("owner", &shown).await?;
    world.get("owner", &path).await?;
    for credentials in [
        json!({"headers": {"Authorization": "MARKER\nvalue"}}),
        json!({"headers": {"Authorization": ["MARKER-list"]}}),
        json!({"headers": "MARKER-text"}),
        json!("MARKER-credentials"),
    ] {
        assert_eq!(world.post("owner", &path, drain(credentials)).await?.status, 422);
    }

    let path = format!("/v1/environments/{environment}");
    // What is base64 shows in that, too.
    for (secret, status) in [("whsec_MARKERMARKERMARKERMARKERMARKERMARKER", 200), ("MARKER", 422)] {
        let body = json!({"notices": {"webhook_secret": secret}});
        assert_eq!(world.patch("owner", &path, body, &[]).await?.status, status);
    }
    world.get("owner", &path).await?;
    world.get("owner", &format!("{path}/activity")).await?;

    world.sign_in("owner", "MARKER-wrong").await?;
    let body = json!({"email": "owner@example.com", "password": 7, "MARK": 1});
    world.send(None, Method::POST, "/v1/sign-in", Some(body), &[]).await?;
    let body = json!({"refresh_token": "MARKER-refresh"});
    world.send(None, Method::POST, "/v1/sign-in/refresh", Some(body), &[]).await?;
    let headers = [("authorization", "Bearer spw_MARKER")];
    world.send(None, Method::GET, "/v1/me", None, &headers).await?;
    world.get("owner", "/v1/environments?cursor=MARKER-cursor").await?;

    let answers = std::mem::take(&mut *world.answers.lock().expect("not poisoned"));
    assert!(answers.contains("environment_id") && answers.contains("problem"));
    assert!(!answers.contains("MARKER"), "{answers}");
    assert!(!answers.contains("argon2"));

    // What is shown once is shown once.
    let created = world.post("owner", "/v1/me/api-tokens", json!({"name": "ci"})).await?;
    let token = created.json["token"].as_str().context("a token")?;
    let path = format!("/v1/environments/{environment}/log-sources");
    let source = world.post("owner", &path, json!({"handle": "web", "app_id": app})).await?;
    let rotate = format!("/v1/log-sources/{}/rotate", source.id());
    let rotated = world.post("owner", &rotate, json!({"keep_old_seconds": 9})).await?;
    world.answers.lock().expect("not poisoned").clear();
    world.get("owner", &path).await?;
    world.get("owner", &format!("/v1/log-sources/{}", source.id())).await?;
    let answers = std::mem::take(&mut *world.answers.lock().expect("not poisoned"));
    let of_source = [&source, &rotated].map(|it| it.json["token"].as_str().expect("a token"));
    for token in of_source {
        assert!(answers.contains("token_key") && !answers.contains(token), "{answers}");
    }
    let signed_in = world.sign_in("owner", PASSWORD).await?.json;
    world.get("owner", "/v1/me/api-tokens").await?;
    let log = String::from_utf8(std::mem::take(&mut log.0.lock().expect("not poisoned")))?;
    assert!(log.contains("/v1/me/api-tokens"), "the log is captured: {log}");
    let access = signed_in["access_token"].as_str().context("a token")?;
    let refresh = signed_in["refresh_token"].as_str().context("a token")?;
    let [first, second] = of_source;
    for secret in ["MARKER", token, access, refresh, PASSWORD, first, second] {
        let at = log.find(secret).map(|at| log.get(at.saturating_sub(300)..at + 50));
        assert!(at.is_none(), "a secret is in the log: {at:?}");
    }
    Ok(())
}
