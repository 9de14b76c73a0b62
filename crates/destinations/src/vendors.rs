//! The destinations of vendors and of well-known servers. An `url` or `host` that has a default can be
//! set to a proxy or to a regional address that is not in the list.

use std::collections::BTreeMap;

use model::validation::Checks;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Configuration, Server, rules};

/// Datadog's logs intake, for the kind `datadog`. The credential `token` is an API key.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Datadog {
    /// The Datadog site, as it stands in the address of your Datadog.
    #[serde(default = "datadog_site")]
    #[schema(example = "datadoghq.eu")]
    pub site: String,
    /// Where to send instead of to the site's intake: a proxy, or an Observability Pipelines Worker.
    pub url: Option<String>,
    /// Tags of every line besides Spillway's own, such as `team:payments`.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The authorities to trust, in PEM; the system's, if left out.
    pub ca_certificates: Option<String>,
}

impl Datadog {
    /// Where to send.
    #[must_use]
    pub fn address(&self) -> String {
        let of_site = || format!("https://http-intake.logs.{}/api/v2/logs", self.site);
        self.url.clone().unwrap_or_else(of_site)
    }
}

fn datadog_site() -> String {
    "datadoghq.com".to_owned()
}

impl Configuration for Datadog {
    fn check(&mut self, checks: &mut Checks) {
        rules::host(checks, "destination.site", &self.site);
        let is_name = self.site.parse::<std::net::IpAddr>().is_err();
        checks.rule(is_name, "destination.site", "must be a name, such as datadoghq.eu");
        rules::optional_url(checks, "destination.url", &mut self.url);
        check_tags(checks, &self.tags);
        rules::authorities(checks, self.ca_certificates.as_deref());
    }

    fn server(&self) -> Server {
        Server::of_url(&self.address())
    }
}

/// Splunk's HTTP Event Collector, for the kind `splunk_hec`. The credential `token` is the
/// collector's.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SplunkHec {
    /// The collector's address, without a path.
    #[schema(example = "https://splunk.example.com:8088")]
    pub url: String,
    /// The index; the token's default, if left out.
    pub index: Option<String>,
    /// The source type; the token's default, if left out.
    pub sourcetype: Option<String>,
    /// Whether lines count as delivered when an indexer has acknowledged them, not yet when the
    /// collector has taken them. The token must have indexer acknowledgement enabled.
    #[serde(default)]
    pub acknowledge: bool,
    /// The authorities to trust, in PEM; the system's, if left out.
    pub ca_certificates: Option<String>,
}

impl Configuration for SplunkHec {
    fn check(&mut self, checks: &mut Checks) {
        rules::base_url(checks, "destination.url", &mut self.url);
        rules::name(checks, "destination.index", self.index.as_deref());
        rules::name(checks, "destination.sourcetype", self.sourcetype.as_deref());
        rules::authorities(checks, self.ca_certificates.as_deref());
    }

    fn server(&self) -> Server {
        Server::of_url(&self.url)
    }
}

/// Elasticsearch or OpenSearch, for the kind `elasticsearch`. The credential `token` is an API key as
/// Elasticsearch encodes it; `username` and `password` are for both.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Elasticsearch {
    /// The cluster's address, with the path of a proxy, if any.
    #[schema(example = "https://es.example.com:9200")]
    pub url: String,
    /// The data stream or index that documents are created in. Elasticsearch makes `logs-*-*` by
    /// itself; OpenSearch needs an index template first.
    #[serde(default = "data_stream")]
    pub index: String,
    /// The authorities to trust, in PEM; the system's, if left out.
    pub ca_certificates: Option<String>,
}

fn data_stream() -> String {
    "logs-spillway-default".to_owned()
}

impl Configuration for Elasticsearch {
    fn check(&mut self, checks: &mut Checks) {
        rules::base_url(checks, "destination.url", &mut self.url);
        // Elasticsearch reference, "Create a data stream", path parameters.
        let index = &self.index;
        let starts_well = !index.starts_with(['-', '_', '+', '.']);
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.+@".contains(c);
        checks.rule(
            (1..=255).contains(&index.len()) && starts_well && index.chars().all(allowed),
            "destination.index",
            "must have 1 to 255 of a-z, 0-9, - _ . + @, and not begin with - _ + .",
        );
        rules::authorities(checks, self.ca_certificates.as_deref());
    }

