//! Has the log stream give up what is not kept any longer.
//!
//! All workers do, a little at a time; the database keeps two from doing the same.

use std::time::Duration;

use service::Shutdown;
use store::{Store, StoreError};
use tokio::time::sleep;

const LOOK_EVERY: Duration = Duration::from_secs(15);
/// Deleted at a time. While it goes on, readers of the stream get nothing new.
const BLOCKS: i32 = 100;
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
        loop {
            match self.trim().await {
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

    async fn trim(&self) -> Result<(), StoreError> {
        let environments = self.store.environments_to_trim().await?;
        for environment in &environments {
            while self.store.move_horizon(*environment).await? {}
            while self.store.delete_passed(*environment, BLOCKS).await? >= BLOCKS {
                sleep(PAUSE).await;
            }
        }
        if !environments.is_empty() {
            while self.store.drop_passed_day().await? {}
        }
        Ok(())
    }
}
