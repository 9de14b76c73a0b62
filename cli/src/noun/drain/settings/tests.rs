use super::*;
use clap::Parser;

#[derive(Debug, Parser)]
struct CreateLine {
    #[command(subcommand)]
    create: Create,
}

#[derive(Debug, Parser)]
struct UpdateLine {
    #[command(flatten)]
    update: Changes,
}

fn created(line: &str) -> Result<Value> {
    let words = std::iter::once("create").chain(line.split('|'));
    Ok(CreateLine::try_parse_from(words)?.create.body()?.1)
}

fn updated(line: &str, current: &Value) -> Result<Value> {
    let words = std::iter::once("update").chain(line.split('|'));
    UpdateLine::try_parse_from(words)?.update.body(current)
}

#[test]
fn drain_takes_every_source_unless_told_otherwise() {
    let body = created("syslog|main|--host|logs.example.com|--databases=false").unwrap();
    assert_eq!(
        body,
        json!({
            "handle": "main", "kind": "syslog_tls_tcp",
            "destination": {
                "host": "logs.example.com", "port": 6514, "server_name": null, "framing": "octet_counting",
                "token": "prefix", "ca_certificates": null
            },
            "drain_apps": true, "drain_databases": false, "drain_ephemeral_sessions": true,
            "drain_activity": true,
        })
    );
}

#[test]
fn headers_of_https_are_credentials() {
    let body =
        created("https|x|--url|https://a/|--format|json-array|--header|Authorization: Bearer a:b");
    let body = body.unwrap();
    assert_eq!(body["credentials"], json!({ "headers": { "Authorization": "Bearer a:b" } }));
    assert_eq!(body["destination"]["format"], "json_array");
    let error = created("https|x|--url|https://a/|--header|hunter2").unwrap_err().to_string();
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn update_changes_only_what_is_given() {
    let current = json!({ "kind": "syslog_tls_tcp",
        "destination": { "host": "a", "port": 1, "server_name": "s", "ca_certificates": null } });
    assert_eq!(
        updated("--sessions=false", &current).unwrap(),
        json!({ "drain_ephemeral_sessions": false })
    );
    let body = updated("--port|2|--server-name|", &current).unwrap();
    assert_eq!(
        body,
        json!({
        "destination": { "host": "a", "port": 2, "server_name": null, "ca_certificates": null } })
    );
    let error = updated("--url|https://x", &current).unwrap_err().to_string();
    assert_eq!(error, "a drain of the kind syslog_tls_tcp has no url");
}

#[test]
fn secrets_come_from_files_and_other_fields_by_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "abc\n").unwrap();
    let file = file.display();
    let body = created(&format!("datadog|dd|--site|datadoghq.eu|--tag|a:b|--token-file|{file}"));
    let body = body.unwrap();
    assert_eq!(
        (&body["kind"], &body["credentials"]),
        (&json!("datadog"), &json!({ "token": "abc" }))
    );
    assert_eq!(body["destination"]["tags"], json!(["a:b"]));

    let current = json!({ "kind": "datadog", "destination": { "site": "a", "tags": [] } });
    let body = updated("--set|site=123|--set|tags=[\"c\"]", &current).unwrap();
    assert_eq!(body, json!({ "destination": { "site": "123", "tags": ["c"] } }));
}

#[test]
fn options_of_lines_are_added_to_those_that_a_drain_has() {
    let body = created(
        "syslog|x|--host|a|--only-app|web|--only-app|api|--redact|\\d+ => n|--redact|b|--field|team=pay|--parse-json|--only-tag|id|--only-tag|user_email",
    );
    assert_eq!(
        body.unwrap()["options"],
        json!({
            "apps": { "include": ["web", "api"] }, "parse_json": true,
            "static_fields": { "team": "pay" }, "tags": ["id", "user_email"],
            "redactions": [{ "pattern": "\\d+", "replacement": "n" }, { "pattern": "b" }],
        })
    );
    let current = json!({ "options": { "apps": { "include": ["x"] }, "parse_json": true } });
    let body = updated(
        "--only-app||--minimum-severity|error|--except-database|main|--only-tag|",
        &current,
    );
    assert_eq!(
        body.unwrap(),
        json!({ "options": {
            "apps": null, "parse_json": true, "minimum_severity": "error", "tags": null,
            "databases": { "exclude": ["main"] },
        } })
    );
    let body = updated("--sessions", &current).unwrap();
    assert_eq!(body, json!({ "drain_ephemeral_sessions": true }));
}

#[test]
fn a_bucket_is_told_its_access_key_and_nothing_that_was_not_given() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "abc\n").unwrap();
    let key = format!("--access-key-id|AKIA1|--secret-access-key-file|{}", file.display());
    let body = created(&format!("s3|archive|--bucket|logs|--region|eu-central-1|{key}")).unwrap();
    assert_eq!(
        body["credentials"],
        json!({ "access_key_id": "AKIA1", "secret_access_key": "abc" })
    );
    let destination = json!({
        "bucket": "logs", "region": "eu-central-1", "endpoint": null, "prefix": "",
        "compression": "gzip", "storage_class": null, "encryption": null, "kms_key_id": null,
        "max_seconds": 60, "max_bytes": 8_388_608, "ca_certificates": null
    });
    assert_eq!(body["destination"], destination);
    assert!(created("s3|archive|--bucket|logs|--region|a|--access-key-id|AKIA1").is_err());

    let current = json!({ "kind": "s3", "destination": { "prefix": "", "compression": "gzip" } });
    let body = updated(&format!("--compression|zstd|--set|prefix=a/b|{key}"), &current).unwrap();
    assert_eq!(body["destination"], json!({ "prefix": "a/b", "compression": "zstd" }));
    assert_eq!(body["credentials"]["access_key_id"], "AKIA1");
}

#[test]
fn every_kind_of_the_api_can_be_created() {
    let names = [
        SyslogDestination::KIND,
        HttpsDestination::KIND,
        DatadogDestination::KIND,
        SplunkDestination::KIND,
        ElasticsearchDestination::KIND,
        LokiDestination::KIND,
        OtlpDestination::KIND,
        SumoLogicDestination::KIND,
        MezmoDestination::KIND,
        PapertrailDestination::KIND,
        SolarWindsDestination::KIND,
        InsightOpsDestination::KIND,
        S3Destination::KIND,
        SlackDestination::KIND,
        WebhookDestination::KIND,
    ];
    assert_eq!(
        names.to_vec(),
        ::destinations::Kind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>()
    );
}
