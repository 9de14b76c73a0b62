//! A drain's row to the parts of its pipeline.

use log_stream::Position;
use model::{Drain as DrainKind, Id, OpenError, Source};
use serde::de::DeserializeOwned;
use serde_json::Value;
use store::leases::WorkableDrain;
use store::{Store, StoreError};

use crate::batch::BatchLimits;
use crate::destination::Destination;
use crate::destination::https_post::{
    HttpsConfigError, HttpsPost, HttpsPostConfig, HttpsPostCredentials,
};
use crate::destination::syslog_tls::{SyslogTls, SyslogTlsConfig};
use crate::encode::Encode;
use crate::encode::json::JsonEncoder;
use crate::encode::syslog::SyslogEncoder;
use crate::lines::{Checkpoint, Cuts, Wanted};
use crate::pipeline::Context;
use crate::tls::TlsConfigError;

/// Of bytes: a large write for TLS and TCP.
const LARGEST_SYSLOG_BATCH: usize = 128 * 1024;

/// What a pipeline is made of.
pub(crate) struct Drain {
    pub(crate) batch: BatchLimits,
    pub(crate) wanted: Wanted,
    pub(crate) encoder: Box<dyn Encode>,
    pub(crate) destination: Box<dyn Destination>,
}

/// The drain cannot work as it is configured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DrainError {
    #[error("the drain's {0} cannot be read: {1}")]
    Invalid(&'static str, serde_json::Error),
    #[error("the drain's kind `{0}` is unknown to this version")]
    Kind(String),
    #[error("the drain's credentials cannot be opened: {0}; set them again")]
    Sealed(#[from] OpenError),
    #[error(transparent)]
    Tls(#[from] TlsConfigError),
    #[error(transparent)]
    Https(#[from] HttpsConfigError),
}

/// The sources that a drain takes.
pub(crate) fn sources(row: &WorkableDrain) -> Vec<Source> {
    [
        (row.drain_apps, Source::App),
        (row.drain_databases, Source::Database),
        (row.drain_ephemeral_sessions, Source::EphemeralSession),
    ]
    .into_iter()
    .filter_map(|(wanted, source)| wanted.then_some(source))
    .collect()
}

/// Checks a drain's configuration and makes its parts; connects to nothing.
pub(crate) fn prepare(context: &Context, row: &WorkableDrain) -> Result<Drain, DrainError> {
    let redraws = parse("option `redraws`", Value::from(row.redraws.as_str()))?;
    let wanted = Wanted {
        sources: sources(row),
        cuts: Cuts { limit: context.line_bytes, redraws },
        control_sequences: parse(
            "option `control_sequences`",
            Value::from(row.control_sequences.as_str()),
        )?,
        open_limit: context.batch.bytes,
    };
    let destination = row.destination.clone();
    let egress = context.egress.clone();
    let mut batch = context.batch;
    let (encoder, destination): (Box<dyn Encode>, Box<dyn Destination>) = match row.kind.as_str() {
        "syslog_tls_tcp" => {
            let config: SyslogTlsConfig = parse("destination", destination)?;
            let (window, bytes) = (context.redelivery_window, context.redelivery_bytes);
            // What is confirmed is whole batches.
            batch.bytes = batch.bytes.min(LARGEST_SYSLOG_BATCH);
            let syslog = SyslogTls::new(&config, egress, window, bytes)?;
            (Box::new(SyslogEncoder::new()), Box::new(syslog))
        }
        "https_post" => {
            let config: HttpsPostConfig = parse("destination", destination)?;
            let credentials = match &row.sealed_credentials {
                None => HttpsPostCredentials::default(),
                Some(sealed) => {
                    let opened = context.opening_key.open(row.id.uuid(), sealed)?;
                    // Without serde's words, which could quote a secret.
                    serde_json::from_slice::<Option<_>>(opened.expose())
                        .map_err(|_| OpenError)?
                        .unwrap_or_default()
                }
            };
            let https = HttpsPost::new(&config, &credentials, egress)?;
            (Box::new(JsonEncoder::new(config.format)), Box::new(https))
        }
        kind => return Err(DrainError::Kind(kind.to_owned())),
    };
    Ok(Drain { batch, wanted, encoder, destination })
}

fn parse<T: DeserializeOwned>(what: &'static str, value: Value) -> Result<T, DrainError> {
    serde_json::from_value(value).map_err(|error| DrainError::Invalid(what, error))
}

/// How far a drain has got.
pub(crate) async fn position(
    store: &Store,
    drain: Id<DrainKind>,
) -> Result<Checkpoint, StoreError> {
    let row = store.drain_position(drain).await?;
    let unsigned = |number: i64| u64::try_from(number).unwrap_or_default();
    let at = |xid, seq| Position { xid: unsigned(xid), seq: unsigned(seq) };
    Ok(Checkpoint {
        low: at(row.low_xid, row.low_seq),
        high: at(row.high_xid, row.high_seq),
        open: serde_json::from_value(row.open)
            .map_err(|error| StoreError::Invalid(format!("the position of a drain: {error}")))?,
    })
}
