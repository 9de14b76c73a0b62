//! Bodies as shippers send them, byte by byte as their documentation has them.

use anyhow::{Context as _, Result, ensure};
use e2e::docker::{TestImage, docker};
use e2e::process;
use model::{OutputStream, Severity, Source as SourceKind};
use prost::Message as _;
use serde_json::json;

use super::{Http, count_until};
use crate::{DEADLINE, World, text};

/// A path, the kind of body, a body, the status it is answered with, and the texts of its lines.
type Case = (&'static str, &'static str, Vec<u8>, u16, Vec<&'static str>);

#[derive(Clone, PartialEq, prost::Message)]
struct Push {
    #[prost(message, repeated, tag = "1")]
    streams: Vec<Stream>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Stream {
    #[prost(string, tag = "1")]
    labels: String,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<Entry>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Entry {
    #[prost(string, tag = "2")]
    line: String,
}

fn promtail() -> Result<Vec<u8>> {
    let entries = vec![Entry { line: "from promtail".to_owned() }];
    let labels = r#"{filename="/var/log/web.log", job="web", level="error"}"#.to_owned();
    let push = Push { streams: vec![Stream { labels, entries }] };
    Ok(snap::raw::Encoder::new().compress_vec(&push.encode_to_vec())?)
}

/// `ExportLogsServiceRequest` with the body "from otlp" of severity 13, and "mine" as `service.name`.
const OTLP: &[u8] = b"\x0a\x32\x0a\x18\x0a\x16\x0a\x0cservice.name\x12\x06\x0a\x04mine\
    \x12\x16\x0a\x03\x0a\x01s\x12\x0f\x10\x0d\x2a\x0b\x0a\x09from otlp";

fn cases() -> Result<Vec<Case>> {
    let otlp_json = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [
        {"timeUnixNano": "1544712660300000000", "severityNumber": 17, "body": {"stringValue": "otlp"}},
        {"body": {"kvlistValue": {"values": [{"key": "a", "value": {"intValue": "1"}}]}}},
    ]}]}]});
    Ok(vec![
        ("/logs", "text/plain; charset=utf-8", b"plain\r\n\nlines\n".into(), 200, vec!["plain", "lines"]),
        ("/logs", "", b"no type".into(), 200, vec!["no type"]),
        (
            // Fluent Bit's output `http` in its format `json_lines`.
            "/logs",
            "application/x-ndjson",
            b"{\"date\":1700000000.123,\"log\":\"bit one\"}\n{\"date\":1700000000.2,\"log\":\"two\"}\n".into(),
            200,
            vec!["bit one", "two"],
        ),
        (
            // Vector's sink `http` with its encoding `json`.
            "/logs",
            "application/json",
            br#"[{"host":"h","message":"vector","source_type":"file","timestamp":"2023-11-14T22:13:20Z"}]"#.into(),
            200,
            vec!["vector"],
        ),
        (
            "/logs",
            "application/logplex-1",
            b"83 <40>1 2012-11-30T06:45:29+00:00 host app web.3 - State changed from starting to up\n".into(),
            200,
            vec!["State changed from starting to up"],
        ),
        ("/v1/logs", "application/json", otlp_json.to_string().into(), 200, vec!["otlp", r#"{"a":1}"#]),
        ("/v1/logs", "application/x-protobuf", OTLP.into(), 200, vec!["from otlp"]),
        (
            "/loki/api/v1/push",
            "application/json",
            br#"{"streams": [{"stream": {"foo": "bar2"}, "values": [["1570818238000000000", "fizzbuzz"]]}]}"#.into(),
            204,
            vec!["fizzbuzz"],
        ),
        ("/loki/api/v1/push", "application/x-protobuf", promtail()?, 204, vec!["from promtail"]),
        (
            "/services/collector/event",
            "application/json",
            br#"{"event": "hello", "time": 1426279439.1}{"event": {"msg": "world"}, "host": "h"}"#.into(),
            200,
            vec!["hello", "world"],
        ),
        ("/services/collector/event/1.0", "", br#"{"event": 1}"#.into(), 200, vec!["1"]),
        ("/services/collector", "", br#"{"event": "short"}"#.into(), 200, vec!["short"]),
        ("/services/collector/raw?host=h&sourcetype=x", "", b"raw 1\nraw 2".into(), 200, vec!["raw 1", "raw 2"]),
        ("/services/collector/raw/1.0?channel=1", "", b"raw 3".into(), 200, vec!["raw 3"]),
    ])
}

#[tokio::test]
async fn what_every_shipper_sends_is_in_the_stream_in_order() -> Result<()> {
    let world = World::new().await?;
    let source = world.app_source().await?;
    let http = Http::start(&world, &[]).await?;
    let mut wanted = Vec::new();
    for (path, kind, body, status, texts) in cases()? {
        let headers = if kind.is_empty() { vec![] } else { vec![("content-type", kind)] };
        let answer = http.post(path, &source, &headers, body).await?.is(status)?;
        match path {
            "/logs" => ensure!(answer.json()?["accepted"] == texts.len(), "{answer:?}"),
            "/v1/logs" => ensure!(answer.kind == kind, "{answer:?}"),
            path if path.starts_with("/services") => {
                ensure!(answer.json()? == json!({"text": "Success", "code": 0}), "{answer:?}");
            }
            _ => {}
        }
        wanted.extend(texts);
        // Answered, so there.
        let found: Vec<_> = world.lines().await?.iter().map(text).collect();
        ensure!(found == wanted, "after {path}: {found:?}");
    }
    let records = world.records().await?;
    ensure!(records.iter().all(|record| record.origin.source == SourceKind::App));
    ensure!(records.iter().all(|record| {
        record.origin.app.as_ref().is_some_and(|app| app.id.uuid() == world.app)
    }));
    let producer = records[0].origin.producer;
    ensure!((0..).zip(&records).all(|(seq, it)| it.seq == seq && it.origin.producer == producer));
    let lines = world.lines().await?;
    let find = |wanted: &str| lines.iter().find(|line| text(line) == wanted);
    let otlp = find("from otlp").context("no line")?;
    ensure!(otlp.severity == Some(Severity::Warning));
    ensure!(otlp.fields.iter().eq([("otel.scope.name", "s"), ("service.name", "mine")]));
    let promtail = find("from promtail").context("no line")?;
    ensure!(promtail.severity == Some(Severity::Error));
    ensure!(promtail.fields.iter().eq([("filename", "/var/log/web.log"), ("job", "web")]));
    let raw = find("raw 2").context("no line")?;
    ensure!(raw.fields.iter().eq([("host", "h"), ("sourcetype", "x")]));
    let bit = find("bit one").context("no line")?;
    ensure!(bit.sent_at.is_some_and(|at| at.nanos() == 1_700_000_000_123_000_000));
    count_until(&world, &source, "lines", wanted.len().try_into()?).await
}

fn gzip(body: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = libdeflater::Compressor::new(libdeflater::CompressionLvl::fastest());
    let mut packed = vec![0; gzip.gzip_compress_bound(body.len())];
    let length = gzip.gzip_compress(body, &mut packed)?;
    packed.truncate(length);
    Ok(packed)
}

#[tokio::test]
async fn every_endpoint_reads_compressed_bodies() -> Result<()> {
    let world = World::new().await?;
    let source = world.app_source().await?;
    let http = Http::start(&world, &[]).await?;
    let mut wanted = Vec::new();
    // Loki's protobuf is compressed in a way of its own.
    let is_plain = |path: &str, kind: &str| !(path.starts_with("/loki") && kind.ends_with("buf"));
    for (path, kind, body, status, texts) in cases()? {
        if !is_plain(path, kind) {
            continue;
        }
        let packed = [("gzip", gzip(&body)?), ("zstd", zstd::encode_all(body.as_slice(), 3)?)];
        for (encoding, packed) in packed {
            let mut headers = vec![("content-encoding", encoding)];
            headers.extend((!kind.is_empty()).then_some(("content-type", kind)));
            http.post(path, &source, &headers, packed).await?.is(status)?;
            wanted.extend_from_slice(&texts);
        }
    }
    let found: Vec<_> = world.lines().await?.iter().map(text).collect();
    ensure!(found == wanted, "{found:?}");
    Ok(())
}

#[tokio::test]
async fn compressed_bodies_are_read_and_sources_of_databases_write_theirs() -> Result<()> {
    let world = World::new().await?;
    let source = world.database_source().await?;
    let http = Http::start(&world, &[]).await?;
    let body = (0..50_000).map(|n| format!("line {n}")).collect::<Vec<_>>().join("\n");
    let packed = gzip(body.as_bytes())?;
    let mut deflate = libdeflater::Compressor::new(libdeflater::CompressionLvl::fastest());
    let mut zlib = vec![0; deflate.zlib_compress_bound(body.len())];
    let length = deflate.zlib_compress(body.as_bytes(), &mut zlib)?;
    zlib.truncate(length);
    let zstd = zstd::encode_all(body.as_bytes(), 3)?;
    for (encoding, packed) in [("gzip", packed), ("zstd", zstd), ("deflate", zlib)] {
        let answer = http.post("/logs", &source, &[("content-encoding", encoding)], packed).await?;
        ensure!(answer.is(200)?.json()?["accepted"] == 50_000);
    }
    let records = world.records().await?;
    ensure!(records.len() == 150_000);
    ensure!(records.iter().all(|record| record.origin.source == SourceKind::Database));
    let lines = world.lines().await?;
    ensure!((0..50_000).all(|n| text(&lines[n + 50_000]) == format!("line {n}")));
    Ok(())
}

#[tokio::test]
async fn bad_lines_are_named_in_every_format_and_the_good_ones_are_kept() -> Result<()> {
    let world = World::new().await?;
    let source = world.app_source().await?;
    let http = Http::start(&world, &[]).await?;
    let ndjson = [("content-type", "application/x-ndjson")];
    let json = [("content-type", "application/json")];
    let answer = http.post("/logs", &source, &ndjson, "{\"msg\":\"1\"}\n{\"msg\n7\n\"2\"").await?;
    let said = answer.is(200)?.json()?;
    ensure!(said["accepted"] == 2 && said["refused_count"] == 2, "{said}");
    ensure!(said["refused"][0]["line"] == 2 && said["refused"][1]["line"] == 3, "{said}");
    let answer = http.post("/logs", &source, &json, "[7, 8]").await?.is(400)?;
    ensure!(answer.kind == "application/problem+json");
    ensure!(answer.json()?["refused"][1]["line"] == 2, "{answer:?}");
    http.post("/logs", &source, &json, "[\"cut off").await?.is(400)?;
    let otlp =
        r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{},{"body":{"stringValue":"3"}}]}]}]}"#;
    let said = http.post("/v1/logs", &source, &json, otlp).await?.is(200)?.json()?;
    ensure!(said["partialSuccess"]["rejectedLogRecords"] == "1", "{said}");
    let loki = r#"{"streams":[{"stream":{},"values":[["now","x"],["1","4"]]}]}"#;
    let said = http.post("/loki/api/v1/push", &source, &json, loki).await?.is(400)?.json()?;
    ensure!(said["accepted"] == 1 && said["refused"][0]["line"] == 1, "{said}");
    let splunk = r#"{"event":"5"}{"time":1}{"event":"6"}"#;
    let said = http.post("/services/collector", &source, &[], splunk).await?.is(400)?.json()?;
    let wanted = json!({"text": "Event field is required", "code": 12, "invalid-event-number": 1});
    ensure!(said == wanted, "{said}");
    let texts: Vec<_> = world.lines().await?.iter().map(text).collect();
    ensure!(texts == ["1", "2", "3", "4", "5", "6"], "{texts:?}");
    count_until(&world, &source, "malformed", 7).await
}

