//! Tells whom an environment wants told that a drain fails, or has recovered.
//!
//! Invariants: what is to be told stands in a table before anybody is told, and until somebody has taken
//! it, so a notice is delivered at least once or given up after more than an hour; and an error that is
//! kept holds no secret.

use std::time::Duration;

use futures_util::future::join_all;
use model::OpeningKey;
use service::Shutdown;
use store::notices::ClaimedNotice;
use store::{Store, StoreError};
use tokio::time::{sleep, timeout};

use crate::egress::Egress;

mod email;
mod webhook;

pub(crate) use email::Mailer;
pub use email::SmtpError;

const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Notices that are on their way at a time.
const AT_A_TIME: i64 = 16;
const DEADLINE: Duration = Duration::from_secs(90);
/// Longer than the deadline. Were it not, another worker would tell the same.
const CLAIM: Duration = Duration::from_mins(3);
const FIRST_RETRY: Duration = Duration::from_secs(10);
const MOST_ATTEMPTS: i32 = 10;
/// Messages longer than this say no more.
const LONGEST_ERROR: usize = 1000;

/// Sends notices.
pub(crate) struct Notifier {
    pub(crate) store: Store,
    pub(crate) egress: Egress,
    pub(crate) opening_key: OpeningKey,
    /// None: the operator has set no SMTP server.
    pub(crate) mailer: Option<Mailer>,
}

impl Notifier {
    /// Tells until the shutdown is requested.
    pub(crate) async fn run(self, shutdown: Shutdown) {
        let mut trouble = false;
        while !shutdown.is_requested() {
            // Losing the telling is safe: what was not taken is told again when its claim runs out.
            let told = tokio::select! {
                () = shutdown.requested() => return,
                told = self.tell_some() => told,
            };
            match told {
                Ok(true) => continue,
                Ok(false) => trouble = false,
                // Said once, not every two seconds.
                Err(error) => {
                    if !std::mem::replace(&mut trouble, true) {
                        tracing::warn!("notices cannot be looked at: {error}");
                    }
                }
            }
            // Losing the wait loses nothing.
            tokio::select! {
                () = shutdown.requested() => {}
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Whether there was something to tell.
    async fn tell_some(&self) -> Result<bool, StoreError> {
        let claimed = self.store.claim_notices(CLAIM, AT_A_TIME).await?;
        for outcome in join_all(claimed.iter().map(|notice| self.tell(notice))).await {
            outcome?;
        }
        Ok(!claimed.is_empty())
    }

    async fn tell(&self, notice: &ClaimedNotice) -> Result<(), StoreError> {
        let id = notice.notice_id;
        if !notice.is_wanted {
            return self.store.drop_notice(id).await;
        }
        let told = timeout(DEADLINE, self.send(notice)).await;
        match told.unwrap_or_else(|_| Err(format!("no answer within {DEADLINE:?}"))) {
            Ok(()) => self.store.notice_delivered(id).await,
            Err(error) => {
                let what = if notice.email.is_some() { "an e-mail" } else { "the webhook" };
                let error: String = format!("{what}: {error}").replace('\0', "");
                let error: String = error.chars().take(LONGEST_ERROR).collect();
                let again_after = again_after(notice.attempts);
                tracing::warn!(notice = %id, environment = %notice.environment_handle, again = again_after.is_some(), "not told: {error}");
                self.store.notice_failed(id, &error, again_after).await
            }
        }
    }

    async fn send(&self, notice: &ClaimedNotice) -> Result<(), String> {
        match (&notice.email, &self.mailer) {
            (None, _) => webhook::send(notice, &self.egress, &self.opening_key).await,
            (Some(email), Some(mailer)) => mailer.send(notice, email).await,
            (Some(_), None) => {
                Err("the operator has set no SMTP server for the workers (--smtp-url)".to_owned())
            }
        }
    }
}

/// How long to wait after so many attempts; None: give up. Twice as long each time, and a part of it left
/// to chance, so that what failed together does not return together.
fn again_after(attempts: i32) -> Option<Duration> {
    let doublings = u32::try_from(attempts.checked_sub(1)?).ok()?;
    (attempts < MOST_ATTEMPTS).then(|| {
        let longest = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(doublings));
        longest.mul_f64(0.8 + 0.2 * rand::random::<f64>())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_taken_is_told_again_for_more_than_an_hour() {
        let waits: Vec<_> = (1..).map_while(again_after).collect();
        assert_eq!(waits.len(), 9);
        let all: Duration = waits.iter().sum();
        assert!((Duration::from_hours(1)..Duration::from_hours(2)).contains(&all), "{all:?}");
        assert!(waits.iter().all(|wait| *wait >= Duration::from_secs(8)));
    }
}
