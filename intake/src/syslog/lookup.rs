//! Whose a message is: by its token, or by its connection's client certificate.

use std::sync::Arc;
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
        Self { intake, certificate, shutdown: Some(shutdown) }
    }

    /// For datagrams, which others come after.
    pub(crate) const fn of_datagrams(intake: Intake) -> Self {
        Self { intake, certificate: None, shutdown: None }
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

    async fn look(&self, token: Option<&str>) -> Result<Arc<Source>, NotFound> {
        let sources = &self.intake.sources;
        match (token, &self.certificate) {
            (Some(token), _) => Ok(sources.by_token(token).await?),
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
        assert_eq!(refused, NotFound::Refused(Refused::Unread));
        assert!(!find.is_finished());
        intake.sources.know(vec![row(Id::generate(), &a_token)]);
        assert!(find.await.unwrap().is_ok());
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