#[tokio::test]
async fn docker_s_splunk_driver_ships_what_containers_print() -> Result<()> {
    let world = World::new().await?;
    let source = world.app_source().await?;
    let http = Http::start(&world, &[]).await?;
    let image = TestImage::Busybox.ensure().await?;
    let token = format!("splunk-token={}", source.token);
    let url = format!("splunk-url={}", http.url);
    for (gzip, round) in [("splunk-gzip=false", "plain"), ("splunk-gzip=true", "gzip")] {
        let print = format!("echo {round} out; echo {round} err >&2");
        let run = docker(&[
            "run",
            "--rm",
            "--network=none",
            "--log-driver=splunk",
            "--log-opt",
            &token,
            "--log-opt",
            &url,
            "--log-opt",
            gzip,
            &image,
            "sh",
            "-c",
            &print,
        ]);
        process::succeed(run, DEADLINE).await?;
    }
    let lines = world.lines_until(4).await?;
    for round in ["plain", "gzip"] {
        for (name, stream) in [("out", OutputStream::Stdout), ("err", OutputStream::Stderr)] {
            let wanted = format!("{round} {name}");
            let line = lines.iter().find(|line| text(line) == wanted);
            let line = line.with_context(|| format!("no {wanted} in {lines:?}"))?;
            ensure!(line.stream == Some(stream) && line.sent_at.is_some(), "{line:?}");
            ensure!(line.fields.iter().map(|(name, _)| name).eq(["tag", "host"]), "{line:?}");
        }
    }
    Ok(())
}
