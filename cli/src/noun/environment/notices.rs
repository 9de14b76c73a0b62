//! Whom an environment has told of log drains that fail, as the API takes it.

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::prompt::file_text;

/// Who is told that a log drain has failed for some minutes, and that it has recovered.
#[derive(Debug, Args)]
pub(crate) struct Notices {
    /// Post a notice to this https URL when a log drain fails, and when it has recovered; empty: to none.
    #[arg(long = "notice-webhook-url", value_name = "URL")]
    webhook_url: Option<String>,
    /// A file with the secret that those posts are signed with (Standard Webhooks: whsec_...), - for
    /// standard input; empty: none.
    #[arg(long = "notice-webhook-secret-file", value_name = "FILE")]
    webhook_secret_file: Option<String>,
    /// Send those notices to this e-mail address; may be repeated, and replaces all others; empty: to none.
    #[arg(long = "notice-email", value_name = "ADDRESS")]
    emails: Vec<String>,
}

impl Notices {
    /// The field of the API's request, if anything is given.
    pub(super) fn insert_into(self, body: &mut Map<String, Value>) -> Result<()> {
        let mut notices = Map::new();
        if let Some(url) = self.webhook_url {
            notices.insert("webhook_url".to_owned(), null_if_empty(url));
        }
        if let Some(file) = self.webhook_secret_file {
            let secret = if file.is_empty() { String::new() } else { secret(&file)? };
            notices.insert("webhook_secret".to_owned(), null_if_empty(secret));
        }
        if !self.emails.is_empty() {
            let emails: Vec<_> =
                self.emails.into_iter().filter(|email| !email.is_empty()).collect();
            notices.insert("emails".to_owned(), json!(emails));
        }
        if !notices.is_empty() {
            body.insert("notices".to_owned(), notices.into());
        }
        Ok(())
    }
}

fn null_if_empty(text: String) -> Value {
    if text.is_empty() { Value::Null } else { text.into() }
}

fn secret(file: &str) -> Result<String> {
    let text = file_text(file)?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        bail!("{file} is empty: it should hold the webhook secret");
    }
    Ok(secret.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        notices: Notices,
    }

    fn body(line: &str) -> Value {
        let words =
            std::iter::once("update").chain(line.split(' ').filter(|word| !word.is_empty()));
        let mut body = Map::new();
        Line::try_parse_from(words).unwrap().notices.insert_into(&mut body).unwrap();
        body.into()
    }

    #[test]
    fn only_what_is_given_is_changed_and_empty_is_none() {
        assert_eq!(body(""), json!({}));
        assert_eq!(
            body("--notice-email a@b --notice-email c@d"),
            json!({ "notices": { "emails": ["a@b", "c@d"] } })
        );
        assert_eq!(
            body("--notice-webhook-url= --notice-webhook-secret-file= --notice-email="),
            json!({ "notices": { "webhook_url": null, "webhook_secret": null, "emails": [] } })
        );
    }
}
