//! Destinations of vendors, against receivers that check what the vendors' documentation asks for:
//! path, headers, body, limits; and answer as it says, partly refused batches included. The vendors
//! themselves cannot be run here.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use e2e::https_receiver::{Answer, HttpsReceiver, Received};
use e2e::tls_sink::TlsSink;
use e2e::wait;
use model::{Drain, Id};
use serde_json::{Value, json};

use crate::{DEADLINE, Session, World};

mod bucket;
mod events;
mod opentelemetry;
mod refused;
mod splunk;

/// What a line may not break: control characters, a quote, and bytes that are not UTF-8.
const HOSTILE: &[u8] = b"a\x01\x02\"\\<!channel>\xff\xfe\n";

struct Vendor {
    world: World,
    receiver: HttpsReceiver,
    drain: Id<Drain>,
    session: Session,
    worker: e2e::process::Process,
}

impl Vendor {
    /// A drain of a kind, whose destination is given the receiver's address and authority.
    async fn start(
        kind: &str,
        mut destination: Value,
        path: &str,
        credentials: Value,
    ) -> Result<Self> {
        let world = World::new().await?;
        let receiver = HttpsReceiver::start().await?;
        destination["ca_certificates"] = receiver.authority().into();
        let address = format!("https://localhost:{}{path}", receiver.address().port());
        let mut credentials = credentials;
        match kind {
            "sumologic" | "slack" => credentials["url"] = address.into(),
            "s3" => destination["endpoint"] = address.into(),
            _ => destination["url"] = address.into(),
        }
        let drain = world.drain(kind, destination, credentials).await?;
        world.change(drain, "control_sequences = 'keep'").await?;
        // Batches as large as the destination's own limits allow.
        let worker = world.worker_with(&[
            "--drain-allow-network",
            "127.0.0.0/8,::1/128",
            "--drain-batch-lines",
            "50000",
            "--drain-batch-bytes",
            "4194304",
        ])?;
        let session = world.session();
        Ok(Self { world, receiver, drain, session, worker })
    }

    /// Appends a session of 100 lines, one of them hostile.
    async fn session(&mut self) -> Result<()> {
        let records =
            [self.session.numbered(0..99), self.session.output(HOSTILE), self.session.ended()];
        self.world.append(&records).await
    }

    /// Appends a line of another session, and waits until it has come: then all before it has.
    async fn all_came(&self) -> Result<()> {
        let mut last = self.world.session();
        self.world.append(&[last.output("the last line\n")]).await?;
        wait::until_true("the last line", DEADLINE, async || {
            let has = |it: &Received| {
                it.is_accepted() && it.body.windows(13).any(|at| at == b"the last line")
            };
            Ok(self.receiver.requests().iter().any(has))
        })
        .await
    }

    async fn delivered(&self, delivered: i64, rejected: i64) -> Result<()> {
        let wanted = format!("{delivered} delivered, {rejected} rejected");
        let state = self
            .world
            .state_until(self.drain, &wanted, |state| {
                state.delivered == delivered && state.rejected == rejected
            })
            .await?;
        anyhow::ensure!(!state.failing, "{}", state.error);
        Ok(())
    }

    async fn failing(&self, words: &str) -> Result<()> {
        self.world
            .state_until(self.drain, words, |state| state.failing && state.error.contains(words))
            .await?;
        Ok(())
    }

