//! A drain's row to the parts of its pipeline.

use destinations::{self as config, Credentials, Kind, Options};
use model::{OpenError, Source};
use serde::de::DeserializeOwned;
use serde_json::Value;
use store::leases::{DrainOutline, WorkableDrain};

use crate::batch::{BatchLimits, Gathering};
use crate::destination::syslog_tls::SyslogTls;
use crate::destination::{
    Destination, HttpConfigError, datadog, elasticsearch, https_post, insightops, logdna, loki,
    otlp_http, papertrail, s3, slack, solarwinds, splunk_hec, sumologic, webhook,
};
use crate::encode::Encode;
use crate::encode::syslog::SyslogEncoder;
use crate::lines::{Cuts, Shaper, Wanted};
use crate::pipeline::Context;
use crate::tls::{Endpoint, TlsConfigError};

/// Of bytes: a large write for TLS and TCP.
const LARGEST_SYSLOG_BATCH: usize = 128 * 1024;
/// Of bytes of all lines that have not ended.
const LARGEST_OPEN: usize = 128 * 1024;

/// What a pipeline is made of.
pub(crate) struct Drain {
    pub(crate) batch: BatchLimits,
    pub(crate) gathering: Option<Gathering>,
    pub(crate) wanted: Wanted,
    pub(crate) shaper: Shaper,
    /// Lines that were encoded in another cannot be sent.
    pub(crate) format: String,
    pub(crate) encoder: Box<dyn Encode>,
    pub(crate) destination: Box<dyn Destination>,
}

impl Drain {
    /// Whether its endpoint is to get lines as quickly as it takes them.
    pub(crate) const fn wants_everything(&self) -> bool {
        self.gathering.is_none() && !self.wanted.events_only
    }
}

