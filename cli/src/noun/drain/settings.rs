//! What a log drain can be told, as the API takes it.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Name;
use crate::prompt::file_text;

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

/// A kind's own part of a request.
pub(crate) trait Destination: Args {
    /// As the API calls it.
    const KIND: &'static str;

    /// Destination and credentials.
    fn parts(self) -> Result<(Value, Map<String, Value>)>;
}

/// Where syslog goes.
#[derive(Debug, Args)]
pub(crate) struct SyslogDestination {
    /// The receiver's host name or address.
    #[arg(long, value_name = "HOST")]
    host: String,
    /// The receiver's port.
    #[arg(long, value_name = "PORT", default_value_t = 6514, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// The name that the receiver's certificate must have; default: the host.
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// How messages are told apart: by their length in front, or by a line feed after each.
    #[arg(long, default_value = "octet-counting", value_parser = ["octet-counting", "lf"])]
    framing: String,
    /// Where the token goes: in front of the text, or as an element of the structured data.
    #[arg(long, default_value = "prefix", value_parser = ["prefix", "structured-data"])]
    token_place: String,
    /// A file with the token of each message; - for standard input.
    #[arg(long, value_name = "FILE")]
    token_file: Option<String>,
}

impl Destination for SyslogDestination {
    const KIND: &'static str = "syslog_tls_tcp";

    fn parts(self) -> Result<(Value, Map<String, Value>)> {
        let destination = json!({
            "host": self.host,
            "port": self.port,
            "server_name": self.server_name,
            "framing": self.framing.replace('-', "_"),
            "token": self.token_place.replace('-', "_"),
        });
        Ok((destination, secrets([("token", self.token_file)])?))
    }
}

/// Where HTTPS goes.
#[derive(Debug, Args)]
pub(crate) struct HttpsDestination {
    /// The receiver's address, https://...
    #[arg(long, value_name = "URL")]
    url: String,
    /// What a batch looks like: JSON, or Heroku's logplex-1.
    #[arg(long, default_value = "json-lines", value_parser = ["json-lines", "json-array", "logplex"])]
    format: String,
    /// What the fields of JSON are called.
    #[arg(long, default_value = "spillway", value_parser = ["spillway", "aptible"])]
    keys: String,
    /// How a batch is compressed; default: with gzip, but logplex not at all.
    #[arg(long, value_parser = ["gzip", "zstd", "none"])]
    compression: Option<String>,
    #[command(flatten)]
    headers: Headers,
    #[command(flatten)]
    sign_in: SignIn,
    /// A file with the secret that requests are signed with (Standard Webhooks, `whsec_...`); - for
    /// standard input.
    #[arg(long, value_name = "FILE")]
    signing_secret_file: Option<String>,
}

impl Destination for HttpsDestination {
    const KIND: &'static str = "https_post";

    fn parts(self) -> Result<(Value, Map<String, Value>)> {
        let usual = if self.format == "logplex" { "none" } else { "gzip" };
        let destination = json!({
            "url": self.url,
            "format": self.format.replace('-', "_"),
            "keys": self.keys,
            "compression": self.compression.as_deref().unwrap_or(usual),
        });
        let mut credentials = self.sign_in.read()?;
        credentials.extend(secrets([("signing_secret", self.signing_secret_file)])?);
        self.headers.insert_into(&mut credentials)?;
        Ok((destination, credentials))
    }
}

/// Where Datadog's logs go.
#[derive(Debug, Args)]
pub(crate) struct DatadogDestination {
    /// Your Datadog site, such as datadoghq.eu or us5.datadoghq.com.
    #[arg(long, value_name = "SITE", default_value = "datadoghq.com")]
    site: String,
    /// Where to send instead: a proxy's address, https://...
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// A tag of every line, such as team:payments; may be repeated.
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// A file with an API key; - for standard input.
    #[arg(long, value_name = "FILE")]
    token_file: String,
}

impl Destination for DatadogDestination {
    const KIND: &'static str = "datadog";

    fn parts(self) -> Result<(Value, Map<String, Value>)> {
        let destination = json!({ "site": self.site, "url": self.url, "tags": self.tag });
        Ok((destination, secrets([("token", Some(self.token_file))])?))
    }
}

/// Where Splunk's events go.
#[derive(Debug, Args)]
pub(crate) struct SplunkDestination {
    /// The collector's address, https://..., without a path.
    #[arg(long, value_name = "URL")]
    url: String,
    /// The index; default: the token's.
    #[arg(long, value_name = "INDEX")]
    index: Option<String>,
    /// The source type; default: the token's.
    #[arg(long, value_name = "TYPE")]
    sourcetype: Option<String>,
    /// Wait for indexer acknowledgement, which the token must have enabled.
    #[arg(long)]
    acknowledge: bool,
    /// A file with the collector's token; - for standard input.
    #[arg(long, value_name = "FILE")]
    token_file: String,
}