    async fn rejected(&self) -> Result<Vec<(String, String)>> {
        let rows = self
            .world
            .admin
            .query("select line_id, reason from rejected_lines order by line_id", &[])
            .await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// The id of the session's line that begins at this offset.
    fn id_at(&self, begin: usize, end: usize) -> String {
        format!("{}:stdout:{begin}-{end}", self.session.origin.producer)
    }
}

fn accepted(requests: &[Received]) -> impl Iterator<Item = &Received> {
    requests.iter().filter(|request| request.is_accepted())
}

fn ids(entries: &[Value], pointer: &str) -> Vec<String> {
    let id = |entry: &Value| entry.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    entries.iter().filter_map(id).collect()
}

fn all_different(ids: &[String]) -> bool {
    ids.iter().collect::<HashSet<_>>().len() == ids.len()
}

#[tokio::test]
async fn datadog_gets_arrays_of_at_most_1000_entries() -> Result<()> {
    let path = "/api/v2/logs";
    let tags = json!({ "tags": ["team:web"] });
    let mut vendor = Vendor::start("datadog", tags, path, json!({ "token": "k3y" })).await?;
    vendor.receiver.answer_by(|request| {
        let entries: Vec<Value> = serde_json::from_slice(&request.body).unwrap_or_default();
        let complete = |entry: &Value| {
            ["message", "ddsource", "ddtags", "hostname", "service", "status"]
                .iter()
                .all(|name| entry[name].is_string())
                && entry["timestamp"].is_u64()
        };
        if request.path != "/api/v2/logs" || request.header("content-type") != "application/json" {
            return Answer::json(400, &json!({ "errors": [{ "title": "HTTP path is invalid" }] }));
        }
        if request.header("dd-api-key") != "k3y" {
            return Answer::json(403, &json!({ "errors": ["Forbidden"] }));
        }
        if request.body.len() > 5_000_000 || entries.len() > 1000 {
            return Answer::json(413, &json!({}));
        }
        let fine = !entries.is_empty() && entries.iter().all(complete);
        Answer::json(if fine { 202 } else { 400 }, &json!({}))
    });
    vendor.session().await?;
    let more = vendor.session.numbered(0..2400);
    vendor.world.append(&[more]).await?;
    vendor.delivered(2501, 0).await?;
    let requests = vendor.receiver.requests();
    assert!(requests.iter().all(Received::is_accepted), "nothing was refused on the way");
    let entries: Vec<Value> =
        requests.iter().map(Received::lines).collect::<Result<Vec<_>>>()?.concat();
    let first = &entries[0];
    assert_eq!((&first["hostname"], &first["service"]), (&json!("production"), &json!("web")));
    assert_eq!(first["ddtags"], "env:production,source:ephemeral_session,team:web");
    assert_eq!(first["usr"]["email"], "ada@example.com");
    assert_eq!(first["spillway"]["user_name"], "Ada \"the first\" Lovelace]");
    let ids = ids(&entries, "/spillway/id");
    assert!(ids.len() == 2501 && all_different(&ids));
    let hostile = entries.iter().find(|entry| entry["spillway"]["message_base64"].is_string());
    let exact = hostile.context("no hostile line")?["spillway"]["message_base64"].as_str();
    assert_eq!(STANDARD.decode(exact.unwrap_or_default())?, HOSTILE[..HOSTILE.len() - 1]);
    Ok(())
}

#[tokio::test]
async fn a_wrong_datadog_key_parks_the_drain_and_is_not_quoted() -> Result<()> {
    let mut vendor =
        Vendor::start("datadog", json!({}), "/api/v2/logs", json!({ "token": "wr0ngk3y" })).await?;
    vendor
        .receiver
        .answer_by(|_| Answer::json(403, &json!({ "errors": ["API key wr0ngk3y is invalid"] })));
    vendor.session().await?;
    vendor.failing("403 Forbidden ({\"errors\":[\"API key *** is invalid\"]})").await
}

#[tokio::test]
async fn elasticsearch_refuses_single_documents_and_is_tried_again_under_the_same_ids() -> Result<()>
{
    let destination = json!({ "index": "logs-web-default" });
    let credentials = json!({ "username": "elastic", "password": "s3cret" });
    let mut vendor = Vendor::start("elasticsearch", destination, "", credentials).await?;
    let mut stored = HashSet::new();
    let mut busy = true;
    vendor.receiver.answer_by(move |request| {
        let basic = format!("Basic {}", STANDARD.encode("elastic:s3cret"));
        if !request.path.starts_with("/logs-web-default/_bulk")
            || request.header("authorization") != basic
            || request.header("content-type") != "application/x-ndjson"
            || !request.body.ends_with(b"\n")
        {
            return Answer::json(400, &json!({ "error": { "type": "illegal_argument" } }));
        }
        let lines = request.lines().unwrap_or_default();
        let mut items = Vec::new();
        for pair in lines.chunks(2) {
            let id = pair[0]["create"]["_id"].as_str().unwrap_or_default().to_owned();
            let document = &pair[1];
            let complete =
                document["@timestamp"].is_string() && document["event"]["id"] == id.as_str();
            let status = if document["message"].as_str().is_some_and(|it| it.contains("line 7 of"))
            {
                400
            } else if busy
                && document["message"].as_str().is_some_and(|it| it.contains("line 9 of"))
            {
                429
            } else if !complete {
                400
            } else if stored.insert(id) {
                201
            } else {
                409
            };
            items.push(if status < 300 {
                json!({ "create": { "status": status } })
            } else {
                let error =
                    json!({ "type": "document_parsing_exception", "reason": "no field [s3cret]" });
                json!({ "create": { "status": status, "error": error } })
            });
        }
        busy = false;
        let errors = items.iter().any(|item| item["create"]["status"].as_u64() > Some(299));
        Answer::json(200, &json!({ "errors": errors, "items": items }))
    });
    vendor.session().await?;
    vendor.delivered(100, 1).await?;
    let rejected = vendor.rejected().await?;
    assert_eq!(rejected.len(), 1);
    assert!(rejected[0].1.contains("400") && rejected[0].1.contains("document_parsing_exception"));
    assert!(!rejected[0].1.contains("s3cret"), "{}", rejected[0].1);
    let requests = vendor.receiver.requests();
    assert_eq!(requests[0].body, requests[1].body, "the ids are in it");
    let documents = requests[0].lines()?;
    assert_eq!(documents[1]["user"]["email"], "ada@example.com");
    assert_eq!(documents[1]["service"], json!({ "name": "web", "environment": "production" }));
    assert_eq!(documents[1]["labels"]["offset"], "0");
    Ok(())
}

#[tokio::test]
async fn loki_gets_streams_whose_equal_lines_stay_apart() -> Result<()> {
    let destination = json!({ "tenant": "acme", "labels": { "team": "web" } });
    let mut vendor =
        Vendor::start("loki", destination, "/base", json!({ "token": "t0ken" })).await?;
    vendor.receiver.answer_by(|request| {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let streams = body["streams"].as_array().cloned().unwrap_or_default();
        let fine = streams.iter().all(|stream| {
            stream["stream"].as_object().is_some_and(|labels| (1..=15).contains(&labels.len()))
                && stream["values"].as_array().is_some_and(|values| {
                    values.iter().all(|value| {
                        value[0].as_str().is_some_and(|at| at.parse::<u64>().is_ok())
                            && value[1].as_str().is_some_and(|line| line.len() <= 256 * 1024)
                            && value[2]
                                .as_object()
                                .is_some_and(|it| it.values().all(Value::is_string))
                            && value[2].to_string().len() <= 64 * 1024
                    })
                })
        });
        let known = request.path == "/base/loki/api/v1/push"
            && request.header("x-scope-orgid") == "acme"
            && request.header("authorization") == "Bearer t0ken"
            && request.body.len() < 4_000_000;
        Answer::status(if known && fine && !streams.is_empty() { 204 } else { 400 })
    });
    // All of one record, so of one time.
    let same = vendor.session.output("same\n".repeat(50));
    vendor.world.append(&[same]).await?;
    vendor.session().await?;
    let long = vendor.session.output([b"\xff".repeat(300_000).as_slice(), b"\n"].concat());
    vendor.world.append(&[long]).await?;
    vendor.all_came().await?;
    let state = vendor.world.state(vendor.drain).await?;
    assert_eq!(state.rejected, 0);
    let mut entries = Vec::new();
    for request in accepted(&vendor.receiver.requests()) {
        let body: Value = serde_json::from_slice(&request.body)?;
        entries.extend(body["streams"].as_array().context("no streams")?.clone());
    }
    let labels = json!({
        "service_name": "web", "environment": "production", "source": "ephemeral_session", "team": "web"
    });
    assert_eq!(entries[0]["stream"], labels);
    assert_eq!(entries[0]["values"][0][2]["user_email"], "ada@example.com");
    // As Loki tells lines apart: by stream, nanosecond and text.
    let seen: HashSet<(String, String)> = entries
        .iter()
        .map(|entry| (entry["values"][0][0].to_string(), entry["values"][0][1].to_string()))
        .collect();
    assert_eq!(seen.len(), entries.len());
    Ok(())
}

#[tokio::test]
async fn sumo_logic_gets_lines_that_it_does_not_slice() -> Result<()> {
    let destination = json!({ "category": "prod/web", "name": null });
    let path = "/receiver/v1/http/c0de-that-is-secret";
    let mut vendor = Vendor::start("sumologic", destination, path, json!({})).await?;
    vendor.receiver.answer_by(|request| {
        let lines = request.body.split_inclusive(|&byte| byte == b'\n');
        let fine = lines.clone().all(|line| {
            line.len() <= 64 * 1024
                && line.starts_with(b"{\"timestamp\":1")
                && line.ends_with(b"}\n")
        });
        let known = request.path == "/receiver/v1/http/c0de-that-is-secret"
            && request.header("x-sumo-category") == "prod/web"
            && request.header("x-sumo-host") == "production";
        Answer::status(if known && fine && request.body.len() <= 1_000_000 { 200 } else { 400 })
    });
    vendor.session().await?;
    // The worst that JSON can make of bytes.
    let worst = b"\x01\xff".repeat(100_000);
    let long = vendor.session.output([worst.as_slice(), b"\n"].concat());
    vendor.world.append(&[long]).await?;
    vendor.all_came().await?;
    let state = vendor.world.state(vendor.drain).await?;
    assert_eq!(state.rejected, 0);
    let lines = vendor.receiver.accepted_lines()?;
    let text: Vec<u8> = lines
        .iter()
        .filter(|line| line["seq"] == "3")
        .map(|line| STANDARD.decode(line["message_base64"].as_str().unwrap_or_default()))
        .collect::<Result<Vec<_>, _>>()?
        .concat();
    assert!(text == worst, "{} bytes", text.len());
    vendor
        .receiver
        .answer_by(|_| Answer::json(401, &json!({ "message": "c0de-that-is-secret is unknown" })));
    let more = vendor.session.numbered(0..1);
    vendor.world.append(&[more]).await?;
    vendor.failing("*** is unknown").await
}

#[tokio::test]
async fn mezmo_refuses_single_lines_in_a_207() -> Result<()> {
    let destination = json!({ "tags": ["a", "b"], "hostname": null });
    let mut vendor =
        Vendor::start("logdna", destination, "", json!({ "token": "ingestk3y" })).await?;
    vendor.receiver.answer_by(|request| {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let lines = body["lines"].as_array().cloned().unwrap_or_default();
        let known = request.path == "/logs/ingest?hostname=production&tags=a%2Cb"
            && request.header("authorization")
                == format!("Basic {}", STANDARD.encode("ingestk3y:"));
        if !known || lines.is_empty() {
            return Answer::status(403);
        }
        let status = |line: &Value| {
            let text = line["line"].as_str().unwrap_or_default();
            let fits =
                text.len() <= 16_000 && line["timestamp"].is_u64() && line["meta"].is_object();
            if !fits || text.contains("line 42 of") { 400 } else { 200 }
        };
        let statuses: Vec<u16> = lines.iter().map(status).collect();
        Answer::json(207, &json!({ "status": statuses }))
    });
    vendor.session().await?;
    let long = vendor.session.output([b"\xff".repeat(50_000).as_slice(), b"\n"].concat());
    vendor.world.append(&[long]).await?;
    vendor.all_came().await?;
    let state =
        vendor.world.state_until(vendor.drain, "the refusal", |state| state.rejected > 0).await?;
    assert_eq!(state.rejected, 1);
    let rejected = vendor.rejected().await?;
    assert_eq!(rejected[0].1, "Mezmo answered 400 for this line");
    let body: Value = serde_json::from_slice(&vendor.receiver.requests()[0].body)?;
    let line = &body["lines"][0];
    assert_eq!((&line["app"], &line["env"]), (&json!("web"), &json!("production")));
    assert_eq!(line["meta"]["user_email"], "ada@example.com");
    Ok(())
}

#[tokio::test]
async fn syslog_vendors_get_lines_that_end_in_lf_with_their_token() -> Result<()> {
    let token = "0a1b2c3d-token";
    for (kind, begins, has) in [
        ("syslog_tls_tcp", "<134>1 ", " seq=\"0\"] 0a1b2c3d-token line 0 of the session"),
        ("papertrail", "<134>1 ", " seq=\"0\"] line 0 of the session"),
        ("solarwinds", "<134>1 ", " seq=\"0\"][0a1b2c3d-token@41058] line 0 of the session"),
        (
            "insightops",
            "0a1b2c3d-token {\"id\":",
            "\"message\":\"line 0 of the session\",\"hop\":\"",
        ),
    ] {
        let world = World::new().await?;
        let sink = TlsSink::start().await?;
        sink.frame_by_lf();
        let mut destination = json!({
            "host": "localhost", "port": sink.address().port(), "ca_certificates": sink.authority()
        });
        if kind == "syslog_tls_tcp" {
            destination["framing"] = "lf".into();
            destination["token"] = "prefix".into();
        }
        let credentials = if kind == "papertrail" { json!({}) } else { json!({ "token": token }) };
        let drain = world.drain(kind, destination, credentials).await?;
        let _worker = world.worker()?;
        let mut session = world.session();
        let records = [session.numbered(0..3), session.output(HOSTILE), session.ended()];
        world.append(&records).await?;
        world.state_until(drain, "all", |state| state.delivered == 5).await?;
        let messages: Vec<String> = sink
            .messages()
            .iter()
            .map(|message| String::from_utf8_lossy(message).into_owned())
            .collect();
        assert_eq!(messages.len(), 5);
        let long = session.output([b"x".repeat(300_000).as_slice(), b"\n"].concat());
        world.append(&[long]).await?;
        wait::until_true("the long line", DEADLINE, async || {
            Ok(sink.messages()[5..].iter().map(Bytes::len).sum::<usize>() >= 300_000)
        })
        .await?;
        let longest = sink.messages().iter().map(Bytes::len).max().unwrap_or_default();
        assert!(longest <= if kind == "insightops" { 65_536 } else { 100_000 }, "{longest}");
        assert!(messages.iter().all(|message| message.starts_with(begins)), "{messages:?}");
        assert!(messages[0].contains(has), "{}", messages[0]);
        assert!(messages[0].contains("ada@example.com"));
    }
    Ok(())
}

/// Fails unless a request is signed as Standard Webhooks says, a moment ago.
fn is_signed(request: &Received, secret: &[u8]) -> Result<()> {
    let at: u64 = request.header("webhook-timestamp").parse()?;
    let age = request.at.duration_since(std::time::UNIX_EPOCH)?.as_secs().abs_diff(at);
    assert!(age < 60, "{age}");
    let signed = request.header("webhook-signature").strip_prefix("v1,").context("no v1")?;
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
    let message =
        [format!("{}.{at}.", request.header("webhook-id")).as_bytes(), &request.sent].concat();
    aws_lc_rs::hmac::verify(&key, &message, &STANDARD.decode(signed)?)
        .map_err(|_| anyhow::anyhow!("the signature is wrong"))
}

#[tokio::test]
async fn an_own_server_gets_signed_requests_in_zstd() -> Result<()> {
    let secret = b"twenty-four bytes or more";
    let credentials = json!({
        "signing_secret": format!("whsec_{}", STANDARD.encode(secret)), "token": "t0ken"
    });
    let destination = json!({ "compression": "zstd", "keys": "aptible", "format": "json_array" });
    let mut vendor = Vendor::start("https_post", destination, "/logs", credentials).await?;
    vendor.receiver.answer_in_turn(vec![Answer::status(503)]);
    vendor.session().await?;
    vendor.delivered(101, 0).await?;
    let requests = vendor.receiver.requests();
    for request in &requests {
        assert_eq!(request.header("content-encoding"), "zstd");
        assert_eq!(request.header("authorization"), "Bearer t0ken");
        assert_eq!(request.header("webhook-id"), request.header("spillway-batch-id"));
        is_signed(request, secret)?;
    }
    assert_eq!(requests[0].header("webhook-id"), requests[1].header("webhook-id"));
    let lines = vendor.receiver.accepted_lines()?;
    assert_eq!(
        (&lines[0]["log"], &lines[0]["app"]),
        (&json!("line 0 of the session"), &json!("web"))
    );
    assert!(
        lines
            .iter()
            .all(|line| line.as_object().is_some_and(|it| it.values().all(Value::is_string)))
    );
    Ok(())
}

#[tokio::test]
async fn an_own_server_may_want_a_user_and_a_password() -> Result<()> {
    let credentials = json!({ "username": "ada", "password": "s3cret" });
    let mut vendor = Vendor::start("https_post", json!({}), "/logs", credentials).await?;
    vendor.receiver.answer_by(|request| {
        let basic = format!("Basic {}", STANDARD.encode("ada:s3cret"));
        Answer::status(if request.header("authorization") == basic { 200 } else { 401 })
    });
    vendor.session().await?;
    vendor.delivered(101, 0).await
}

#[tokio::test]
async fn an_own_server_gets_logplex_frames() -> Result<()> {
    let destination = json!({ "compression": "none", "format": "logplex" });
    let mut vendor = Vendor::start("https_post", destination, "/logs", json!({})).await?;
    vendor.session().await?;
    vendor.delivered(101, 0).await?;
    let mut frames = Vec::new();
    for request in vendor.receiver.requests() {
        assert_eq!(request.header("content-type"), "application/logplex-1");
        assert_eq!(request.header("logplex-frame-id").len(), 32);
        assert_eq!(request.header("logplex-drain-token"), format!("d.{}", vendor.drain));
        let before = frames.len();
        let mut rest = request.body.as_ref();
        while !rest.is_empty() {
            let space = rest.iter().position(|&byte| byte == b' ').context("no length")?;
            let length: usize = std::str::from_utf8(&rest[..space])?.parse()?;
            frames.push(String::from_utf8_lossy(&rest[space + 1..][..length]).into_owned());
            rest = &rest[space + 1 + length..];
        }
        assert_eq!(request.header("logplex-msg-count"), (frames.len() - before).to_string());
    }
    assert_eq!(frames.len(), 101);
    assert!(frames.iter().all(|frame| frame.ends_with('\n') && frame.contains(" host web ")));
    assert!(frames[0].contains("user_email=ada@example.com"), "{}", frames[0]);
    assert!(frames[0].ends_with("line 0 of the session\n"));
    Ok(())
}

#[tokio::test]
async fn a_server_that_says_260_is_waited_for() -> Result<()> {
    let mut vendor = Vendor::start("loki", json!({}), "", json!({})).await?;
    vendor.receiver.answer_by(|_| Answer::slow(260, Duration::ZERO));
    vendor.session().await?;
    vendor.failing("it takes no lines at the moment").await
}
