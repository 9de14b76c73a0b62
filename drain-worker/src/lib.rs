//! Readers of the stream that deliver to customers' endpoints.
//!
//! Each log drain has one pipeline in one worker: it reads the stream from the drain's position,
//! makes lines, and sends them until the endpoint has them. Workers share the drains by leases. Beside
//! that, each worker appends to the stream what users and the platform did, sends notices of it, and trims the
//! stream.

use std::sync::Arc;
use std::time::Duration;

use log_stream::{ConnectError, LogStream, Pages, PostgresSettings, PostgresStream};
use model::{Id, OpeningKey, Secret};
use service::Shutdown;
use store::{Store, StoreError};
use tokio::sync::Notify;

mod activity;
mod batch;
mod concurrency;
mod config;
mod destination;
mod drain;
mod drain_resend;
mod drain_test;
mod egress;
mod encode;
mod lease;
mod lines;
mod notices;
mod pipeline;
mod retention;
mod room;
mod short_pause;
mod signing;
mod supervisor;
mod tcp_state;
mod tls;
mod trace;

pub use config::{Config, Connections, Settings};
pub use notices::SmtpError;

use activity::Appender;
use batch::BatchLimits;
use egress::Egress;
use notices::{Mailer, Notifier};
use pipeline::{Context, Reports};
use retention::Trimmer;
use room::Room;
use supervisor::Supervisor;

/// Bytes of blocks that a drain reads at a time; decompressed one by one.
const PAGE_BYTES: u32 = 512 * 1024;
/// Drains that have such a page at a time, of those that follow the stream and of those that catch up.
const PAGES: usize = 4;

/// A worker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The key that opens credentials is not to be had.
    #[error("cannot read the drains' opening key from {path}: {reason}")]
    OpeningKey {
        /// The file.
        path: String,
        /// Why not.
        reason: String,
    },
    /// The control data is not to be had.
    #[error("the drain worker cannot use the database: {0}")]
    Store(#[from] StoreError),
    /// The stream is not to be had.
    #[error("the drain worker cannot use the log stream: {0}")]
    Stream(#[from] ConnectError),
    /// The mail server is not set as it must be.
    #[error(transparent)]
    Smtp(#[from] SmtpError),
}

/// A worker ended otherwise than by request.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Pipelines did not end in time; what they had not confirmed is delivered again.
    #[error("some drains did not stop within {0:?}")]
    NotStopped(Duration),
}

/// A worker that has connected and not begun.
pub struct Bound {
    supervisor: Supervisor,
    appender: Appender,
    notifier: Notifier,
    trimmer: Trimmer,
    store: Store,
}

/// Connects; fails if the database, the stream or the key is not to be had.
pub async fn bind(config: Config) -> Result<Bound, StartError> {
    let Config { settings, connections } = config;
    let key_file = &connections.drain_opening_key;
    let unusable =
        |reason: String| StartError::OpeningKey { path: key_file.display().to_string(), reason };
    let text = tokio::fs::read_to_string(key_file).await.map_err(|e| unusable(e.to_string()))?;
    let opening_key: OpeningKey = Secret::new(text)
        .expose()
        .parse()
        .map_err(|e: model::InvalidKey| unusable(e.to_string()))?;
    let mailer = match (&settings.smtp_url, &settings.smtp_from) {
        (Some(url), Some(from)) => Some(Mailer::new(url, from)?),
        _ => None,
    };
    let url = &connections.drain_database_url;
    let store = Store::connect_impatiently(url, settings.drain_database_connections)?;
    store.ping().await?;
    let pages = Pages::new(PAGES);
    let stream = PostgresStream::connect(PostgresSettings {
        // Of activity, which is little.
        writers: 1,
        page_bytes: PAGE_BYTES,
        pages: Some(pages.clone()),
        ..PostgresSettings::new(Secret::new(url.clone()))
    })
    .await?;
    let bytes = |setting: u32| usize::try_from(setting).unwrap_or(usize::MAX);
    let millis = |setting: u32| Duration::from_millis(setting.into());
    let (stream, activity): (Arc<dyn LogStream>, _) = (Arc::new(stream), Arc::new(Notify::new()));
    let appender =
        Appender { store: store.clone(), stream: stream.clone(), news: activity.clone() };
    let egress = Egress::new(settings.drain_allow_network.clone());
    let notifier = Notifier {
        store: store.clone(),
        egress: egress.clone(),
        opening_key: opening_key.clone(),
        mailer,
    };
    let context = Context {
        reports: Reports::start(&store, settings.failing_after()),
        store: store.clone(),
        stream,
        room: Room::default(),
        pages,
        egress,
        batch: BatchLimits {
            bytes: bytes(settings.drain_batch_bytes),
            lines: bytes(settings.drain_batch_lines),
        },
        line_bytes: bytes(settings.drain_line_bytes),
        redelivery_window: millis(settings.drain_redelivery_window_ms),
        redelivery_bytes: bytes(settings.drain_redelivery_bytes),
        opening_key,
        activity,
    };
    let supervisor = Supervisor::new(context, Id::generate(), settings.lease());
    let trimmer = Trimmer { store: store.clone() };
    Ok(Bound { supervisor, appender, notifier, trimmer, store })
}

impl Bound {
    /// Works until the shutdown is requested, then gives its drains back.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), RunError> {
        let Self { supervisor, appender, notifier, trimmer, store } = self;
        let ((), (), (), ended) = tokio::join!(
            appender.run(shutdown.clone()),
            notifier.run(shutdown.clone()),
            trimmer.run(shutdown.clone()),
            supervisor.run(shutdown)
        );
        store.close().await;
        ended
    }
}
