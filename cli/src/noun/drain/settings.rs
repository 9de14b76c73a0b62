//! What a log drain can be told, as the API takes it.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Name;
use crate::prompt::file_text;

mod bucket;
mod destinations;
mod events;
mod lines;

use bucket::{BucketKey, S3Destination};
use destinations::{
    DatadogDestination, Destination, ElasticsearchDestination, HttpsDestination,
    InsightOpsDestination, LokiDestination, MezmoDestination, OtlpDestination,
    PapertrailDestination, SignIn, SolarWindsDestination, SplunkDestination, SumoLogicDestination,
    SyslogDestination,
};
use events::{SlackDestination, WebhookDestination};
use lines::LineOptions;
pub(crate) use lines::resolve;

#[derive(Debug, Subcommand)]
pub(crate) enum Create {
    /// Syslog (RFC 5424) over TLS (RFC 5425).
    Syslog(New<SyslogDestination>),
    /// Batches by HTTPS POST to a server of your own.
    Https(New<HttpsDestination>),
    /// Datadog.
    Datadog(New<DatadogDestination>),
    /// Splunk's HTTP Event Collector.
    Splunk(New<SplunkDestination>),
    /// Elasticsearch or OpenSearch.
    #[command(alias = "opensearch")]
    Elasticsearch(New<ElasticsearchDestination>),
    /// Grafana Loki.
    Loki(New<LokiDestination>),
    /// An OpenTelemetry receiver (OTLP over HTTP).
    Otlp(New<OtlpDestination>),
    /// Sumo Logic's HTTP source.
    Sumologic(New<SumoLogicDestination>),
    /// Mezmo, formerly LogDNA.
    #[command(alias = "logdna")]
    Mezmo(New<MezmoDestination>),
    /// Papertrail.
    Papertrail(New<PapertrailDestination>),
    /// SolarWinds Observability.
    Solarwinds(New<SolarWindsDestination>),
    /// Rapid7 InsightOps, formerly Logentries.
    Insightops(New<InsightOpsDestination>),
    /// Objects in a bucket of Amazon S3 or of a server like it (MinIO, R2, Ceph).
    S3(New<S3Destination>),
    /// Messages in a channel of Slack; events only, no output.
    Slack(New<SlackDestination>),
    /// An HTTPS POST for each event to a server of your own; events only, no output.
    Webhook(New<WebhookDestination>),
}

/// A drain to create.
#[derive(Debug, Args)]
pub(crate) struct New<D: Args> {
    #[command(flatten)]
    name: Name,
    #[command(flatten)]
    destination: D,
    /// The certificate authorities to trust, in PEM, instead of the system's.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<String>,
    #[command(flatten)]
    identity: Identity,
    #[command(flatten)]
    options: Options,
}

/// What is shown to receivers that want a client certificate; kept sealed.
#[derive(Debug, Args)]
pub(crate) struct Identity {
    /// A client certificate for TLS, in PEM (not for every kind).
    #[arg(long, value_name = "FILE", requires = "client_key_file")]
    client_certificate_file: Option<String>,
    /// Its private key, in PEM.
    #[arg(long, value_name = "FILE", requires = "client_certificate_file")]
    client_key_file: Option<String>,
}

impl Identity {
    fn read(self) -> Result<Map<String, Value>> {
        secrets([
            ("client_certificate", self.client_certificate_file),
            ("client_key", self.client_key_file),
        ])
    }
}

/// What requests are signed with; kept sealed.
#[derive(Debug, Args)]
pub(crate) struct Signing {
    /// A file with the secret that requests are signed with (Standard Webhooks, `whsec_...`; HTTPS and
    /// webhook); - for standard input.
    #[arg(long, value_name = "FILE")]
    signing_secret_file: Option<String>,
}

impl Signing {
    fn read(self) -> Result<Map<String, Value>> {
        secrets([("signing_secret", self.signing_secret_file)])
    }
}

/// Headers of every request; all are kept sealed.
#[derive(Debug, Args)]
pub(crate) struct Headers {
    /// A header of every request, 'NAME: VALUE'; may be repeated. Others on this machine can see
    /// the command line: for tokens, use --header-file.
    #[arg(long, value_name = "HEADER")]
    header: Vec<String>,
    /// A file of headers, one 'NAME: VALUE' on each line; - for standard input.
    #[arg(long, value_name = "FILE")]
    header_file: Option<String>,
}

