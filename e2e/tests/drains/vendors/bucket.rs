//! A bucket, against a receiver that checks what the documentation of Amazon S3 asks for, the signature
//! included ("Authenticating Requests: Using the Authorization Header", `PutObject`).

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aws_lc_rs::hmac;
use e2e::https_receiver::{Answer, Received};
use e2e::wait;
use rustix::process::Signal;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::time::sleep;

use super::Vendor;
use crate::ownership::test_line;
use crate::{DEADLINE, World};

const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
const KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const TOKEN: &str = "the-session-token-of-the-test";

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn refused(status: u16, code: &str, message: &str) -> Answer {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>\
         <Message>{message}</Message><RequestId>4442587FB7D0A2F9</RequestId></Error>"
    );
    let headers = vec![("content-type".to_owned(), "application/xml".to_owned())];
    Answer::Body { status, headers, body: body.into() }
}

fn taken() -> Answer {
    let headers = vec![("etag".to_owned(), "\"d41d8cd98f00b204e9800998ecf8427e\"".to_owned())];
    Answer::Status { status: 200, headers, after: Duration::ZERO }
}

/// What a bucket `logs` in `eu-central-1` says of a request: it takes it, or why not.
fn bucket(request: &Received) -> Answer {
    match signature_of(request) {
        _ if request.method != "PUT" => refused(405, "MethodNotAllowed", "not allowed"),
        _ if !request.path.starts_with("/logs/") => refused(404, "NoSuchBucket", "no such bucket"),
        _ if request.header("x-amz-content-sha256") != hash(&request.sent) => {
            refused(400, "XAmzContentSHA256Mismatch", "another hash")
        }
        Ok(signature) if request.header("authorization").ends_with(&signature) => taken(),
        Ok(_) => refused(403, "SignatureDoesNotMatch", "the signature does not match"),
        Err(error) => refused(403, "AccessDenied", &error.to_string()),
    }
}

/// `Signature=...` as it must be.
fn signature_of(request: &Received) -> Result<String> {
    let mut parts = request.header("authorization").split(", ");
    let scope = parts.next().and_then(|part| part.strip_prefix("AWS4-HMAC-SHA256 Credential="));
    let scope = scope.context("no credential")?;
    let signed = parts.next().and_then(|part| part.strip_prefix("SignedHeaders="));
    let signed = signed.context("no signed headers")?;
    let at = request.header("x-amz-date");
    let day = at.get(..8).context("no date")?;
    let scope = scope.strip_prefix(&format!("{KEY_ID}/")).context("another key")?;
    anyhow::ensure!(scope == format!("{day}/eu-central-1/s3/aws4_request"), "{scope}");
    let names: Vec<&str> = signed.split(';').collect();
    // All of Amazon's own, and the host, must be signed.
    let own = request.headers.keys().map(hyper::header::HeaderName::as_str);
    let needed = own.filter(|name| name.starts_with("x-amz-")).chain(["host"]);
    for name in needed {
        anyhow::ensure!(names.contains(&name), "{name} is not signed");
    }
    anyhow::ensure!(names.is_sorted(), "the headers are not in order");
    let headers: Vec<_> =
        names.iter().map(|name| format!("{name}:{}\n", request.header(name).trim())).collect();
    let headers = headers.concat();
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let canonical = format!(
        "{}\n{path}\n{query}\n{headers}\n{signed}\n{}",
        request.method,
        request.header("x-amz-content-sha256")
    );
    let to_sign = format!("AWS4-HMAC-SHA256\n{at}\n{scope}\n{}", hash(canonical.as_bytes()));
    let sign = |key: &[u8], text: &str| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
    };
    let mut key = format!("AWS4{KEY}").into_bytes();
    for part in scope.split('/') {
        key = sign(&key, part);
    }
    Ok(format!("Signature={}", hex(&sign(&key, &to_sign))))
}

fn destination(change: &Value) -> Value {
    let mut destination = json!({ "bucket": "logs", "region": "eu-central-1", "max_seconds": 1 });
    for (name, value) in change.as_object().into_iter().flatten() {
        destination[name] = value.clone();
    }
    destination
}