impl Destination for SplunkDestination {
    const KIND: &'static str = "splunk_hec";

    fn parts(self) -> Result<(Value, Map<String, Value>)> {
        let destination = json!({
            "url": self.url,
            "index": self.index,
            "sourcetype": self.sourcetype,
            "acknowledge": self.acknowledge,
        });
        Ok((destination, secrets([("token", Some(self.token_file))])?))
    }
}

/// Where documents go.
#[derive(Debug, Args)]
pub(crate) struct ElasticsearchDestination {
    /// The cluster's address, https://...
    #[arg(long, value_name = "URL")]
    url: String,
    /// The data stream or index.
    #[arg(long, value_name = "NAME", default_value = "logs-spillway-default")]
    index: String,
    #[command(flatten)]
    sign_in: SignIn,
}

impl Destination for ElasticsearchDestination {
    const KIND: &'static str = "elasticsearch";

    fn parts(self) -> Result<(Value, Map<String, Value>)> {
        Ok((json!({ "url": self.url, "index": self.index }), self.sign_in.read()?))
    }
}

/// Where Loki's streams go.
#[derive(Debug, Args)]
pub(crate) struct LokiDestination {
    /// The server's address, https://...
    #[arg(long, value_name = "URL")]
    url: String,
    /// The tenant, if the server has several.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// A label of every line, 'NAME=VALUE'; may be repeated.
    #[arg(long, value_name = "LABEL")]
    label: Vec<String>,
    #[command(flatten)]
    sign_in: SignIn,
}

impl Destination for LokiDestination {
    const KIND: &'static str = "loki";

    fn parts(self) -> Result<(Value, Map<String, Value>)> {
        let mut labels = Map::new();
        for label in &self.label {
            let Some((name, value)) = label.split_once('=') else {
                bail!("the label {label} is not 'NAME=VALUE'");
            };
            labels.insert(name.to_owned(), value.into());
        }
        let destination = json!({ "url": self.url, "tenant": self.tenant, "labels": labels });
        Ok((destination, self.sign_in.read()?))
    }
}

/// Where OpenTelemetry's logs go.
#[derive(Debug, Args)]
pub(crate) struct OtlpDestination {
    /// Where logs go, https://..., with the path, which mostly is /v1/logs.
    #[arg(long, value_name = "URL")]
    url: String,
    #[command(flatten)]
    headers: Headers,
}

impl Destination for OtlpDestination {
    const KIND: &'static str = "otlp_http";

    fn parts(self) -> Result<(Value, Map<String, Value>)> {
        let mut credentials = Map::new();
        self.headers.insert_into(&mut credentials)?;
        Ok((json!({ "url": self.url }), credentials))
    }
}

/// Where Sumo Logic's messages go.
#[derive(Debug, Args)]
pub(crate) struct SumoLogicDestination {
    /// A file with the source's address, which is a secret; - for standard input.
    #[arg(long, value_name = "FILE")]
    url_file: String,
    /// The source category; default: the source's.
    #[arg(long, value_name = "CATEGORY")]
    category: Option<String>,
    /// The source name; default: the source's.
    #[arg(long, value_name = "NAME")]
    source_name: Option<String>,
}

impl Destination for SumoLogicDestination {
    const KIND: &'static str = "sumologic";

    fn parts(self) -> Result<(Value, Map<String, Value>)> {
        let destination = json!({ "category": self.category, "name": self.source_name });
        Ok((destination, secrets([("url", Some(self.url_file))])?))
    }
}

/// Where Mezmo's lines go.
#[derive(Debug, Args)]
pub(crate) struct MezmoDestination {
    /// The server's address, without a path.
    #[arg(long, value_name = "URL", default_value = "https://logs.mezmo.com")]
    url: String,
    /// The host that lines are shown under; default: the environment.
    #[arg(long, value_name = "HOST")]
    hostname: Option<String>,
    /// A tag of every line; may be repeated.
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// A file with an ingestion key; - for standard input.
    #[arg(long, value_name = "FILE")]
    token_file: String,
}

impl Destination for MezmoDestination {
    const KIND: &'static str = "logdna";

    fn parts(self) -> Result<(Value, Map<String, Value>)> {
        let destination = json!({ "url": self.url, "hostname": self.hostname, "tags": self.tag });
        Ok((destination, secrets([("token", Some(self.token_file))])?))
    }
}

/// Where Papertrail's messages go.
#[derive(Debug, Args)]
pub(crate) struct PapertrailDestination {
    /// The log destination's host, such as logs3.papertrailapp.com.
    #[arg(long, value_name = "HOST")]
    host: String,
    /// The log destination's port.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
}

impl Destination for PapertrailDestination {
    const KIND: &'static str = "papertrail";