/// What a drain of any kind can be told.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Whether it takes the logs of apps; a new drain does, unless told =false.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    apps: Option<bool>,
    /// Whether it takes the logs of databases; a new drain does, unless told =false.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    databases: Option<bool>,
    /// Whether it takes ephemeral sessions; a new drain does, unless told =false.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sessions: Option<bool>,
    /// Whether it takes what users and the platform do in the environment; a new drain does, unless told =false.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    activity: Option<bool>,
    /// What becomes of terminal control sequences in lines.
    #[arg(long, value_parser = ["keep", "strip"])]
    control_sequences: Option<String>,
    /// Which redraws of a line (progress bars) are sent: each, or the last.
    #[arg(long, value_parser = ["keep", "last"])]
    redraws: Option<String>,
    #[command(flatten)]
    lines: LineOptions,
}

/// What of a drain can be changed.
#[derive(Debug, Args)]
pub(crate) struct Changes {
    /// A new handle.
    #[arg(long = "handle", value_name = "HANDLE")]
    new_handle: Option<String>,
    /// The receiver's host name or address (syslog).
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// The receiver's port (syslog).
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// The name that the receiver's certificate must have (syslog); empty: the host.
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// The receiver's address (HTTPS, webhook).
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// What a batch looks like (HTTPS).
    #[arg(long, value_parser = ["json-lines", "json-array", "logplex"])]
    format: Option<String>,
    /// How a batch is compressed (HTTPS, S3).
    #[arg(long, value_parser = ["gzip", "zstd", "none"])]
    compression: Option<String>,
    /// Another field of the destination, as `drain show` calls it, and its value, as text or JSON: site=datadoghq.eu,
    /// tags=null; may be repeated.
    #[arg(long, value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// The certificate authorities to trust, in PEM; empty: the system's.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<String>,
    #[command(flatten)]
    headers: Headers,
    #[command(flatten)]
    sign_in: SignIn,
    #[command(flatten)]
    access_key: BucketKey,
    #[command(flatten)]
    identity: Identity,
    #[command(flatten)]
    signing: Signing,
    /// A file with the address that is a secret (Sumo Logic, Slack); - for standard input.
    #[arg(long, value_name = "FILE")]
    url_file: Option<String>,
    /// Send no credentials any more. (New ones replace all of the old ones.)
    #[arg(long, alias = "remove-headers", conflicts_with_all = ["header", "header_file", "token_file", "username", "signing_secret_file", "url_file", "access_key_id", "client_certificate_file"])]
    remove_credentials: bool,
    #[command(flatten)]
    options: Options,
}

impl Create {
    /// The drain's name, and the API's request for it.
    pub(crate) fn body(self) -> Result<(Name, Value)> {
        match self {
            Self::Syslog(new) => new.body(),
            Self::Https(new) => new.body(),
            Self::Datadog(new) => new.body(),
            Self::Splunk(new) => new.body(),
            Self::Elasticsearch(new) => new.body(),
            Self::Loki(new) => new.body(),
            Self::Otlp(new) => new.body(),
            Self::Sumologic(new) => new.body(),
            Self::Mezmo(new) => new.body(),
            Self::Papertrail(new) => new.body(),
            Self::Solarwinds(new) => new.body(),
            Self::Insightops(new) => new.body(),
            Self::S3(new) => new.body(),
            Self::Slack(new) => new.body(),
            Self::Webhook(new) => new.body(),
        }
    }
}

impl<D: Destination> New<D> {
    fn body(self) -> Result<(Name, Value)> {
        let (mut destination, mut credentials) = self.destination.parts()?;
        credentials.extend(self.identity.read()?);
        let certificates = ca_certificates(self.ca_file.as_deref())?;
        insert(&mut destination, "ca_certificates", certificates.into());
        // A drain takes everything unless told otherwise: a log that is missed is missed for good.
        let mut body = json!({
            "handle": self.name.handle,
            "kind": D::KIND,
            "destination": destination,
            "drain_apps": true,
            "drain_databases": true,
            "drain_ephemeral_sessions": true,
            "drain_activity": true,
        });
        if !credentials.is_empty() {
            insert(&mut body, "credentials", credentials.into());
        }
        self.options.insert_into(&mut body, &Value::Null)?;
        Ok((self.name, body))
    }
}