    fn server(&self) -> Server {
        Server::of_url(&self.url)
    }
}

/// Grafana Loki, for the kind `loki`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Loki {
    /// The server's address, with the path of a proxy, if any.
    #[schema(example = "https://logs-prod-012.grafana.net")]
    pub url: String,
    /// The tenant (`X-Scope-OrgID`), if the server has several.
    pub tenant: Option<String>,
    /// Labels besides `service_name`, `environment` and `source`; at most 10.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The authorities to trust, in PEM; the system's, if left out.
    pub ca_certificates: Option<String>,
}

impl Configuration for Loki {
    fn check(&mut self, checks: &mut Checks) {
        rules::base_url(checks, "destination.url", &mut self.url);
        // Grafana Loki documentation, "Multi-tenancy".
        let allowed = |c: char| c.is_ascii_alphanumeric() || "!-_.*'()".contains(c);
        let tenant = self.tenant.as_deref().unwrap_or("a");
        checks.rule(
            (1..=150).contains(&tenant.len())
                && tenant.chars().all(allowed)
                && tenant != "."
                && tenant != "..",
            "destination.tenant",
            "must have 1 to 150 letters, digits and !-_.*'()",
        );
        checks.rule(self.labels.len() <= 10, "destination.labels", "must be at most 10");
        for (name, value) in &self.labels {
            let field = format!("destination.labels.{name}");
            let first = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
            let rest = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            checks.rule(
                first && rest && name.len() <= 200 && !name.starts_with("__"),
                &field,
                "is no label name: letters, digits and _, without a digit or __ in front",
            );
            let own = ["service_name", "environment", "source"].contains(&name.as_str());
            checks.rule(!own, &field, "is set by the drain itself");
            checks.text(value, &field, 500);
        }
        rules::authorities(checks, self.ca_certificates.as_deref());
    }

    fn server(&self) -> Server {
        Server::of_url(&self.url)
    }
}

/// An OpenTelemetry receiver, for the kind `otlp_http`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OtlpHttp {
    /// Where logs go, with the path, which mostly is `/v1/logs`.
    #[schema(example = "https://otel.example.com:4318/v1/logs")]
    pub url: String,
    /// The authorities to trust, in PEM; the system's, if left out.
    pub ca_certificates: Option<String>,
}

impl Configuration for OtlpHttp {
    fn check(&mut self, checks: &mut Checks) {
        rules::url(checks, "destination.url", &mut self.url);
        rules::authorities(checks, self.ca_certificates.as_deref());
    }

    fn server(&self) -> Server {
        Server::of_url(&self.url)
    }
}

/// Sumo Logic's HTTP source, for the kind `sumologic`. The credential `url` is the source's address,
/// which holds its secret.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SumoLogic {
    /// The source category; the source's own, if left out.
    pub category: Option<String>,
    /// The source name; the source's own, if left out.
    pub name: Option<String>,
    /// The authorities to trust, in PEM; the system's, if left out.
    pub ca_certificates: Option<String>,
}

impl Configuration for SumoLogic {
    fn check(&mut self, checks: &mut Checks) {
        for (field, value) in
            [("destination.category", &self.category), ("destination.name", &self.name)]
        {
            let fits = value.as_deref().is_none_or(rules::is_header_value);
            checks.rule(fits, field, "must have visible ASCII characters and spaces only");
        }
        rules::authorities(checks, self.ca_certificates.as_deref());
    }

    fn server(&self) -> Server {
        // The server is the credential itself.
        Server(String::new())
    }
}

