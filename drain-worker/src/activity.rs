//! What users and the platform did goes from its table into the log stream.
//!
//! Invariants: a row is marked only after its block is durable; its block's id is in the row, so the stream
//! has it once, whoever tries how often; and of each environment one row at a time is on its way, so that
//! the stream has them in their order.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use log_stream::{AppendError, Block, EncodeError, LogStream};
use model::{Actor, EnvironmentTag, Event, Id, Origin, Record, Source, Target, Timestamp};
use service::Shutdown;
use store::activity::ClaimedActivity;
use store::{Store, StoreError};
use tokio::sync::Notify;
use tokio::time::sleep;

/// Backs up the news of changed drains; what a worker itself writes down is not told to the others.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Rows that are on their way at a time, each of another environment.
const AT_A_TIME: i64 = 32;
/// Longer than an append may take. Were it not, another worker would append the same block.
const CLAIM: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_secs(5);
/// Further from now than this, the stream may refuse a block for its day.
const FAR: Duration = Duration::from_hours(47);

/// Appends activity.
pub(crate) struct Appender {
    pub(crate) store: Store,
    pub(crate) stream: Arc<dyn LogStream>,
    /// Told when there may be something.
    pub(crate) news: Arc<Notify>,
}

impl Appender {
    /// Appends until the shutdown is requested; what is on its way by then is finished.
    pub(crate) async fn run(self, shutdown: Shutdown) {
        let mut trouble = false;
        while !shutdown.is_requested() {
            match self.append_some().await {
                // Others may have waited for these.
                Ok(true) => continue,
                Ok(false) => trouble = false,
                // Said once, not every two seconds.
                Err(error) => {
                    if !std::mem::replace(&mut trouble, true) {
                        tracing::warn!("activity cannot be looked at: {error}");
                    }
                }
            }
            // Losing an arm is safe: each only says that it is time to look again.
            tokio::select! {
                () = shutdown.requested() => {}
                () = self.news.notified() => {}
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Whether something was appended.
    async fn append_some(&self) -> Result<bool, StoreError> {
        let claimed = self.store.claim_activity(CLAIM, AT_A_TIME).await?;
        let outcomes = join_all(claimed.iter().map(|one| self.append(one))).await;
        outcomes.into_iter().try_fold(false, |some, outcome| Ok(outcome? || some))
    }

    async fn append(&self, claimed: &ClaimedActivity) -> Result<bool, StoreError> {
        let id = claimed.row.id;
        let block = match block(claimed) {
            Ok(block) => Arc::new(block),
            Err(error) => {
                tracing::error!(activity = %id, "it cannot be recorded: {error}");
                self.store.release_activity(id, AGAIN).await?;
                return Ok(false);
            }
        };
        match self.stream.append(Arc::clone(&block)).await {
            Ok(()) => {
                self.store.activity_appended(id).await?;
                Ok(true)
            }
            Err(AppendError::Refused(_)) if is_far(block.made_at()) => {
                tracing::info!(activity = %id, "its block's day takes no more; it gets another");
                self.store.renew_activity_block(claimed, block.made_at()).await?;
                Ok(false)
            }
            Err(error) => {
                tracing::warn!(activity = %id, "it is not recorded yet: {error}");
                self.store.release_activity(id, AGAIN).await?;
                Ok(false)
            }
        }
    }
}

fn is_far(made_at: SystemTime) -> bool {
    let now = SystemTime::now();
    let apart = now.duration_since(made_at).or_else(|_| made_at.duration_since(now));
    apart.is_ok_and(|apart| apart > FAR)
}

/// The block that a row is in the stream as.
fn block(claimed: &ClaimedActivity) -> Result<Block, EncodeError> {
    let row = &claimed.row;
    let origin = Origin {
        // The row is its producer's only record.
        producer: Id::from_uuid(row.id.uuid()),
        source: Source::Activity,
        environment: EnvironmentTag {
            id: row.environment_id,
            handle: claimed.environment_handle.clone(),
            organization: claimed.organization_id,
        },
        app: None,
        database: None,
        session: None,
    };
    let event = Event::Activity {
        actor: match row.actor_id {
            Some(id) => Actor::User { id: Id::from_uuid(id), email: row.actor.clone() },
            None => Actor::Platform,
        },
        action: row.action.clone(),
        target: Box::new(Target {
            kind: row.target_kind.clone(),
            id: row.target_id,
            handle: row.target_handle.clone(),
        }),
        detail: row.detail.clone(),
    };
    let at = Timestamp::from_date_time(row.at);
    let record = Record { origin: Arc::new(origin), seq: 0, at, event };
    Block::encode_as(claimed.block_id, row.environment_id, &[record])
}