async fn start(change: Value) -> Result<Vendor> {
    let credentials = json!({ "access_key_id": KEY_ID, "secret_access_key": KEY });
    let vendor = Vendor::start("s3", destination(&change), "", credentials).await?;
    vendor.receiver.answer_by(bucket);
    Ok(vendor)
}

/// Bytes of an object before its compression with gzip (RFC 1952, section 2.3.1).
fn length(object: &Received) -> usize {
    object.sent.last_chunk().map_or(0, |&tail| u32::from_le_bytes(tail) as usize)
}

/// The lines of an object, which is compressed as its name says.
fn lines(object: &Received) -> Result<Vec<Value>> {
    let body = if object.path.ends_with(".jsonl.gz") {
        let mut body = vec![0; length(object)];
        libdeflater::Decompressor::new().gzip_decompress(&object.sent, &mut body)?;
        body
    } else {
        assert!(object.path.ends_with(".jsonl.zst"), "{}", object.path);
        zstd::bulk::decompress(&object.sent, 64 << 20)?
    };
    let lines = body.split_inclusive(|&byte| byte == b'\n');
    lines.map(|line| Ok(serde_json::from_slice(line)?)).collect()
}

#[tokio::test]
async fn an_object_is_signed_and_the_same_when_it_is_sent_again() -> Result<()> {
    let change = json!({
        "prefix": "spillway/env=production", "storage_class": "STANDARD_IA",
        "encryption": "aws:kms", "kms_key_id": "arn:aws:kms:eu-central-1:111122223333:key/1234"
    });
    let credentials =
        json!({ "access_key_id": KEY_ID, "secret_access_key": KEY, "session_token": TOKEN });
    let mut vendor = Vendor::start("s3", destination(&change), "", credentials).await?;
    let mut first = true;
    vendor.receiver.answer_by(move |request| {
        let answer = bucket(request);
        if std::mem::take(&mut first) {
            return refused(503, "SlowDown", "Please reduce your request rate.");
        }
        answer
    });
    vendor.session().await?;
    vendor.delivered(101, 0).await?;
    let requests = vendor.receiver.requests();
    let [refused, object] = requests.as_slice() else { panic!("{} requests", requests.len()) };
    assert_eq!((&refused.path, &refused.sent), (&object.path, &object.sent));
    assert_eq!(object.header("host"), format!("localhost:{}", vendor.receiver.address().port()));
    assert_eq!(object.header("content-type"), "application/gzip");
    assert_eq!(object.header("content-encoding"), "");
    assert_eq!(object.header("x-amz-security-token"), TOKEN);
    assert_eq!(object.header("x-amz-storage-class"), "STANDARD_IA");
    assert_eq!(object.header("x-amz-server-side-encryption"), "aws:kms");
    assert!(
        object.header("x-amz-server-side-encryption-aws-kms-key-id").ends_with("key/1234"),
        "{:?}",
        object.headers
    );
    let lines = lines(object)?;
    assert_eq!(lines.len(), 101);
    assert_eq!(lines[0]["message"], "line 0 of the session");
    assert_eq!(lines[0]["user_email"], "ada@example.com");
    // By the first line's time, such as 2026-11-27T20:50:32.123456789Z.
    let at = lines[0]["time"].as_str().context("no time")?;
    let folder = at.get(..13).context("a short time")?.replace(['-', 'T'], "/");
    let second = at.get(..19).context("a short time")?.replace(['-', ':'], "");
    let begins = format!("/logs/spillway/env%3Dproduction/{folder}/{second}.");
    assert!(object.path.starts_with(&begins), "{} is not {begins}", object.path);
    Ok(())
}

#[tokio::test]
async fn lines_are_gathered_and_a_test_is_sent_at_once() -> Result<()> {
    let change = json!({ "compression": "zstd", "max_seconds": 4 });
    let mut vendor = start(change).await?;
    let begun = Instant::now();
    for numbers in [0..10, 10..20] {
        let lines = vendor.session.numbered(numbers);
        vendor.world.append(&[lines]).await?;
        sleep(Duration::from_millis(300)).await;
    }
    let (ok, steps) = test_line(&vendor.world, vendor.drain.uuid()).await?;
    assert!(ok, "{steps}");
    let test = vendor.receiver.take_requests();
    assert!(test.len() == 1 && lines(&test[0])?[0]["event"] == "test");
    // That was quick, so nothing of the session can have been due.
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(vendor.world.state(vendor.drain).await?.delivered, 0);
    vendor.delivered(20, 0).await?;
    assert!(begun.elapsed() >= Duration::from_secs(4), "{:?}", begun.elapsed());
    let requests = vendor.receiver.requests();
    assert!(requests.len() == 1 && lines(&requests[0])?.len() == 20);
    Ok(())
}

