//! Log drains: what is kept, what is told, what is tested.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use e2e::certificates::CertificateAuthority;
use futures_util::{StreamExt as _, stream};
use model::OpeningKey;
use reqwest::Method;
use serde_json::{Value, json};
use service::Shutdown;
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, NoTls};
use uuid::Uuid;

use crate::world::{World, random_handle, syslog_drain};

fn https_drain(url: &str, token: &str) -> Value {
    json!({
        "handle": random_handle(), "kind": "https_post", "drain_apps": true,
        "destination": {"url": url}, "credentials": {"headers": {"Authorization": token}}
    })
}

async fn opened(world: &World, key: &OpeningKey, drain: &str) -> Result<Option<Value>> {
    let admin = world.database.connect().await?;
    let drain: Uuid = drain.parse()?;
    let row = admin
        .query_one("select sealed_credentials from log_drains where id = $1", &[&drain])
        .await?;
    let sealed: Option<Vec<u8>> = row.get(0);
    let Some(sealed) = sealed else { return Ok(None) };
    let plain = key.open(drain, &sealed)?;
    Ok(Some(serde_json::from_slice(plain.expose())?))
}

/// Every answer is checked against the description, so its schemas are, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_of_each_kind_is_created_shown_and_changed() -> Result<()> {
    let world = World::new().await?;
    let environment = world.environment().await?;
    let path = format!("/v1/environments/{environment}/log-drains");
    let url = "https://logs.example.com";
    let host = "logs.example.com";
    for (kind, destination, credentials) in [
        ("syslog_tls_tcp", json!({"host": host, "framing": "lf"}), json!({"token": "t"})),
        ("https_post", json!({"url": url, "compression": "zstd"}), json!({"token": "t"})),
        ("datadog", json!({"site": "datadoghq.eu"}), json!({"token": "t"})),
        ("splunk_hec", json!({"url": url}), json!({"token": "t"})),
        ("elasticsearch", json!({"url": url}), json!({"username": "a", "password": "b"})),
        ("loki", json!({"url": url, "labels": {"a": "b"}}), json!({})),
        ("otlp_http", json!({"url": url}), json!({"headers": {"api-key": "k"}})),
        ("sumologic", json!({"category": "c"}), json!({"url": "https://a.example.com/x"})),
        ("logdna", json!({"tags": ["a"]}), json!({"token": "t"})),
        ("papertrail", json!({"host": host, "port": 1}), json!({})),
        ("solarwinds", json!({"host": host}), json!({"token": "t"})),
        ("insightops", json!({"host": host}), json!({"token": "t"})),
        (
            "s3",
            json!({"bucket": "logs", "region": "eu-central-1", "encryption": "aws:kms"}),
            json!({"access_key_id": "a", "secret_access_key": "b", "session_token": "c"}),
        ),
        ("slack", json!({}), json!({"url": "https://hooks.slack.com/services/T0/B0/x"})),
        ("webhook", json!({"url": url}), json!({"headers": {"X-Team": "a"}, "token": "t"})),
    ] {
        let body = json!({
            "handle": random_handle(), "kind": kind, "drain_apps": true,
            "destination": destination, "credentials": credentials
        });
        let created = world.post("owner", &path, body).await?;
        assert_eq!(
            (created.status, &created.json["kind"]),
            (201, &json!(kind)),
            "{}",
            created.text
        );
        assert_eq!(created.json["has_credentials"], credentials != json!({}), "{kind}");
        let same = json!({"destination": created.json["destination"]});
        let drain = format!("/v1/log-drains/{}", created.id());
        let changed = world.patch("owner", &drain, same, &[]).await?;
        assert_eq!(changed.json["destination"], created.json["destination"], "{}", changed.text);
        // What it needs cannot be taken away.
        let without = world.patch("owner", &drain, json!({"credentials": null}), &[]).await?;
        let needed = [
            "datadog",
            "splunk_hec",
            "sumologic",
            "logdna",
            "solarwinds",
            "insightops",
            "s3",
            "slack",
        ];
        let expected = if needed.contains(&kind) { 422 } else { 200 };
        assert_eq!(without.status, expected, "{kind}: {}", without.text);
    }
    // By another name, and not without what it needs.
    let body = json!({
        "handle": random_handle(), "kind": "opensearch", "drain_apps": true,
        "destination": {"url": url}
    });
    assert_eq!(world.post("owner", &path, body).await?.json["kind"], "elasticsearch");
    let body = json!({
        "handle": random_handle(), "kind": "datadog", "drain_apps": true, "destination": {}
    });
    let refused = world.post("owner", &path, body).await?;
    assert_eq!(refused.json["errors"][0]["field"], "credentials.token", "{}", refused.text);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_sealed_to_the_worker_and_replaced_only_when_given() -> Result<()> {
    let world = World::new().await?;
    let environment = world.environment().await?;
    let path = format!("/v1/environments/{environment}/log-drains");
    let created = world
        .post("owner", &path, https_drain("https://logs.example.com/in", "Bearer one"))
        .await?;
    assert_eq!(created.json["has_credentials"], true);
    assert_eq!(created.json["state"], "active");
    let drain = created.id().to_owned();
    let expected = |token: &str| Some(json!({"headers": {"Authorization": token}}));
    assert_eq!(opened(&world, &world.worker_key, &drain).await?, expected("Bearer one"));
    assert!(opened(&world, &world.edge_key, &drain).await.is_err());

    let path = format!("/v1/log-drains/{drain}");
    let change = json!({"destination": {"url": "https://logs.example.com/other"}});
    assert_eq!(world.patch("owner", &path, change, &[]).await?.status, 200);
    assert_eq!(opened(&world, &world.worker_key, &drain).await?, expected("Bearer one"));

    // To a server of somebody's own: not with the old credentials.
    let elsewhere = json!({"destination": {"url": "https://evil.example.net/"}});
    let refused = world.patch("owner", &path, elsewhere, &[]).await?;
    assert_eq!((refused.status, &refused.json["errors"][0]["field"]), (422, &json!("credentials")));
    let with_new = json!({
        "destination": {"url": "https://new.example.com/"},
        "credentials": {"headers": {"Authorization": "Bearer two"}}
    });
    assert_eq!(world.patch("owner", &path, with_new, &[]).await?.status, 200);
    assert_eq!(opened(&world, &world.worker_key, &drain).await?, expected("Bearer two"));

    let without = world.patch("owner", &path, json!({"credentials": null}), &[]).await?;
    assert_eq!(without.json["has_credentials"], false);
    assert_eq!(opened(&world, &world.worker_key, &drain).await?, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_drains_are_refused_with_their_fields() -> Result<()> {
    let world = World::new().await?;
    let path = format!("/v1/environments/{}/log-drains", world.environment().await?);
    let pem = CertificateAuthority::new()?.pem();
    for (change, field) in [
        (json!({"drain_ephemeral_sessions": false}), "drain_apps"),
        (json!({"destination": {"host": "a b"}}), "destination.host"),
        (json!({"destination": {"host": "a", "port": 0}}), "destination.port"),
        (json!({"destination": {"host": "a", "port": 99999}}), "destination.port"),
        (json!({"destination": {"host": "a", "colour": 1}}), "destination.colour"),
        (
            json!({"destination": {"host": "a", "ca_certificates": "x"}}),
            "destination.ca_certificates",
        ),
        (json!({"destination": {}}), "destination"),
        (json!({"destination": {"url": "https://a/"}}), "destination.url"),
        (json!({"credentials": {"headers": {"A": "b"}}}), "credentials.headers"),
        (json!({"kind": "https_post", "destination": {"url": "http://a/"}}), "destination.url"),
        (
            json!({"kind": "https_post", "destination": {"url": "https://u:p@a/"}}),
            "destination.url",
        ),
        (
            json!({"kind": "https_post", "destination": {"url": "https://a/"},
                "credentials": {"headers": {"Host": "b"}}}),
            "credentials.headers.Host",
        ),
    ] {
        let mut body = syslog_drain();
        let fields = change.as_object().context("an object")?.clone();
        body.as_object_mut().context("an object")?.extend(fields);
        let answer = world.post("owner", &path, body).await?;
        assert_eq!(answer.status, 422, "{change}");
        assert_eq!(answer.json["errors"][0]["field"], field, "{change}: {}", answer.text);
    }
    let mut body = syslog_drain();
    body["destination"]["ca_certificates"] = json!(pem);
    let created = world.post("owner", &path, body).await?;
    assert_eq!(created.status, 201, "{}", created.text);
    assert_eq!(created.json["destination"]["ca_certificates"], json!(pem));
    assert_eq!(created.json["destination"]["port"], 6514);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_a_drain_is_told_to_the_workers() -> Result<()> {
    let world = World::new().await?;
    let (client, mut connection) =
        tokio_postgres::connect(&world.database.worker_url()?, NoTls).await?;
    let (told, mut tells) = mpsc::channel(64);
    let listener = Shutdown::new().spawn(async move {
        let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(it) = message
                && told.send(it.payload().to_owned()).await.is_err()
            {
                return;
            }
        }
    });
    client.batch_execute("listen spillway_drains").await?;
    let drain = world.drain(&world.environment().await?).await?;
    let path = format!("/v1/log-drains/{drain}");
    let owner = world.token("owner");
    let mut expect = async |what: &str| -> Result<()> {
        let payload = tokio::time::timeout(Duration::from_secs(5), tells.recv()).await;
        assert_eq!(payload.context(what.to_owned())?.as_deref(), Some(drain.as_str()), "{what}");
        Ok(())
    };
    expect("created").await?;
    world.patch("owner", &path, json!({"redraws": "last"}), &[]).await?;
    expect("changed").await?;
    for (step, state) in [("pause", "paused"), ("pause", "paused"), ("resume", "active")] {
        let answer = world.send(owner, Method::POST, &format!("{path}/{step}"), None, &[]).await?;
        assert_eq!(answer.json["state"], state);
        expect(step).await?;
    }
    world.delete("owner", &path, &[]).await?;
    expect("deleted").await?;
    listener.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_drain_begins_now_and_shows_how_it_is() -> Result<()> {
    let world = World::new().await?;
    let drain = world.drain(&world.environment().await?).await?;
    let admin = world.database.connect().await?;
    let id: Uuid = drain.parse()?;
    let row = admin
        .query_one(
            "select low_xid = high_xid and low_seq = high_seq and low_seq = 2 ^ 62
                 and low_xid < pg_snapshot_xmax(pg_current_snapshot())::text::bigint
                 and low_xid > pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1000
             from drain_positions where drain_id = $1",
            &[&id],
        )
        .await?;
    assert!(row.get::<_, bool>(0));
    admin
        .execute(
            "update drain_positions set failing_since = now(), last_error = 'refused',
                 last_error_at = now(), lag_records = 7, lag_seconds = 1.5, delivered_lines = 3,
                 rejected_lines = 1 where drain_id = $1",
            &[&id],
        )
        .await?;
    let shown = world.get("viewer", &format!("/v1/log-drains/{drain}")).await?.json;
    assert_eq!(shown["state"], "failing");
    assert_eq!((&shown["last_error"], &shown["lag_records"]), (&json!("refused"), &json!(7)));
    assert_eq!((&shown["delivered_lines"], &shown["rejected_lines"]), (&json!(3), &json!(1)));
    // Minutes ago, lines, bytes.
    for (ago, lines, bytes) in [(0, 30_i64, 3000_i64), (30, 100, 5000), (70, 900, 9000)] {
        let minute =
            "insert into drain_minutes (drain_id, minute, delivered_lines, delivered_bytes)
            values ($1, date_trunc('minute', now()) - make_interval(mins => $2), $3, $4)";
        admin.execute(minute, &[&id, &ago, &lines, &bytes]).await?;
    }
    let shown = world.get("viewer", &format!("/v1/log-drains/{drain}")).await?.json;
    assert_eq!(shown["last_minute"], json!({ "lines": 30, "bytes": 3000 }));
    assert_eq!(shown["last_hour"], json!({ "lines": 130, "bytes": 8000 }));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_is_answered_by_a_worker_or_not_at_all() -> Result<()> {
    let world = World::new().await?;
    let drain = world.drain(&world.environment().await?).await?;
    let path = format!("/v1/log-drains/{drain}/test");
    let began = Instant::now();
    let answer = world.post("owner", &path, json!({})).await?;
    assert_eq!((answer.status, answer.problem()), (504, "no-worker"));
    assert!((9..13).contains(&began.elapsed().as_secs()));

    world.worker()?;
    let began = Instant::now();
    let answer = world.post("owner", &path, json!({})).await?;
    assert_eq!((answer.status, &answer.json["ok"]), (200, &json!(true)), "{}", answer.text);
    assert_eq!(answer.json["steps"][0]["step"], "send");
    assert!(began.elapsed() < Duration::from_secs(5));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn options_are_kept_whole_and_name_what_the_environment_has() -> Result<()> {
    let world = World::new().await?;
    let environment = world.environment().await?;
    let path = format!("/v1/environments/{environment}/log-drains");
    let app = world.app(&environment).await?;
    let foreign = world.app(&world.environment().await?).await?;
    let with = |options: Value| {
        let mut body = https_drain("https://logs.example.com/in", "Bearer one");
        body["handle"] = random_handle().into();
        body["options"] = options;
        body
    };
    let options = json!({
        "apps": {"include": [app]}, "minimum_severity": "warning",
        "redactions": [{"pattern": r"\d{16}"}]
    });
    let created = world.post("owner", &path, with(options)).await?;
    let expected = json!({
        "apps": {"include": [app]}, "databases": null, "minimum_severity": "warning",
        "multiline_start": null, "parse_json": false, "tags": null, "static_fields": {},
        "redactions": [{"pattern": r"\d{16}", "replacement": "[redacted]"}]
    });
    assert_eq!((created.status, &created.json["options"]), (201, &expected), "{}", created.text);
    let drain = format!("/v1/log-drains/{}", created.id());
    let other = json!({"handle": random_handle()});
    assert_eq!(world.patch("owner", &drain, other, &[]).await?.json["options"], expected);
    let none = world.patch("owner", &drain, json!({"options": {}}), &[]).await?;
    assert_eq!(none.json["options"]["apps"], Value::Null);

    for (options, field) in [
        (json!({"apps": {"include": [foreign]}}), "options.apps"),
        (json!({"databases": {"exclude": [app]}}), "options.databases"),
        (json!({"redactions": [{"pattern": "("}]}), "options.redactions[0].pattern"),
    ] {
        for refused in [
            world.post("owner", &path, with(options.clone())).await?,
            world.post("owner", &format!("{path}/verify"), with(options.clone())).await?,
            world.patch("owner", &drain, json!({ "options": options.clone() }), &[]).await?,
        ] {
            let answer = (refused.status, &refused.json["errors"][0]["field"]);
            assert_eq!(answer, (422, &json!(field)), "{}", refused.text);
        }
    }
    Ok(())
}
