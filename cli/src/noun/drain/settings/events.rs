//! What drains of events can be told on the command line.

use anyhow::Result;
use clap::Args;
use serde_json::{Map, Value, json};

use super::destinations::{Destination, SignIn};
use super::{Headers, Signing, secrets};

/// Where Slack's messages go.
#[derive(Debug, Args)]
pub(crate) struct SlackDestination {
    /// A file with the incoming webhook's address, which is a secret; - for standard input.
    #[arg(long, value_name = "FILE")]
    url_file: String,
}

impl Destination for SlackDestination {
    const KIND: &'static str = "slack";

    fn parts(self) -> Result<(Value, Map<String, Value>)> {
        Ok((json!({}), secrets([("url", Some(self.url_file))])?))
    }
}

/// Where a request goes for each event.
#[derive(Debug, Args)]
pub(crate) struct WebhookDestination {
    /// The receiver's address, https://...
    #[arg(long, value_name = "URL")]
    url: String,
    #[command(flatten)]
    headers: Headers,
    #[command(flatten)]
    sign_in: SignIn,
    #[command(flatten)]
    signing: Signing,
}

impl Destination for WebhookDestination {
    const KIND: &'static str = "webhook";

    fn parts(self) -> Result<(Value, Map<String, Value>)> {
        let mut credentials = self.sign_in.read()?;
        credentials.extend(self.signing.read()?);
        self.headers.insert_into(&mut credentials)?;
        Ok((json!({ "url": self.url }), credentials))
    }
}
