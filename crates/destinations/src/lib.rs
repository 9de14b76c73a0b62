//! Where log drains send: the kinds of destination, what each is told, which lines are sent, and the rules
//! for all that. The API checks with it what customers write, workers read with it what was kept. No I/O.
//!
//! The address that a name resolves to is vetted where it is dialled; here only the form is checked.

use model::validation::{Checks, FieldError, parse_json};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;
use utoipa::openapi::schema::AnyOfBuilder;
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

mod credentials;
mod https_post;
mod notices;
mod options;
mod rules;
mod s3;
mod slack;
mod syslog_tls;
mod tag;
mod vendors;
mod webhook;

pub use credentials::{Credentials, Wanted};
pub use https_post::{BodyFormat, Compression, HttpsPost, Keys};
pub use model::Severity;
pub use notices::{check_signing_secret, check_webhook_url};
pub use options::{AnySelection, Options, Redaction, Selection, regex};
pub use s3::{Encryption, S3};
pub use slack::Slack;
pub use syslog_tls::{Framing, SyslogTls, TokenPlace};
pub use tag::{Tag, TagSet};
pub use vendors::{
    Datadog, Elasticsearch, InsightOps, LogDna, Loki, OtlpHttp, Papertrail, SolarWinds, SplunkHec,
    SumoLogic,
};
pub use webhook::Webhook;

/// What a kind of destination is told.
trait Configuration: Serialize + DeserializeOwned {
    /// Notes what is wrong, and brings the rest into the form in which it is kept.
    fn check(&mut self, checks: &mut Checks);

    /// Who gets the credentials.
    fn server(&self) -> Server;
}

impl Kind {
    /// Whether it sends messages one after the other over TLS, and not requests.
    const fn is_syslog(self) -> bool {
        matches!(self, Self::SyslogTlsTcp | Self::Papertrail | Self::SolarWinds | Self::InsightOps)
    }
}

/// Where credentials go to: host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Server(String);

impl Server {
    fn of(host: &str, port: u16) -> Self {
        Self(format!("{}:{port}", host.to_ascii_lowercase()))
    }

    fn of_url(url: &str) -> Self {
        let url = Url::parse(url).ok();
        let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
        let port = url.as_ref().and_then(Url::port_or_known_default);
        Self::of(host, port.unwrap_or_default())
    }
}

/// Names every kind once: its name, its configuration, its credentials.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $name:literal $(or $alias:literal)* ($config:ident): $wanted:expr;)*) => {
        /// A kind of log drain.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        pub enum Kind {
            $($(#[$doc])* #[serde(rename = $name $(, alias = $alias)*)] #[schema(rename = $name)] $kind,)*
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// As it is kept.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            /// Which credentials it takes.
            #[must_use]
            pub const fn wanted(self) -> &'static [(&'static str, Wanted)] {
                match self {
                    $(Self::$kind => $wanted,)*
                }
            }

            /// Checks a destination of this kind; answers it in the form in which it is kept.
            pub fn checked(self, destination: Value) -> Result<Value, Vec<FieldError>> {
                match self {
                    $(Self::$kind => checked::<$config>(destination),)*
                }
            }

            fn server(self, destination: &Value) -> Option<Server> {
                match self {
                    $(Self::$kind => server::<$config>(destination),)*
                }
            }
        }

        /// Where a drain sends; its form depends on the drain's kind.
        #[derive(Debug)]
        pub enum Destination {
            $($(#[$doc])* $kind($config),)*
        }

        impl Destination {
            /// Reads a destination as it is kept.
            pub fn from_kept(kind: Kind, kept: Value) -> Result<Self, serde_json::Error> {
                match kind {
                    $(Kind::$kind => serde_json::from_value(kept).map(Self::$kind),)*
                }
            }
        }

        impl PartialSchema for AnyDestination {
            fn schema() -> RefOr<Schema> {
                let any = AnyOfBuilder::new()
                    .description(Some("Where a drain sends, in the form of its kind."));
                $(let any = any.item(Ref::from_schema_name(<$config as ToSchema>::name()));)*
                RefOr::T(Schema::AnyOf(any.build()))
            }
        }

        impl ToSchema for AnyDestination {
            fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
                $(
                    schemas.push((<$config as ToSchema>::name().into(), <$config>::schema()));
                    <$config as ToSchema>::schemas(schemas);
                )*
            }
        }
    };
}

