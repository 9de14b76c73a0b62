//! Has the log stream give up what is not kept any longer.
//!
//! All workers do, a little at a time; the database keeps two from doing the same.

use std::time::{Duration, Instant};

use service::Shutdown;
use store::{Store, StoreError};
use tokio::time::sleep;

const LOOK_EVERY: Duration = Duration::from_secs(15);
const DROP_EVERY: Duration = Duration::from_mins(5);
/// Deleted at a time. While it goes on, readers of the stream get nothing new.
const BLOCKS: i32 = 100;
/// The same of lines that were refused.
const LINES: i64 = 200;
/// The same of those of drains that were deleted.
const LINES_OF_NOBODY: i64 = 5000;
/// Between two times.
const PAUSE: Duration = Duration::from_millis(50);

/// Trims the stream.
pub(crate) struct Trimmer {
    pub(crate) store: Store,
}

impl Trimmer {
    /// Trims until the shutdown is requested.
    pub(crate) async fn run(self, shutdown: Shutdown) {
        // Losing the trimming is losing nothing: what it has not done is done the next time.
        tokio::select! {
            () = shutdown.requested() => {}
            () = self.trim_always() => {}
        }
    }

    async fn trim_always(&self) {
        let mut trouble = false;
        let mut dropped = None;
        loop {
            match self.trim(&mut dropped).await {
                Ok(()) => trouble = false,
                // Said once, not every 15 seconds.
                Err(error) => {
                    if !std::mem::replace(&mut trouble, true) {
                        tracing::warn!("the log stream cannot be trimmed: {error}");
                    }
                }
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn trim(&self, dropped: &mut Option<Instant>) -> Result<(), StoreError> {
        for environment in self.store.environments_to_trim().await? {
            while self.store.move_horizon(environment).await? {}
            while self.store.delete_passed(environment, BLOCKS).await? >= BLOCKS {
                sleep(PAUSE).await;
            }
        }
        while self.store.forget_lines_of_a_deleted_drain(LINES_OF_NOBODY).await? {
            sleep(PAUSE).await;
        }
        if dropped.is_none_or(|at| at.elapsed() >= DROP_EVERY) {
            while self.store.drop_passed_day().await? {}
            while self.store.forget_rejected_lines(LINES).await? >= LINES {
                sleep(PAUSE).await;
            }
            *dropped = Some(Instant::now());
        }
        Ok(())
    }
}