/// The drain cannot work as it is configured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DrainError {
    #[error("the drain's {0} cannot be read: {1}")]
    Invalid(&'static str, serde_json::Error),
    #[error("a pattern of the drain's options {0}; change it")]
    Pattern(String),
    #[error("the drain's kind `{0}` is unknown to this version: update this worker")]
    Kind(String),
    #[error("the drain's credentials cannot be opened: {0}; set them again")]
    Sealed(#[from] OpenError),
    #[error(transparent)]
    Tls(#[from] TlsConfigError),
    #[error(transparent)]
    Http(#[from] HttpConfigError),
}

/// The sources that a drain takes.
pub(crate) fn sources(outline: &DrainOutline) -> Vec<Source> {
    [
        (outline.drain_apps, Source::App),
        (outline.drain_databases, Source::Database),
        (outline.drain_ephemeral_sessions, Source::EphemeralSession),
        (outline.drain_activity, Source::Activity),
    ]
    .into_iter()
    .filter_map(|(wanted, source)| wanted.then_some(source))
    .collect()
}

/// Checks a drain's configuration and makes its parts; connects to nothing. It wants nothing yet.
pub(crate) fn prepare(context: &Context, row: &WorkableDrain) -> Result<Drain, DrainError> {
    let kind = Kind::from_kept(&row.kind).ok_or_else(|| DrainError::Kind(row.kind.clone()))?;
    let config = config::Destination::from_kept(kind, row.destination.clone())
        .map_err(|error| DrainError::Invalid("destination", error))?;
    let Parts { limits, line_bytes, encoder, destination, gathering, events_only } =
        parts(context, row, &config, &credentials(context, row)?)?;
    let redraws = parse("option `redraws`", Value::from(row.redraws.as_str()))?;
    let batch = match gathering {
        None => BatchLimits {
            bytes: context.batch.bytes.min(limits.bytes),
            lines: context.batch.lines.min(limits.lines),
        },
        // Where few batches are wanted, they may be larger, but not than what a killed worker's successor
        // may repeat.
        Some(_) => BatchLimits { bytes: context.redelivery_bytes.min(limits.bytes), ..limits },
    };
    let options: Options = parse("options", row.options.clone())?;
    let line_bytes = context.line_bytes.min(line_bytes);
    let start = options.multiline_start.as_deref().map(config::regex).transpose();
    let shaper = Shaper::new(&options, line_bytes, row.id).map_err(DrainError::Pattern)?;
    let wanted = Wanted {
        sources: Vec::new(),
        apps: options.apps,
        databases: options.databases,
        multiline_start: start.map_err(DrainError::Pattern)?,
        events_only,
        cuts: Cuts { limit: line_bytes, redraws },
        control_sequences: parse(
            "option `control_sequences`",
            Value::from(row.control_sequences.as_str()),
        )?,
        open_limit: context.batch.bytes.min(LARGEST_OPEN),
    };
    let format = match &config {
        config::Destination::HttpsPost(config) => format!("{:?} {:?}", config.format, config.keys),
        _ => String::new(),
    };
    Ok(Drain { batch, gathering, wanted, shaper, format, encoder, destination })
}

/// What a kind of destination is made of, and how much it takes: of a batch, and of a line before it
/// is encoded.
struct Parts {
    limits: BatchLimits,
    line_bytes: usize,
    encoder: Box<dyn Encode>,
    destination: Box<dyn Destination>,
    gathering: Option<Gathering>,
    events_only: bool,
}

impl Parts {
    fn new(
        limits: BatchLimits,
        line_bytes: usize,
        (encoder, destination): (Box<dyn Encode>, impl Destination + 'static),
    ) -> Self {
        let destination = Box::new(destination);
        let (gathering, events_only) = (None, false);
        Self { limits, line_bytes, encoder, destination, gathering, events_only }
    }

    fn gathered(self, gathering: Gathering) -> Self {
        Self { gathering: Some(gathering), ..self }
    }

    fn of_events(self) -> Self {
        Self { events_only: true, ..self }
    }
}

fn parts(
    context: &Context,
    row: &WorkableDrain,
    config: &config::Destination,
    credentials: &Credentials,
) -> Result<Parts, DrainError> {
    let egress = context.egress.clone();
    let environment = row.environment_handle.as_str();
    let unlimited = BatchLimits { bytes: usize::MAX, lines: usize::MAX };
    let any = usize::MAX;
    Ok(match config {
        config::Destination::SyslogTlsTcp(config) => {
            let token = credentials.token.as_ref();
            let token = token.map(|token| (token.expose().as_str(), config.token));
            let endpoint = Endpoint::new(
                &config.host,
                config.port,
                config.server_name.as_ref().unwrap_or(&config.host),
                config.ca_certificates.as_deref(),
                credentials,
            )?;
            let encoder = Box::new(SyslogEncoder::new(config.framing, token));
            stream(context, any, (encoder, endpoint))
        }
        config::Destination::Papertrail(config) => {
            let made = papertrail::prepare(config, credentials)?;
            stream(context, papertrail::LINE_BYTES, made)
        }
        config::Destination::SolarWinds(config) => {
            let made = solarwinds::prepare(config, credentials)?;
            stream(context, solarwinds::LINE_BYTES, made)
        }
        config::Destination::InsightOps(config) => {
            let made = insightops::prepare(config, credentials)?;
            stream(context, insightops::LINE_BYTES, made)
        }
        config::Destination::HttpsPost(config) => {
            Parts::new(unlimited, any, https_post::prepare(config, credentials, row.id, egress)?)
        }
        config::Destination::Datadog(config) => {
            let made = datadog::prepare(config, credentials, egress)?;
            Parts::new(datadog::LIMITS, datadog::LINE_BYTES, made)
        }
        config::Destination::SplunkHec(config) => {
            let made = splunk_hec::prepare(config, credentials, egress)?;
            Parts::new(splunk_hec::LIMITS, splunk_hec::LINE_BYTES, made)
        }
        config::Destination::Elasticsearch(config) => {
            let made = elasticsearch::prepare(config, credentials, egress)?;
            Parts::new(elasticsearch::LIMITS, any, made)
        }
        config::Destination::Loki(config) => {
            let made = loki::prepare(config, credentials, egress)?;
            Parts::new(loki::LIMITS, loki::LINE_BYTES, made)
        }
        config::Destination::OtlpHttp(config) => {
            let made = otlp_http::prepare(config, credentials, egress)?;
            Parts::new(otlp_http::LIMITS, any, made)
        }
        config::Destination::SumoLogic(config) => {
            let made = sumologic::prepare(config, credentials, environment, egress)?;
            Parts::new(sumologic::LIMITS, sumologic::LINE_BYTES, made)
        }
        config::Destination::LogDna(config) => {
            let made = logdna::prepare(config, credentials, environment, egress)?;
            Parts::new(logdna::LIMITS, logdna::LINE_BYTES, made)
        }
        config::Destination::S3(config) => {
            let made = s3::prepare(config, credentials, egress)?;
            Parts::new(s3::limits(config), any, made).gathered(s3::gathering(config))
        }
        config::Destination::Slack(config) => {
            let made = slack::prepare(config, credentials, egress)?;
            Parts::new(slack::LIMITS, slack::LINE_BYTES, made)
                .gathered(slack::GATHERING)
                .of_events()
        }
        config::Destination::Webhook(config) => {
            let made = webhook::prepare(config, credentials, egress)?;
            Parts::new(webhook::LIMITS, any, made).of_events()
        }
    })
}

/// A receiver that acknowledges nothing.
fn stream(
    context: &Context,
    line_bytes: usize,
    (encoder, endpoint): (Box<dyn Encode>, Endpoint),
) -> Parts {
    // What is confirmed is whole batches.
    let limits = BatchLimits { bytes: LARGEST_SYSLOG_BATCH, lines: usize::MAX };
    let (window, bytes) = (context.redelivery_window, context.redelivery_bytes);
    let destination = SyslogTls::new(endpoint, context.egress.clone(), window, bytes);
    Parts::new(limits, line_bytes, (encoder, destination))
}

fn credentials(context: &Context, row: &WorkableDrain) -> Result<Credentials, DrainError> {
    let Some(sealed) = &row.sealed_credentials else { return Ok(Credentials::default()) };
    let opened = context.opening_key.open(row.id.uuid(), sealed)?;
    // Without serde's words, which could quote a secret.
    let read = serde_json::from_slice::<Option<_>>(opened.expose()).map_err(|_| OpenError)?;
    Ok(read.unwrap_or_default())
}

fn parse<T: DeserializeOwned>(what: &'static str, value: Value) -> Result<T, DrainError> {
    serde_json::from_value(value).map_err(|error| DrainError::Invalid(what, error))
}