kinds! {
    /// Syslog (RFC 5424) over TLS over TCP (RFC 5425).
    SyslogTlsTcp "syslog_tls_tcp" (SyslogTls): &[
        ("token", Wanted::Optional),
        ("client_certificate", Wanted::Optional),
        ("client_key", Wanted::Optional),
    ];
    /// Batches in HTTPS POST requests.
    HttpsPost "https_post" or "https" (HttpsPost): &[
        ("headers", Wanted::Optional),
        ("token", Wanted::Optional),
        ("username", Wanted::Optional),
        ("password", Wanted::Optional),
        ("signing_secret", Wanted::Optional),
        ("client_certificate", Wanted::Optional),
        ("client_key", Wanted::Optional),
    ];
    /// Datadog's logs intake.
    Datadog "datadog" (Datadog): &[("token", Wanted::Required)];
    /// Splunk's HTTP Event Collector.
    SplunkHec "splunk_hec" (SplunkHec): &[
        ("token", Wanted::Required),
        ("client_certificate", Wanted::Optional),
        ("client_key", Wanted::Optional),
    ];
    /// Elasticsearch or OpenSearch.
    Elasticsearch "elasticsearch" or "opensearch" or "elasticsearch_database" (Elasticsearch): &[
        ("token", Wanted::Optional),
        ("username", Wanted::Optional),
        ("password", Wanted::Optional),
        ("client_certificate", Wanted::Optional),
        ("client_key", Wanted::Optional),
    ];
    /// Grafana Loki.
    Loki "loki" (Loki): &[
        ("token", Wanted::Optional),
        ("username", Wanted::Optional),
        ("password", Wanted::Optional),
        ("client_certificate", Wanted::Optional),
        ("client_key", Wanted::Optional),
    ];
    /// OpenTelemetry logs (OTLP over HTTP).
    OtlpHttp "otlp_http" (OtlpHttp): &[
        ("headers", Wanted::Optional),
        ("client_certificate", Wanted::Optional),
        ("client_key", Wanted::Optional),
    ];
    /// Sumo Logic's HTTP source.
    SumoLogic "sumologic" (SumoLogic): &[("url", Wanted::Required)];
    /// Mezmo, formerly LogDNA.
    LogDna "logdna" or "mezmo" (LogDna): &[("token", Wanted::Required)];
    /// Papertrail, by syslog.
    Papertrail "papertrail" (Papertrail): &[];
    /// SolarWinds Observability, by syslog.
    SolarWinds "solarwinds" (SolarWinds): &[("token", Wanted::Required)];
    /// Rapid7 InsightOps, formerly Logentries.
    InsightOps "insightops" (InsightOps): &[("token", Wanted::Required)];
    /// Objects in a bucket of Amazon S3 or of a server like it.
    S3 "s3" (S3): &[
        ("access_key_id", Wanted::Required),
        ("secret_access_key", Wanted::Required),
        ("session_token", Wanted::Optional),
        ("client_certificate", Wanted::Optional),
        ("client_key", Wanted::Optional),
    ];
    /// Slack's incoming webhooks; events only.
    Slack "slack" (Slack): &[("url", Wanted::Required)];
    /// An HTTPS POST for each event; events only.
    Webhook "webhook" (Webhook): &[
        ("headers", Wanted::Optional),
        ("token", Wanted::Optional),
        ("username", Wanted::Optional),
        ("password", Wanted::Optional),
        ("signing_secret", Wanted::Optional),
        ("client_certificate", Wanted::Optional),
        ("client_key", Wanted::Optional),
    ];
}

/// Where a drain sends, in the form of its kind: what describes it to clients.
#[derive(Debug)]
pub struct AnyDestination;

impl Kind {
    /// From how it is kept.
    #[must_use]
    pub fn from_kept(kind: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| known.as_str() == kind)
    }

    /// Whether two destinations of this kind as kept lead to the same server.
    #[must_use]
    pub fn is_same_server(self, one: &Value, other: &Value) -> bool {
        let server = self.server(one);
        server.is_some() && server == self.server(other)
    }
}

fn checked<T: Configuration>(destination: Value) -> Result<Value, Vec<FieldError>> {
    let mut config: T = parse_json("destination", destination).map_err(|error| vec![error])?;
    let mut checks = Checks::default();
    config.check(&mut checks);
    checks.finish()?;
    serde_json::to_value(config).map_err(|_| vec![FieldError::new("destination", "cannot be kept")])
}

fn server<T: Configuration>(destination: &Value) -> Option<Server> {
    Some(serde_json::from_value::<T>(destination.clone()).ok()?.server())
}

#[cfg(test)]
mod tests;
