//! Endpoints that let in who shows a certificate of their own authority.

use anyhow::Result;
use e2e::certificates::{CertificateAuthority, ServerCertificate};
use e2e::https_receiver::{Answer, HttpsReceiver};
use e2e::tls_sink::TlsSink;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::World;

/// The kinds that send by HTTP, their destinations but for where that is, and their credentials.
fn http_kinds() -> [(&'static str, Value, Value); 7] {
    let keys = json!({ "access_key_id": "id", "secret_access_key": "s3cretk3y" });
    let bucket = json!({ "bucket": "logs", "region": "eu-central-1", "max_seconds": 1 });
    [
        ("https_post", json!({}), json!({})),
        ("splunk_hec", json!({ "acknowledge": false }), json!({ "token": "t0ken" })),
        ("elasticsearch", json!({ "index": "a" }), json!({})),
        ("loki", json!({}), json!({})),
        ("otlp_http", json!({}), json!({})),
        ("s3", bucket, keys),
        ("webhook", json!({}), json!({})),
    ]
}

fn destination(kind: &str, mut rest: Value, receiver: &HttpsReceiver) -> Value {
    let name = if kind == "s3" { "endpoint" } else { "url" };
    rest[name] = format!("https://localhost:{}", receiver.address().port()).into();
    rest["ca_certificates"] = receiver.authority().into();
    rest
}

fn with(credentials: &Value, identity: &ServerCertificate) -> Value {
    let mut credentials = credentials.clone();
    credentials["client_certificate"] = identity.certificate.as_str().into();
    credentials["client_key"] = identity.key.as_str().into();
    credentials
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_who_wants_one() -> Result<()> {
    let authority = CertificateAuthority::new()?;
    let client = authority.issue(&["spillway"])?;
    let sink = TlsSink::start_for_clients_of(&authority.pem()).await?;
    let world = World::new().await?;
    let destination = json!({
        "host": "localhost", "port": sink.address().port(), "ca_certificates": sink.authority()
    });
    let without = world.drain("syslog_tls_tcp", destination.clone(), json!({})).await?;
    let identity = with(&json!({}), &client);
    let with = world.drain("syslog_tls_tcp", destination, identity).await?;
    let _worker = world.worker()?;
    let mut session = world.session();
    world.append(&[session.numbered(0..3), session.ended()]).await?;
    world.state_until(with, "all", |state| state.delivered == 4).await?;
    let state = world.state_until(without, "the refusal", |state| state.failing).await?;
    assert!(state.error.contains("asks for a client certificate"), "{state:?}");
    assert_eq!(state.delivered, 0);
    assert_eq!(sink.count(), 4);
    Ok(())
}

#[tokio::test]
async fn every_kind_that_sends_by_http_shows_its_client_certificate() -> Result<()> {
    let authority = CertificateAuthority::new()?;
    let client = authority.issue(&["spillway"])?;
    let world = World::new().await?;
    let mut drains = Vec::new();
    for (kind, rest, credentials) in http_kinds() {
        let receiver = HttpsReceiver::start_for_clients_of(&authority.pem()).await?;
        receiver.answer_by(move |_| match kind {
            "splunk_hec" => Answer::json(200, &json!({ "text": "Success", "code": 0 })),
            "elasticsearch" => {
                let created = json!({ "create": { "status": 201 } });
                Answer::json(200, &json!({ "errors": false, "items": [created] }))
            }
            _ => Answer::status(200),
        });
        let to = destination(kind, rest, &receiver);
        let drain = world.drain(kind, to, with(&credentials, &client)).await?;
        drains.push((kind, drain, receiver));
    }
    let _worker = world.worker()?;
    let mut session = world.session();
    world.append(&[session.started()]).await?;
    for (kind, drain, receiver) in drains {
        let state = world.state_until(drain, kind, |state| state.delivered == 1).await?;
        assert!(!state.failing, "{kind}: {state:?}");
        assert!(!receiver.requests().is_empty(), "{kind}");
    }
    Ok(())
}

#[tokio::test]
async fn a_drain_without_the_client_certificate_says_that_it_is_wanted() -> Result<()> {
    let authority = CertificateAuthority::new()?;
    let world = World::new().await?;
    let receiver = HttpsReceiver::start_for_clients_of(&authority.pem()).await?;
    let mut drains = Vec::new();
    for (kind, rest, credentials) in http_kinds() {
        let to = destination(kind, rest, &receiver);
        drains.push((kind, world.drain(kind, to, credentials).await?));
    }
    let stranger = CertificateAuthority::new()?.issue(&["spillway"])?;
    let to = destination("https_post", json!({}), &receiver);
    let wrong = world.drain("https_post", to, with(&json!({}), &stranger)).await?;
    let _worker = world.worker()?;
    let mut session = world.session();
    // Much, so that the receiver closes while it is being sent.
    world.append(&[session.started(), session.output("x".repeat(400_000) + "\n")]).await?;
    let words = "asks for a client certificate and was shown none: set the credentials \
                 `client_certificate` and `client_key`";
    for (kind, drain) in &drains {
        let state = world.state_until(*drain, kind, |state| state.failing).await?;
        assert!(state.error.contains(words), "{kind}: {state:?}");
        assert_eq!((state.delivered, state.rejected), (0, 0), "{kind}: {state:?}");
    }
    let state = world.state_until(wrong, "the other refusal", |state| state.failing).await?;
    assert!(state.error.contains("may not accept the drain's `client_certificate`"), "{state:?}");
    assert!(receiver.requests().is_empty());

    // Mended, it has everything.
    let client = authority.issue(&["spillway"])?;
    let sealed = with(&json!({}), &client).to_string();
    let sealed = world.key.sealing_key().seal(wrong.uuid(), sealed.as_bytes());
    let change = "update log_drains set sealed_credentials = $1, revision = revision + 1 \
                  where id = $2";
    world.admin.execute(change, &[&sealed, &wrong.uuid()]).await?;
    world.announce(wrong).await?;
    world.state_until(wrong, "all", |state| state.delivered > 1 && !state.failing).await?;
    Ok(())
}

/// As nginx does: whoever has no certificate is let in, and told so in a 400 for each request.
#[tokio::test]
async fn a_400_about_the_client_certificate_costs_no_line() -> Result<()> {
    let authority = CertificateAuthority::new()?;
    let world = World::new().await?;
    let certificate = ServerCertificate::for_localhost()?;
    let config = certificate.server_config_asking_for_clients_of(&authority.pem())?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let receiver = HttpsReceiver::start_tls(listener, config, &certificate.authority)?;
    receiver.answer_by(|_| Answer::Body {
        status: 400,
        headers: Vec::new(),
        body: "<html>\r\n<head><title>400 No required SSL certificate was sent</title></head>\r\n\
               <body>\r\n<center><h1>400 Bad Request</h1></center>\r\n\
               <center>No required SSL certificate was sent</center>\r\n"
            .into(),
    });
    let drain = world.https(&receiver).await?;
    let _worker = world.worker()?;
    let mut session = world.session();
    world.append(&[session.numbered(0..10)]).await?;
    let state = world.state_until(drain, "the refusal", |state| state.failing).await?;
    assert!(state.error.contains("asks for a client certificate"), "{state:?}");
    assert_eq!((state.delivered, state.rejected), (0, 0), "{state:?}");
    assert_eq!(receiver.requests().len(), 1);
    Ok(())
}
