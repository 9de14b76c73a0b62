//! Notices by e-mail, through the operator's SMTP server.

use std::net::IpAddr;
use std::time::Duration;

use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use model::{Secret, Timestamp};
use rustls::CertificateError;
use store::notices::ClaimedNotice;
use url::Url;

use crate::tls;

/// Of each command's answer.
const DEADLINE: Duration = Duration::from_secs(20);
/// Answers that are about who signs in (RFC 4954, section 6).
const SIGN_IN: [&str; 6] = ["432", "454", "530", "534", "535", "538"];

/// The SMTP server cannot be used as it is set.
#[derive(Debug, thiserror::Error)]
pub enum SmtpError {
    /// The URL is not one of a mail server. It may hold a password, so it is not shown.
    #[error("--smtp-url must be smtps://USER:PASSWORD@HOST:465, or smtp://... with ?tls=required")]
    Url,
    /// The password would be sent so that others can read it.
    #[error(
        "--smtp-url has a password, which would be sent in the clear: use smtps://..., or add \
         ?tls=required"
    )]
    InTheClear,
    /// The sender is no address.
    #[error("--smtp-from must be an e-mail address, or `Name <address>`")]
    From,
}

/// Sends e-mails.
pub(crate) struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    /// What must not be quoted.
    password: Option<Secret<String>>,
}

impl Mailer {
    /// Of an SMTP server's URL and the sender's address; connects to nothing.
    pub(crate) fn new(url: &Secret<String>, from: &str) -> Result<Self, SmtpError> {
        let from: Mailbox = from.parse().map_err(|_| SmtpError::From)?;
        let parsed = Url::parse(url.expose()).map_err(|_| SmtpError::Url)?;
        if parsed.password().is_some() && !is_encrypted(&parsed) && !is_this_machine(&parsed) {
            return Err(SmtpError::InTheClear);
        }
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(url.expose())
            .map_err(|_| SmtpError::Url)?
            .timeout(Some(DEADLINE));
        // The URL may name itself who says hello.
        if parsed.path().len() <= 1 {
            builder = builder.hello_name(ClientId::Domain(from.email.domain().to_owned()));
        }
        let password = parsed.password().map(|password| Secret::new(password.to_owned()));
        Ok(Self { transport: builder.build(), from, password })
    }

    /// Sends a notice; an error is for the environment's owner.
    pub(super) async fn send(&self, notice: &ClaimedNotice, to: &str) -> Result<(), String> {
        let to = to.parse().map_err(|_| "the address is not valid".to_owned())?;
        let message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            // The same when it is sent again.
            .message_id(Some(format!("<{}@{}>", notice.notice_id, self.from.email.domain())))
            .subject(subject(notice))
            .header(ContentType::TEXT_PLAIN)
            .body(text(notice))
            .map_err(|error| error.to_string())?;
        let Err(error) = self.transport.send(message).await else { return Ok(()) };
        let code = error.status().map(|code| code.to_string()).unwrap_or_default();
        // What it says of the operator's account is not for the environment's owner.
        if SIGN_IN.contains(&code.as_str()) {
            return Err(format!("the operator's SMTP server lets the worker not sign in ({code})"));
        }
        Err(self.masked(&words(&error)))
    }

    fn masked(&self, text: &str) -> String {
        match self.password.as_ref().map(Secret::expose).filter(|password| !password.is_empty()) {
            Some(password) => text.replace(password.as_str(), "***"),
            None => text.to_owned(),
        }
    }
}

fn is_encrypted(url: &Url) -> bool {
    let is_required = url.query_pairs().any(|(name, value)| name == "tls" && value == "required");
    url.scheme() == "smtps" || is_required
}

fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || literal.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Why a mail was not sent, for who cannot see the operator's settings, and for the operator.
fn words(error: &lettre::transport::smtp::Error) -> String {
    let server = "the operator's SMTP server";
    let text = error.to_string();
    if error.is_client() && text.contains("STARTTLS") {
        return format!(
            "{server} offers no STARTTLS, without which --smtp-url (tls=required) lets nothing be sent"
        );
    }
    let Some(cause) = tls::cause_of(error) else { return format!("{server}: {text}") };
    match cause {
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => format!(
            "the certificate of {server} is not signed by an authority that the worker's system \
             trusts"
        ),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!("the certificate of {server} is not for the name in --smtp-url"),
        rustls::Error::InvalidCertificate(cause) => {
            format!("the certificate of {server} is not valid: {cause}")
        }
        rustls::Error::InvalidMessage(_) => format!(
            "{server} does not begin with TLS on this port: --smtp-url may have to be smtp:// with \
             ?tls=required"
        ),
        cause => format!("TLS with {server} failed: {cause}"),
    }
}

fn subject(notice: &ClaimedNotice) -> String {
    let row = &notice.activity;
    let (what, _) = sentences(notice);
    let environment = &notice.environment_handle;
    format!("Log drain {} {what} (environment {environment})", row.target_handle)
}

fn text(notice: &ClaimedNotice) -> String {
    let row = &notice.activity;
    let (drain, environment) = (&row.target_handle, &notice.environment_handle);
    let at = Timestamp::from_date_time(row.at);
    let (what, then) = sentences(notice);
    format!(
        "The log drain {drain} of the environment {environment} {what}: {detail}\n\n\
         {then}\n\n\
         Noticed: {at}\n\
         To see more: platform drain show {drain} --environment {environment}\n",
        detail = row.detail
    )
}

/// What is with the drain, and what follows from it.
fn sentences(notice: &ClaimedNotice) -> (&'static str, &'static str) {
    match notice.activity.action.as_str() {
        "log_drain.failing" => (
            "is failing",
            "Its records are kept as long as the environment keeps them, and are sent when it works again.",
        ),
        "log_drain.dropped" => (
            "loses records",
            "The environment keeps what comes now; to keep more, raise its retention.",
        ),
        _ => ("has recovered", "The records that were kept for it are being sent."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailer(url: &str, from: &str) -> Result<Mailer, SmtpError> {
        Mailer::new(&Secret::new(url.to_owned()), from)
    }

    #[test]
    fn servers_are_named_by_urls_and_errors_do_not_hold_them() {
        let mailer_of = |url| mailer(url, "Spillway <spillway@example.com>");
        for good in [
            "smtps://u:hunter2@mail.example.com:465",
            "smtp://mail.example.com?tls=required",
            "smtp://127.0.0.1:25",
        ] {
            assert!(mailer_of(good).is_ok(), "{good}");
        }
        for bad in ["", "hunter2", "https://u:hunter2@mail.example.com"] {
            let error = mailer_of(bad).err().unwrap().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(matches!(mailer("smtp://a", "nobody"), Err(SmtpError::From)));
    }

    #[tokio::test]
    async fn a_password_is_sent_over_tls_or_on_this_machine() {
        let mailer_of = |url: &str| mailer(url, "spillway@example.com");
        for bad in ["smtp://u:hunter2@mail.example.com", "smtp://u:hunter2@10.0.0.1:587"] {
            assert!(matches!(mailer_of(bad), Err(SmtpError::InTheClear)), "{bad}");
            let opportunistic = format!("{bad}?tls=opportunistic");
            assert!(matches!(mailer_of(&opportunistic), Err(SmtpError::InTheClear)), "{bad}");
            assert!(mailer_of(&format!("{bad}?tls=required")).is_ok(), "{bad}");
        }
        for good in
            ["smtp://u:hunter2@127.0.0.1:25", "smtp://u:hunter2@[::1]", "smtp://u:p@localhost"]
        {
            assert!(mailer_of(good).is_ok(), "{good}");
        }
    }

    #[tokio::test]
    async fn what_signs_in_is_not_quoted() {
        let mailer = mailer("smtps://user:hunter2@a", "a@example.com").unwrap();
        assert_eq!(mailer.masked("550 what is hunter2?"), "550 what is ***?");
    }
}