/// Mezmo, formerly LogDNA, for the kind `logdna`. The credential `token` is an ingestion key.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogDna {
    /// The server's address, without a path.
    #[serde(default = "mezmo")]
    #[schema(example = "https://logs.mezmo.com")]
    pub url: String,
    /// The host that lines are shown under; the environment's handle, if left out.
    pub hostname: Option<String>,
    /// Tags of every line.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The authorities to trust, in PEM; the system's, if left out.
    pub ca_certificates: Option<String>,
}

fn mezmo() -> String {
    "https://logs.mezmo.com".to_owned()
}

impl Configuration for LogDna {
    fn check(&mut self, checks: &mut Checks) {
        rules::base_url(checks, "destination.url", &mut self.url);
        rules::name(checks, "destination.hostname", self.hostname.as_deref());
        check_tags(checks, &self.tags);
        rules::authorities(checks, self.ca_certificates.as_deref());
    }

    fn server(&self) -> Server {
        Server::of_url(&self.url)
    }
}

/// Papertrail, for the kind `papertrail`: host and port are those of a log destination, which is
/// known by its port.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Papertrail {
    /// The log destination's host.
    #[schema(example = "logs3.papertrailapp.com")]
    pub host: String,
    /// The log destination's port.
    #[schema(minimum = 1, maximum = 65535)]
    pub port: u16,
    /// The authorities to trust, in PEM; the system's, if left out.
    pub ca_certificates: Option<String>,
}

impl Configuration for Papertrail {
    fn check(&mut self, checks: &mut Checks) {
        check_stream(checks, &self.host, self.port, self.ca_certificates.as_deref());
    }

    fn server(&self) -> Server {
        Server::of(&self.host, self.port)
    }
}

/// SolarWinds Observability, for the kind `solarwinds`. The credential `token` is an ingestion
/// token.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SolarWinds {
    /// The syslog collector of your data centre: `syslog.collector.na-01.cloud.solarwinds.com`,
    /// `eu-01` or `ap-01`.
    #[schema(example = "syslog.collector.na-01.cloud.solarwinds.com")]
    pub host: String,
    /// Its port.
    #[serde(default = "syslog_port")]
    #[schema(minimum = 1, maximum = 65535)]
    pub port: u16,
    /// The authorities to trust, in PEM; the system's, if left out.
    pub ca_certificates: Option<String>,
}

const fn syslog_port() -> u16 {
    6514
}

impl Configuration for SolarWinds {
    fn check(&mut self, checks: &mut Checks) {
        check_stream(checks, &self.host, self.port, self.ca_certificates.as_deref());
    }

    fn server(&self) -> Server {
        Server::of(&self.host, self.port)
    }
}

/// Rapid7 InsightOps, formerly Logentries, for the kind `insightops`. The credential `token` is the
/// log's.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InsightOps {
    /// The data endpoint of your region.
    #[schema(example = "eu.data.logs.insight.rapid7.com")]
    pub host: String,
    /// Its port for TLS.
    #[serde(default = "tls_port")]
    #[schema(minimum = 1, maximum = 65535)]
    pub port: u16,
    /// The authorities to trust, in PEM; the system's, if left out.
    pub ca_certificates: Option<String>,
}

const fn tls_port() -> u16 {
    443
}

impl Configuration for InsightOps {
    fn check(&mut self, checks: &mut Checks) {
        check_stream(checks, &self.host, self.port, self.ca_certificates.as_deref());
    }

    fn server(&self) -> Server {
        Server::of(&self.host, self.port)
    }
}

fn check_stream(checks: &mut Checks, host: &str, port: u16, ca_certificates: Option<&str>) {
    rules::host(checks, "destination.host", host);
    rules::port(checks, "destination.port", port);
    rules::authorities(checks, ca_certificates);
}

fn check_tags(checks: &mut Checks, tags: &[String]) {
    let field = "destination.tags";
    checks.rule(tags.len() <= 50, field, "must be at most 50");
    for tag in tags {
        let sound = (1..=200).contains(&tag.len())
            && !tag.chars().any(|c| c.is_control() || c.is_whitespace() || c == ',');
        checks.rule(sound, field, "must each have 1 to 200 bytes and no space, comma or control");
    }
}
