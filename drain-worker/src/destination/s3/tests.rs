use std::sync::Arc;

use destinations::{BodyFormat, Kind};
use model::Timestamp;
use serde_json::json;

use super::*;
use crate::batch::Batcher;
use crate::encode::tests::origin;
use crate::lines::{Extras, Line};
use crate::room::{Room, Share};

fn config(json: Value) -> Config {
    let kept = Kind::S3.checked(json).unwrap();
    match destinations::Destination::from_kept(Kind::S3, kept).unwrap() {
        destinations::Destination::S3(config) => config,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_object_is_named_by_its_first_line_and_its_bytes() {
    let origin = origin();
    let batch = || {
        let encoder = Box::new(JsonEncoder::new(BodyFormat::JsonLines, Keys::Spillway));
        let share = Arc::new(Share::new(Room::default(), 1 << 20, 0));
        let mut batcher = Batcher::new(usize::MAX, share, None, encoder);
        for seq in 0..2 {
            let at = Timestamp::from_nanos(1_700_000_000_000_000_789 + seq * 1_000_000_000);
            let message = b"a".as_slice();
            batcher.add(&Line {
                origin: &origin,
                seq,
                at,
                event: "line",
                span: None,
                message,
                extras: Extras::default(),
            });
        }
        batcher.take(true).unwrap()
    };
    let id = batch().id();
    let expected = format!("a/b=c/2023/11/14/22/20231114T221320.000000789Z-{id}.jsonl.gz");
    assert_eq!(name("a/b=c", &batch(), "jsonl.gz"), expected);
    let expected = format!("2023/11/14/22/20231114T221320.000000789Z-{id}.jsonl");
    assert_eq!(name("", &batch(), "jsonl"), expected);
    for compression in [Compression::Gzip, Compression::Zstd] {
        let again = || pack(compression, batch().bytes()).unwrap();
        assert_eq!(again(), again());
    }
}

#[test]
fn the_bucket_is_in_the_host_unless_the_certificate_would_not_fit() {
    let address = |json: Value| config(json).address();
    let amazon = json!({"bucket": "logs", "region": "eu-central-1"});
    assert_eq!(address(amazon), "https://logs.s3.eu-central-1.amazonaws.com");
    let dotted = json!({"bucket": "logs.example.com", "region": "eu-central-1"});
    assert_eq!(address(dotted), "https://s3.eu-central-1.amazonaws.com/logs.example.com");
    let own = json!({"bucket": "logs", "region": "auto", "endpoint": "https://minio.example.com/"});
    assert_eq!(address(own), "https://minio.example.com/logs");
}

#[tokio::test]
async fn amazon_gets_a_checksum_and_what_cannot_be_sent_is_not_tried_again() {
    let credentials = json!({"access_key_id": "AKIA1", "secret_access_key": "key"});
    let credentials: Credentials = serde_json::from_value(credentials).unwrap();
    let config =
        config(json!({"bucket": "logs", "region": "eu-central-1", "encryption": "AES256"}));
    let (store, mut requests) = store(&config, &credentials).unwrap();
    let path = Path::parse("a/b=c").unwrap();
    let begun = Instant::now();
    let put = store.put_opts(&path, PutPayload::from_static(b"abc"), PutOptions::default());
    let refuse = async {
        let Exchange { request, reply } = requests.recv().await.unwrap();
        reply.answer(None);
        request
    };
    let (put, request) = futures_util::join!(put, refuse);
    assert!(put.is_err() && requests.try_recv().is_err());
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let header = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(request.uri(), "https://logs.s3.eu-central-1.amazonaws.com/a/b%3Dc");
    // As `printf abc | openssl sha256 -binary | base64` says.
    assert_eq!(header("x-amz-checksum-sha256"), "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
    assert_eq!(header("x-amz-server-side-encryption"), "AES256");
    assert!(header("authorization").starts_with("AWS4-HMAC-SHA256 Credential=AKIA1/"));
}

#[test]
fn answers_mean_what_the_error_codes_say() {
    let remedy = |status, code| meaning(status, code).0;
    for (status, code) in [(503, "SlowDown"), (429, ""), (500, "InternalError"), (400, "BadDigest")]
    {
        assert_eq!(remedy(status, code), Remedy::Retry(None), "{status} {code}");
    }
    for (status, code) in [
        (403, "AccessDenied"),
        (403, "SignatureDoesNotMatch"),
        (404, "NoSuchBucket"),
        (301, "PermanentRedirect"),
        (400, "InvalidStorageClass"),
        (400, "KMS.DisabledException"),
        (501, "NotImplemented"),
        (404, ""),
    ] {
        assert_eq!(remedy(status, code), Remedy::Park, "{status} {code}");
    }
    assert_eq!(remedy(400, "EntityTooLarge"), Remedy::Halve);
    let xml =
        "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>Reduce</Message></Error>";
    assert_eq!((element(xml, "Code"), element(xml, "Message")), ("SlowDown", "Reduce"));
    assert_eq!((element("nothing", "Code"), element("<Code>open", "Code")), ("", ""));
}
