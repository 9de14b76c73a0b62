use std::collections::BTreeMap;

use model::Secret;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn fields(kind: Kind, destination: Value) -> Vec<String> {
    let errors = kind.checked(destination).err().unwrap_or_default();
    errors.into_iter().map(|error| error.field).collect()
}

fn credentials(json: Value) -> Credentials {
    serde_json::from_value(json).unwrap()
}

fn refused(kind: Kind, json: Value) -> Vec<String> {
    let errors = credentials(json).checked(kind).err().unwrap_or_default();
    errors.into_iter().map(|error| error.field).collect()
}

#[test]
fn every_wrong_field_of_a_destination_is_named() {
    let syslog = json!({"host": "a b", "port": 0, "server_name": "-", "ca_certificates": "x"});
    assert_eq!(
        fields(Kind::SyslogTlsTcp, syslog),
        ["host", "port", "server_name", "ca_certificates"]
            .map(|field| format!("destination.{field}"))
    );
    let too_big = json!({"host": "a", "port": 65536});
    assert_eq!(fields(Kind::SyslogTlsTcp, too_big), ["destination.port"]);
    assert_eq!(fields(Kind::HttpsPost, json!({"host": "a"})).len(), 1);
    for url in ["http://a/", "https://u@a/", "https://u:p@a/", "https://a/#b", "a", "https://a:0/"]
    {
        assert_eq!(fields(Kind::HttpsPost, json!({"url": url})), ["destination.url"], "{url}");
    }
    let logplex = json!({"url": "https://a/", "format": "logplex", "keys": "aptible"});
    assert_eq!(fields(Kind::HttpsPost, logplex), ["destination.keys", "destination.compression"]);
    for (kind, wrong, field) in [
        (Kind::Datadog, json!({"site": "a/b"}), "site"),
        (Kind::Datadog, json!({"site": "::1"}), "site"),
        (Kind::Datadog, json!({"tags": ["a,b"]}), "tags"),
        (Kind::SplunkHec, json!({"url": "https://a/?token=x"}), "url"),
        (Kind::Elasticsearch, json!({"url": "https://a", "index": "A/../b"}), "index"),
        (Kind::Loki, json!({"url": "https://a", "tenant": "a|b"}), "tenant"),
        (Kind::Loki, json!({"url": "https://a", "labels": {"__a": "b"}}), "labels.__a"),
        (Kind::SumoLogic, json!({"category": "a\nb"}), "category"),
        (Kind::LogDna, json!({"hostname": ""}), "hostname"),
        (Kind::Papertrail, json!({"host": "a", "port": 0}), "port"),
        (Kind::S3, json!({"bucket": "A_b", "region": "a"}), "bucket"),
        (Kind::S3, json!({"bucket": "a..b", "region": "a"}), "bucket"),
        (Kind::S3, json!({"bucket": "abc", "region": "evil.example.com/"}), "region"),
        (Kind::S3, json!({"bucket": "abc", "region": "a", "endpoint": "http://a"}), "endpoint"),
        (Kind::S3, json!({"bucket": "abc", "region": "a", "prefix": "/a"}), "prefix"),
        (Kind::S3, json!({"bucket": "abc", "region": "a", "prefix": "a/../b"}), "prefix"),
        (
            Kind::S3,
            json!({"bucket": "abc", "region": "a", "storage_class": "a b"}),
            "storage_class",
        ),
        (Kind::S3, json!({"bucket": "abc", "region": "a", "kms_key_id": "k"}), "kms_key_id"),
        (Kind::S3, json!({"bucket": "abc", "region": "a", "encryption": "rot13"}), "encryption"),
        (Kind::S3, json!({"bucket": "abc", "region": "a", "max_seconds": 0}), "max_seconds"),
        (Kind::S3, json!({"bucket": "abc", "region": "a", "max_bytes": 1024}), "max_bytes"),
        (Kind::Webhook, json!({"url": "http://a"}), "url"),
    ] {
        assert_eq!(fields(kind, wrong), [format!("destination.{field}")]);
    }
}

#[test]
fn a_destination_is_kept_with_its_defaults_and_read_again() {
    let kept = Kind::HttpsPost.checked(json!({"url": "https://A.example.com:443/x"})).unwrap();
    let expected = json!({
        "url": "https://a.example.com/x", "format": "json_lines", "keys": "spillway",
        "compression": "gzip", "ca_certificates": null
    });
    assert_eq!(kept, expected);
    assert!(matches!(
        Destination::from_kept(Kind::HttpsPost, kept),
        Ok(Destination::HttpsPost(HttpsPost { format: BodyFormat::JsonLines, .. }))
    ));
    // As it was kept before there were framings and tokens.
    let old = json!({"host": "a", "port": 1, "server_name": null, "ca_certificates": null});
    assert!(Destination::from_kept(Kind::SyslogTlsTcp, old).is_ok());
    let loki = Kind::Loki.checked(json!({"url": "https://a.example.com/proxy/"})).unwrap();
    assert_eq!(loki["url"], "https://a.example.com/proxy");
}

