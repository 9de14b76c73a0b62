//! Whom an environment has told of drains that fail.

use destinations::{check_signing_secret, check_webhook_url};
use model::validation::Checks;
use model::{Environment, Id, Secret};
use serde::Deserialize;
use store::notices::NoticeChange;
use utoipa::ToSchema;

use crate::app::App;
use crate::app::apps::null_is_a_value;

const MOST_EMAILS: usize = 20;

/// Who is told that a log drain has failed for some minutes, and that it has recovered after that. What is
/// left out stays.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NoticesChange)]
#[allow(clippy::option_option, reason = "absent, null and a value are three things")]
pub(crate) struct NoticesPatch {
    /// An https URL that is posted to, in the form of Standard Webhooks; null: none. It is shown.
    #[serde(default, deserialize_with = "null_is_a_value")]
    #[schema(value_type = Option<String>)]
    webhook_url: Option<Option<String>>,
    /// The secret with which posts are signed (Standard Webhooks): `whsec_` and 24 to 64 bytes in base64;
    /// null: none. Never answered.
    #[serde(default, deserialize_with = "null_is_a_value")]
    #[schema(value_type = Option<String>, write_only)]
    webhook_secret: Option<Option<Secret<String>>>,
    /// E-mail addresses, at most 20, in whole.
    emails: Option<Vec<String>>,
}

impl NoticesPatch {
    /// Notes what is wrong; answers the rest in the form in which it is kept.
    pub(super) fn checked(
        self,
        app: &App,
        environment: Id<Environment>,
        checks: &mut Checks,
    ) -> NoticeChange {
        let Self { mut webhook_url, webhook_secret, emails } = self;
        if let Some(Some(url)) = &mut webhook_url {
            check_webhook_url(checks, "notices.webhook_url", url);
        }
        if let Some(Some(secret)) = &webhook_secret {
            check_signing_secret(checks, "notices.webhook_secret", secret);
        }
        if let Some(emails) = &emails {
            let field = "notices.emails";
            checks.rule(emails.len() <= MOST_EMAILS, field, "must be at most 20");
            checks.rule(
                emails.iter().all(|email| is_email(email)),
                field,
                "must be e-mail addresses, such as ada@example.com",
            );
            let twice = emails.iter().enumerate().any(|(at, email)| {
                emails.iter().take(at).any(|before| before.eq_ignore_ascii_case(email))
            });
            checks.rule(!twice, field, "must be different ones");
        }
        let sealed_webhook_secret = webhook_secret.map(|secret| {
            secret.map(|it| app.keys.worker.seal(environment.uuid(), it.expose().as_bytes()))
        });
        NoticeChange { webhook_url, sealed_webhook_secret, emails }
    }
}

/// Catches slips; whether mail arrives, nobody can tell from the text.
fn is_email(text: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && part.chars().all(|c| c.is_ascii_graphic() && !"@<>(),;:\\\"[]".contains(c))
    };
    text.len() <= 254 && text.split_once('@').is_some_and(|(name, host)| plain(name) && plain(host))
}

#[cfg(test)]
mod tests {
    use super::is_email;

    #[test]
    fn slips_in_addresses_are_found() {
        for good in ["ada@example.com", "a.b+c@mail.example"] {
            assert!(is_email(good), "{good}");
        }
        for bad in ["", "@", "ada", "a@b@c", "a b@c", "a@b\r\nBcc: x", "<a@b>", "a@b,c@d", "é@b"] {
            assert!(!is_email(bad), "{bad}");
        }
    }
}