    fn parts(self) -> Result<(Value, Map<String, Value>)> {
        Ok((json!({ "host": self.host, "port": self.port }), Map::new()))
    }
}

/// Where the messages of SolarWinds go.
#[derive(Debug, Args)]
pub(crate) struct SolarWindsDestination {
    /// Your data centre's collector, such as syslog.collector.na-01.cloud.solarwinds.com.
    #[arg(long, value_name = "HOST")]
    host: String,
    /// The collector's port.
    #[arg(long, value_name = "PORT", default_value_t = 6514, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// A file with an ingestion token; - for standard input.
    #[arg(long, value_name = "FILE")]
    token_file: String,
}

impl Destination for SolarWindsDestination {
    const KIND: &'static str = "solarwinds";

    fn parts(self) -> Result<(Value, Map<String, Value>)> {
        let destination = json!({ "host": self.host, "port": self.port });
        Ok((destination, secrets([("token", Some(self.token_file))])?))
    }
}

/// Where the lines of InsightOps go.
#[derive(Debug, Args)]
pub(crate) struct InsightOpsDestination {
    /// Your region's data endpoint, such as eu.data.logs.insight.rapid7.com.
    #[arg(long, value_name = "HOST")]
    host: String,
    /// The endpoint's port for TLS.
    #[arg(long, value_name = "PORT", default_value_t = 443, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// A file with the log's token; - for standard input.
    #[arg(long, value_name = "FILE")]
    token_file: String,
}

impl Destination for InsightOpsDestination {
    const KIND: &'static str = "insightops";

    fn parts(self) -> Result<(Value, Map<String, Value>)> {
        let destination = json!({ "host": self.host, "port": self.port });
        Ok((destination, secrets([("token", Some(self.token_file))])?))
    }
}

/// How requests are authenticated; all of it is kept sealed.
#[derive(Debug, Args)]
pub(crate) struct SignIn {
    /// A file with a token or an API key; - for standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "username")]
    token_file: Option<String>,
    /// The user name of basic authentication.
    #[arg(long, value_name = "NAME", requires = "password_file")]
    username: Option<String>,
    /// A file with the password of basic authentication; - for standard input.
    #[arg(long, value_name = "FILE", requires = "username")]
    password_file: Option<String>,
}

impl SignIn {
    fn read(&self) -> Result<Map<String, Value>> {
        let files = [("token", self.token_file.clone()), ("password", self.password_file.clone())];
        let mut credentials = secrets(files)?;
        if let Some(username) = &self.username {
            credentials.insert("username".to_owned(), username.as_str().into());
        }
        Ok(credentials)
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
    /// What becomes of terminal control sequences in lines.
    #[arg(long, value_parser = ["keep", "strip"])]
    control_sequences: Option<String>,
    /// Which redraws of a line (progress bars) are sent: each, or the last.
    #[arg(long, value_parser = ["keep", "last"])]
    redraws: Option<String>,
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
    /// The receiver's address (HTTPS).
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// What a batch looks like (HTTPS).
    #[arg(long, value_parser = ["json-lines", "json-array", "logplex"])]
    format: Option<String>,
    /// How a batch is compressed (HTTPS).
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
    identity: Identity,
    /// A file with the secret that requests are signed with (HTTPS); - for standard input.
    #[arg(long, value_name = "FILE")]
    signing_secret_file: Option<String>,
    /// A file with the source's address (Sumo Logic); - for standard input.
    #[arg(long, value_name = "FILE")]
    url_file: Option<String>,
    /// Send no credentials any more. (New ones replace all of the old ones.)
    #[arg(long, alias = "remove-headers", conflicts_with_all = ["header", "header_file", "token_file", "username", "signing_secret_file", "url_file", "client_certificate_file"])]
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
        });
        if !credentials.is_empty() {
            insert(&mut body, "credentials", credentials.into());
        }
        self.options.insert_into(&mut body);
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
        credentials.extend(self.identity.read()?);
        let files = [("signing_secret", self.signing_secret_file), ("url", self.url_file)];
        credentials.extend(secrets(files)?);
        self.headers.insert_into(&mut credentials)?;
        if self.remove_credentials {
            insert(&mut body, "credentials", Value::Null);
        } else if !credentials.is_empty() {
            insert(&mut body, "credentials", credentials.into());
        }
        self.options.insert_into(&mut body);
        Ok(body)
    }
}

impl Options {
    fn insert_into(self, body: &mut Value) {
        let fields = [
            ("drain_apps", self.apps.map(Value::from)),
            ("drain_databases", self.databases.map(Value::from)),
            ("drain_ephemeral_sessions", self.sessions.map(Value::from)),
            ("control_sequences", self.control_sequences.map(Value::from)),
            ("redraws", self.redraws.map(Value::from)),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                insert(body, name, value);
            }
        }
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