#[test]
fn a_kind_has_one_name_and_takes_others() {
    for &kind in Kind::ALL {
        assert_eq!(Kind::from_kept(kind.as_str()), Some(kind));
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
    }
    assert_eq!(serde_json::from_value::<Kind>(json!("https")).unwrap(), Kind::HttpsPost);
    for alias in ["elasticsearch_database", "opensearch"] {
        assert_eq!(serde_json::from_value::<Kind>(json!(alias)).unwrap(), Kind::Elasticsearch);
    }
    assert_eq!(Kind::from_kept("opensearch"), None);
}

#[test]
fn credentials_are_those_of_the_kind() {
    assert_eq!(refused(Kind::Datadog, json!({})), ["credentials.token"]);
    assert_eq!(refused(Kind::Papertrail, json!({"token": "x"})), ["credentials.token"]);
    assert_eq!(refused(Kind::SyslogTlsTcp, json!({"token": "a][b"})), ["credentials.token"]);
    assert!(refused(Kind::SyslogTlsTcp, json!({"token": "logdna@48950 key=\"x\""})).is_empty());
    assert_eq!(refused(Kind::SumoLogic, json!({"url": "http://a"})), ["credentials.url"]);
    assert_eq!(
        refused(Kind::Slack, json!({"url": "https://a", "token": "b"})),
        ["credentials.token"]
    );
    assert_eq!(
        refused(Kind::S3, json!({"access_key_id": "a b", "session_token": "c"})),
        ["credentials.secret_access_key", "credentials.access_key_id"]
    );
    assert_eq!(refused(Kind::Loki, json!({"username": "a"})), ["credentials.password"]);
    assert_eq!(
        refused(Kind::Loki, json!({"username": "a", "password": "b", "token": "c"})),
        ["credentials.token"]
    );
    assert_eq!(
        refused(Kind::HttpsPost, json!({"signing_secret": "x"})),
        ["credentials.signing_secret"]
    );
    let both = json!({"token": "x", "headers": {"Authorization": "y"}});
    assert_eq!(refused(Kind::HttpsPost, both), ["credentials.headers.Authorization"]);
    assert!(credentials(json!({})).checked(Kind::HttpsPost).unwrap().is_none());
    let kept = credentials(json!({"token": "x", "headers": {"A": "b"}})).checked(Kind::HttpsPost);
    let kept = kept.unwrap().unwrap();
    let kept: Value = serde_json::from_slice(kept.expose()).unwrap();
    assert_eq!(kept, json!({"token": "x", "headers": {"A": "b"}}));
}

#[test]
fn the_server_is_the_host_and_the_port() {
    let url = |url: &str| json!({"url": url});
    let same = |kind: Kind, one: &Value, other: &Value| kind.is_same_server(one, other);
    assert!(same(Kind::HttpsPost, &url("https://a/x"), &url("https://A:443/y")));
    assert!(!same(Kind::HttpsPost, &url("https://a/"), &url("https://a:444/")));
    assert!(!same(Kind::Datadog, &json!({"site": "a"}), &json!({"site": "b"})));
    let s3 = |bucket: &str, region: &str| json!({"bucket": bucket, "region": region});
    assert!(same(Kind::S3, &s3("abc", "eu-central-1"), &s3("def", "eu-central-1")));
    let own = json!({"bucket": "abc", "region": "eu-central-1", "endpoint": "https://a"});
    assert!(!same(Kind::S3, &s3("abc", "eu-central-1"), &own));
    let papertrail = |port: u16| json!({"host": "a", "port": port});
    assert!(!same(Kind::Papertrail, &papertrail(1), &papertrail(2)));
}

proptest! {
    #[test]
    fn accepted_headers_cannot_break_a_request(name in "\\PC{0,20}", value in ".{0,40}") {
        let headers = BTreeMap::from([(name.clone(), Secret::new(value.clone()))]);
        let credentials = Credentials { headers, ..Credentials::default() };
        if credentials.checked(Kind::HttpsPost).is_ok() {
            prop_assert!(!name.contains([':', '\r', '\n', ' ']) && !name.is_empty());
            prop_assert!(!value.contains(['\r', '\n', '\0']));
        }
    }
}

#[test]
fn headers_that_frame_the_request_are_refused() {
    for name in ["Host", "content-length", "Transfer-Encoding", "Connection", "Content-Type"] {
        assert_eq!(
            refused(Kind::HttpsPost, json!({"headers": {name: "x"}})),
            [format!("credentials.headers.{name}")]
        );
    }
}
