//! An HTTPS POST for each event.

use model::validation::Checks;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Configuration, Server, rules};

/// A web server that gets a request for each event, for the kind `webhook`, which takes events only, not
/// what programs print.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// An https URL without user name, password and fragment. It is shown: secrets belong into the
    /// credentials.
    #[schema(example = "https://hooks.example.com/spillway")]
    pub url: String,
    /// The authorities to trust, in PEM; the system's, if left out.
    pub ca_certificates: Option<String>,
}

impl Configuration for Webhook {
    fn check(&mut self, checks: &mut Checks) {
        rules::url(checks, "destination.url", &mut self.url);
        rules::authorities(checks, self.ca_certificates.as_deref());
    }

    fn server(&self) -> Server {
        Server::of_url(&self.url)
    }
}
