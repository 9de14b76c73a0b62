//! What each kind of destination can be told on the command line.

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Map, Value, json};

use super::{Headers, Signing, secrets};

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
    #[command(flatten)]
    signing: Signing,
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
        credentials.extend(self.signing.read()?);
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
    pub(super) fn read(&self) -> Result<Map<String, Value>> {
        let files = [("token", self.token_file.clone()), ("password", self.password_file.clone())];
        let mut credentials = secrets(files)?;
        if let Some(username) = &self.username {
            credentials.insert("username".to_owned(), username.as_str().into());
        }
        Ok(credentials)
    }
}