impl Changes {
    /// The API's request. A destination is replaced whole, so it begins with the current one.
    pub(crate) fn body(self, current: &Value) -> Result<Value> {
        let mut destination = current.get("destination").cloned().unwrap_or_else(|| json!({}));
        let before = destination.clone();
        let empty_is_null = |text: String| if text.is_empty() { Value::Null } else { json!(text) };
        let certificates = match self.ca_file {
            Some(file) if file.is_empty() => Some(Value::Null),
            Some(file) => Some(json!(ca_certificates(Some(&file))?)),
            None => None,
        };
        let changes = [
            ("host", self.host.map(Value::from)),
            ("port", self.port.map(Value::from)),
            ("server_name", self.server_name.map(empty_is_null)),
            ("url", self.url.map(Value::from)),
            ("format", self.format.map(|format| json!(format.replace('-', "_")))),
            ("compression", self.compression.map(Value::from)),
            ("ca_certificates", certificates),
        ];
        for (name, value) in changes {
            let Some(value) = value else { continue };
            if before.get(name).is_none() {
                let kind = current.get("kind").and_then(Value::as_str).unwrap_or("this kind");
                bail!("a drain of the kind {kind} has no {}", name.replace('_', " "));
            }
            insert(&mut destination, name, value);
        }
        for field in &self.set {
            let Some((name, text)) = field.split_once('=') else {
                bail!("{field} is not 'FIELD=VALUE'");
            };
            let json = || serde_json::from_str(text).unwrap_or_else(|_| text.into());
            let is_text = before.get(name).is_some_and(Value::is_string) && text != "null";
            insert(&mut destination, name, if is_text { text.into() } else { json() });
        }
        let mut body = json!({});
        if destination != before {
            insert(&mut body, "destination", destination);
        }
        if let Some(handle) = self.new_handle {
            insert(&mut body, "handle", json!(handle));
        }
        let mut credentials = self.sign_in.read()?;
        credentials.extend(self.access_key.read()?);
        credentials.extend(self.identity.read()?);
        credentials.extend(self.signing.read()?);
        credentials.extend(secrets([("url", self.url_file)])?);
        self.headers.insert_into(&mut credentials)?;
        if self.remove_credentials {
            insert(&mut body, "credentials", Value::Null);
        } else if !credentials.is_empty() {
            insert(&mut body, "credentials", credentials.into());
        }
        self.options.insert_into(&mut body, current.get("options").unwrap_or(&Value::Null))?;
        Ok(body)
    }
}

impl Options {
    fn insert_into(self, body: &mut Value, current: &Value) -> Result<()> {
        let fields = [
            ("drain_apps", self.apps.map(Value::from)),
            ("drain_databases", self.databases.map(Value::from)),
            ("drain_ephemeral_sessions", self.sessions.map(Value::from)),
            ("drain_activity", self.activity.map(Value::from)),
            ("control_sequences", self.control_sequences.map(Value::from)),
            ("redraws", self.redraws.map(Value::from)),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                insert(body, name, value);
            }
        }
        self.lines.insert_into(body, current)
    }
}

impl Headers {
    fn insert_into(&self, credentials: &mut Map<String, Value>) -> Result<()> {
        let headers = self.read()?;
        if !headers.is_empty() {
            credentials.insert("headers".to_owned(), headers.into());
        }
        Ok(())
    }

    fn read(&self) -> Result<Map<String, Value>> {
        let file = self.header_file.as_deref().map(file_text).transpose()?.unwrap_or_default();
        let lines = file.lines().filter(|line| !line.trim().is_empty());
        let mut headers = Map::new();
        for line in self.header.iter().map(String::as_str).chain(lines) {
            // The line may hold a token, so the complaint does not show it.
            let Some((name, value)) = line.split_once(':') else {
                bail!("a header is not 'NAME: VALUE': it has no colon");
            };
            let name = name.trim();
            if headers.insert(name.to_owned(), json!(value.trim())).is_some() {
                bail!("the header {name} is given twice");
            }
        }
        Ok(headers)
    }
}

/// The secrets that files hold, without the line end after them.
fn secrets<const N: usize>(files: [(&str, Option<String>); N]) -> Result<Map<String, Value>> {
    let mut secrets = Map::new();
    for (name, file) in files {
        let Some(file) = file else { continue };
        let text = file_text(&file)?;
        let secret = text.trim_end_matches(['\r', '\n']);
        if secret.is_empty() {
            bail!("{file} is empty: it should hold the {}", name.replace('_', " "));
        }
        secrets.insert(name.to_owned(), secret.into());
    }
    Ok(secrets)
}

fn ca_certificates(file: Option<&str>) -> Result<Option<String>> {
    let Some(file) = file else { return Ok(None) };
    let text = file_text(file)?;
    if text.contains("PRIVATE KEY") {
        bail!("{file} holds a private key; give the certificate authority's certificate only");
    }
    if !text.contains("BEGIN CERTIFICATE") {
        bail!("{file} holds no certificate in PEM");
    }
    Ok(Some(text))
}

fn insert(object: &mut Value, name: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(name.to_owned(), value);
    }
}

#[cfg(test)]
mod tests;
