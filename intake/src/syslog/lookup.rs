//! Whose a message is: by its token, or by its connection's client certificate.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use service::Shutdown;
use tokio::time::{Instant, sleep};

use crate::Intake;
use crate::sources::{Refused, Source};

/// How long a connection waits while the sources cannot be read, and how often it asks.
const WAIT: Duration = Duration::from_mins(1);
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Looks up the sources of messages.
pub(crate) struct Lookup {
    intake: Intake,
    /// The client's certificate, in DER.
    certificate: Option<Vec<u8>>,
    /// Of those who can wait.
    shutdown: Option<Shutdown>,
    /// The last token that was refused, and when.
    refused: Mutex<Option<(String, Instant)>>,
}

/// A message is nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotFound {
    /// Nothing says whose it is.
    #[error("it has no token")]
    NoToken,
    /// That is of no source that may write.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl Lookup {
    /// For a connection, whose sender can wait.
    pub(crate) const fn of_connection(
        intake: Intake,
        certificate: Option<Vec<u8>>,
        shutdown: Shutdown,
    ) -> Self {
        Self { intake, certificate, shutdown: Some(shutdown), refused: Mutex::new(None) }
    }

    /// For datagrams, which others come after.
    pub(crate) const fn of_datagrams(intake: Intake) -> Self {
        Self { intake, certificate: None, shutdown: None, refused: Mutex::new(None) }
    }

    /// Whether there is a client certificate.
    pub(crate) const fn has_certificate(&self) -> bool {
        self.certificate.is_some()
    }

    /// The source of a message with this token. Who can wait does so while that cannot be looked up: a syslog
    /// sender that is refused has lost what it sent.
    pub(crate) async fn find(&self, token: Option<&str>) -> Result<Arc<Source>, NotFound> {
        let until = Instant::now() + WAIT;
        loop {
            let found = self.look(token).await;
            match (&found, &self.shutdown) {
                (Err(NotFound::Refused(Refused::Unread)), Some(shutdown))
                    if Instant::now() < until && !shutdown.is_requested() =>
                {
                    // Losing either arm loses nothing.
                    tokio::select! {
                        () = sleep(ASK_EVERY) => {}
                        () = shutdown.requested() => {}
                    }
                }
                _ => return found,
            }
        }
    }

    fn was_refused(&self, token: &str) -> bool {
        let is_it =
            |(refused, at): &(String, Instant)| refused == token && at.elapsed() < ASK_EVERY;
        self.lock().as_ref().is_some_and(is_it)
    }

    fn lock(&self) -> MutexGuard<'_, Option<(String, Instant)>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look(&self, token: Option<&str>) -> Result<Arc<Source>, NotFound> {
        let sources = &self.intake.sources;
        match (token, &self.certificate) {
            // Whoever sends it holds up all others, or those behind it in its connection.
            (Some(token), _) if self.shutdown.is_none() || self.was_refused(token) => {
                Ok(sources.known_by_token(token)?)
            }
            (Some(token), _) => {
                let found = sources.by_token(token).await;
                if found.as_ref().is_err_and(|refused| *refused != Refused::Unread) {
                    *self.lock() = Some((token.to_owned(), Instant::now()));
                }
                Ok(found?)
            }
            (None, Some(certificate)) => Ok(sources.by_certificate(certificate).await?),
            (None, None) => {
                self.intake.counts.unknown();
                Err(NotFound::NoToken)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt as _;
    use model::Id;

    use super::*;
    use crate::fixture::{intake, row, token};

    #[tokio::test]
    async fn who_can_wait_does_so_until_the_sources_are_read() {
        let shutdown = Shutdown::new();
        let intake = intake(&Arc::default(), Vec::new());
        let waiting = Lookup::of_connection(intake.clone(), None, shutdown.clone());
        let a_token = token(1);
        let find = shutdown.spawn(async move { waiting.find(Some(&token(1))).await });
        // It asks at the same time, and sees the same.
        let datagrams = Lookup::of_datagrams(intake.clone());
        let refused = datagrams.find(Some(&a_token)).await.unwrap_err();
        // A datagram waits for nothing.
        assert_eq!(refused, NotFound::Refused(Refused::UnknownToken));
        assert!(!find.is_finished());
        intake.sources.know(vec![row(Id::generate(), &a_token)]);
        assert!(find.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_token_that_was_refused_holds_up_nobody_for_a_second() {
        let intake = intake(&Arc::default(), vec![row(Id::generate(), &token(1))]);
        let mut stale = token(1);
        stale.replace_range(31.., "b");
        let connection = Lookup::of_connection(intake, None, Shutdown::new());
        *connection.lock() = Some((stale.clone(), Instant::now()));
        for _ in 0..3 {
            let refused = connection.find(Some(&stale)).now_or_never().unwrap().unwrap_err();
            assert_eq!(refused, NotFound::Refused(Refused::WrongToken));
            assert!(connection.find(Some(&token(1))).now_or_never().unwrap().is_ok());
        }
        *connection.lock() = Some((stale.clone(), Instant::now() - ASK_EVERY));
        assert!(!connection.was_refused(&stale));
    }

    #[tokio::test]
    async fn who_waits_ends_with_the_process() {
        let shutdown = Shutdown::new();
        let waiting =
            Lookup::of_connection(intake(&Arc::default(), Vec::new()), None, shutdown.clone());
        shutdown.request();
        assert!(waiting.find(Some(&token(1))).await.is_err());
    }
}
