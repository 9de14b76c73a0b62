//! Notices by e-mail over TLS: what a mail server gets, and what it gets in the clear.

use anyhow::Result;
use e2e::certificates::{CertificateAuthority, ServerCertificate};
use e2e::https_receiver::{Answer, HttpsReceiver};
use e2e::process::Process;
use e2e::smtp_receiver::{SmtpReceiver, SmtpTls};
use e2e::wait;

use crate::notices::{ALLOW, FROM};
use crate::{DEADLINE, World, kill};

/// `worker` and `s3cret-word`, as AUTH PLAIN sends them (RFC 4616).
const SIGN_IN: &str = "AUTH PLAIN AHdvcmtlcgBzM2NyZXQtd29yZA==";

/// A drain that fails, of which Ada is to be told by a worker with this mail server. The worker's system
/// trusts the authority.
async fn failing_drain(
    authority: &CertificateAuthority,
    smtp_url: &str,
) -> Result<(World, HttpsReceiver, Process)> {
    let world = World::new().await?;
    let endpoint = HttpsReceiver::start().await?;
    endpoint.answer_by(|_| Answer::status(503));
    world.https(&endpoint).await?;
    world.notify(None, None, &["ada@example.com"]).await?;
    let arguments = [&ALLOW[..], &FROM, &["--smtp-url", smtp_url]].concat();
    let worker = world.worker_of_system(&authority.pem(), &arguments)?;
    let mut session = world.session();
    world.append(&[session.numbered(0..10)]).await?;
    Ok((world, endpoint, worker))
}

fn localhost(authority: &CertificateAuthority) -> Result<ServerCertificate> {
    authority.issue(&["localhost"])
}

async fn error_of(world: &World) -> Result<String> {
    wait::until("the error", DEADLINE, async || Ok(world.notices().await?.0.pop())).await
}

async fn is_told_over_tls(tls: SmtpTls, scheme: &str, query: &str) -> Result<SmtpReceiver> {
    let authority = CertificateAuthority::new()?;
    let smtp = SmtpReceiver::start_with(tls, &localhost(&authority)?).await?;
    let port = smtp.address().port();
    let url = format!("{scheme}://worker:s3cret-word@localhost:{port}{query}");
    let (world, _endpoint, _worker) = failing_drain(&authority, &url).await?;
    wait::until_true("the mail", DEADLINE, async || Ok(!smtp.mails().is_empty())).await?;
    let mails = smtp.mails();
    assert!(mails[0].encrypted);
    assert_eq!(mails[0].to, ["ada@example.com"]);
    assert!(mails[0].header("Subject").contains("is failing"), "{}", mails[0].text);
    assert_eq!(smtp.sign_ins(), [SIGN_IN]);
    wait::until_true("it to be noted", DEADLINE, async || Ok(world.notices().await?.1 == 0))
        .await?;
    Ok(smtp)
}

#[tokio::test]
async fn a_notice_is_sent_by_smtps() -> Result<()> {
    let smtp = is_told_over_tls(SmtpTls::Implicit, "smtps", "").await?;
    assert_eq!(smtp.in_the_clear(), "");
    Ok(())
}

#[tokio::test]
async fn a_notice_is_sent_after_starttls() -> Result<()> {
    let smtp = is_told_over_tls(SmtpTls::StartTls, "smtp", "?tls=required").await?;
    assert_eq!(smtp.in_the_clear(), "EHLO example.com\r\nSTARTTLS\r\n");
    Ok(())
}

#[tokio::test]
async fn a_server_without_starttls_gets_nothing_where_tls_is_required() -> Result<()> {
    let smtp = SmtpReceiver::start().await?;
    let port = smtp.address().port();
    let url = format!("smtp://worker:s3cret-word@localhost:{port}?tls=required");
    let (world, _endpoint, _worker) = failing_drain(&CertificateAuthority::new()?, &url).await?;
    let error = error_of(&world).await?;
    assert!(
        error.contains("SMTP server offers no STARTTLS") && error.contains("tls=required"),
        "{error}"
    );
    let heard = smtp.in_the_clear();
    for command in heard.lines() {
        assert!(["EHLO example.com", "QUIT"].contains(&command), "{heard}");
    }
    assert!(heard.contains("EHLO") && smtp.mails().is_empty(), "{heard}");
    assert_eq!(world.notices().await?.1, 1, "it is tried again");
    Ok(())
}

#[tokio::test]
async fn a_mail_server_that_the_system_does_not_trust_gets_nothing() -> Result<()> {
    let trusted = CertificateAuthority::new()?;
    let unknown = localhost(&CertificateAuthority::new()?)?;
    let misnamed = trusted.issue(&["mail.example.com"])?;
    let untrusted = "is not signed by an authority that the worker's system trusts";
    // Nobody is there: what follows finds a notice that waits.
    let (world, _endpoint, mut worker) = failing_drain(&trusted, "smtps://localhost:9").await?;
    error_of(&world).await?;
    for (tls, scheme, query, certificate, words) in [
        (SmtpTls::Implicit, "smtps", "", &unknown, untrusted),
        (SmtpTls::StartTls, "smtp", "?tls=required", &unknown, untrusted),
        (SmtpTls::Implicit, "smtps", "", &misnamed, "is not for the name in --smtp-url"),
        // A server that waits for STARTTLS is not spoken to in TLS.
        (SmtpTls::StartTls, "smtps", "", &unknown, "does not begin with TLS on this port"),
    ] {
        let smtp = SmtpReceiver::start_with(tls, certificate).await?;
        let port = smtp.address().port();
        let url = format!("{scheme}://worker:s3cret-word@localhost:{port}{query}");
        kill(&mut worker).await?;
        let again = "update notices set next_attempt_at = now(), last_error = null";
        world.admin.batch_execute(again).await?;
        let arguments = [&ALLOW[..], &FROM, &["--smtp-url", &url]].concat();
        worker = world.worker_of_system(&trusted.pem(), &arguments)?;
        let error = error_of(&world).await?;
        assert!(error.contains(words), "{scheme} {tls:?}: {error}");
        assert!(smtp.mails().is_empty() && smtp.sign_ins().is_empty());
        assert!(!smtp.in_the_clear().contains("MAIL"), "{}", smtp.in_the_clear());
    }
    Ok(())
}
