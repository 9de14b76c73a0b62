//! Messages in a channel of Slack.

use model::validation::Checks;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Configuration, Server, rules};

/// An incoming webhook of Slack, for the kind `slack`, which takes events only, not what programs print.
/// The credential `url` is the webhook's address, which holds its secret.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Slack {
    /// The authorities to trust, in PEM; the system's, if left out.
    pub ca_certificates: Option<String>,
}

impl Configuration for Slack {
    fn check(&mut self, checks: &mut Checks) {
        rules::authorities(checks, self.ca_certificates.as_deref());
    }

    fn server(&self) -> Server {
        // The server is the credential itself.
        Server(String::new())
    }
}