#[tokio::test]
async fn full_objects_wait_for_nothing_and_a_worker_that_stops_waits_for_no_line() -> Result<()> {
    let mut vendor = start(json!({ "max_seconds": 900, "max_bytes": 65536 })).await?;
    let all = vendor.session.numbered(0..2_000);
    vendor.world.append(&[all]).await?;
    // What the bucket has: an object that comes again replaces itself.
    let objects = || -> Result<Vec<Value>> {
        let objects = vendor.receiver.requests().into_iter();
        let objects: BTreeMap<_, _> = objects.map(|it| (it.path.clone(), it)).collect();
        assert!(objects.values().all(|object| length(object) <= 65_536));
        Ok(objects.values().map(lines).collect::<Result<Vec<_>>>()?.concat())
    };
    wait::until_true("most lines", DEADLINE, async || Ok(objects()?.len() > 1_800)).await?;
    assert!(objects()?.len() < 2_000, "the last object is not full");
    let begun = Instant::now();
    vendor.worker.stop(Signal::TERM, DEADLINE).await?;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());

    let mut changed = destination(&json!({ "max_seconds": 1, "max_bytes": 65536 }));
    changed["endpoint"] = format!("https://localhost:{}", vendor.receiver.address().port()).into();
    changed["ca_certificates"] = vendor.receiver.authority().into();
    vendor.world.change(vendor.drain, &format!("destination = '{changed}'")).await?;
    let _worker = vendor.world.worker()?;
    wait::until_true("all lines", DEADLINE, async || Ok(objects()?.len() >= 2_000)).await?;
    let offsets: Vec<_> = objects()?.iter().map(|line| line["offset"].as_u64()).collect();
    assert_eq!(offsets.len(), 2_000);
    assert_eq!(offsets.iter().collect::<HashSet<_>>().len(), 2_000);
    Ok(())
}

#[tokio::test]
async fn a_refusal_parks_the_drain_in_words_and_quotes_no_key() -> Result<()> {
    let mut vendor = start(json!({})).await?;
    vendor.receiver.answer_by(|_| {
        refused(403, "AccessDenied", &format!("{KEY_ID} may not put, though it has {KEY}"))
    });
    vendor.session().await?;
    vendor
        .failing(
            "403 Forbidden (AccessDenied: *** may not put, though it has ***): allow the access \
             key s3:PutObject on the bucket",
        )
        .await?;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(vendor.receiver.requests().len(), 1, "it is not tried again soon");
    Ok(())
}

#[tokio::test]
async fn a_wrong_key_parks_the_drain() -> Result<()> {
    let credentials = json!({ "access_key_id": KEY_ID, "secret_access_key": "another" });
    let mut vendor = Vendor::start("s3", destination(&json!({})), "", credentials).await?;
    vendor.receiver.answer_by(bucket);
    vendor.session().await?;
    vendor.failing("SignatureDoesNotMatch").await
}

#[tokio::test]
async fn a_bucket_at_a_private_address_is_refused_at_once() -> Result<()> {
    let world = World::new().await?;
    let mut own = destination(&json!({}));
    own["endpoint"] = "https://127.0.0.1:9".into();
    let credentials = json!({ "access_key_id": KEY_ID, "secret_access_key": KEY });
    let drain = world.drain("s3", own, credentials).await?;
    let _worker = world.worker_with(&[])?;
    let (ok, steps) = test_line(&world, drain.uuid()).await?;
    assert!(!ok && steps[0]["ok"] == json!(false), "{steps}");
    assert!(steps.to_string().contains("--drain-allow-network"), "{steps}");
    let mut session = world.session();
    world.append(&[session.numbered(0..10)]).await?;
    let state = world.state_until(drain, "the refusal", |state| state.failing).await?;
    assert!(state.error.contains("--drain-allow-network"), "{}", state.error);
    Ok(())
}
