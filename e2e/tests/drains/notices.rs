//! Notices of drains that fail: by webhook and by e-mail, at least once, whatever fails.

use anyhow::Result;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::https_receiver::{Answer, HttpsReceiver, Received};
use e2e::process::Process;
use e2e::smtp_receiver::SmtpReceiver;
use e2e::wait;
use serde_json::Value;

use crate::{DEADLINE, World, kill};

pub(crate) const ALLOW: [&str; 2] = ["--drain-allow-network", "127.0.0.0/8,::1/128"];
pub(crate) const FROM: [&str; 2] = ["--smtp-from", "Spillway <spillway@example.com>"];
const SOON: [&str; 2] = ["--drain-failing-after-seconds", "1"];

impl World {
    /// Sets whom to tell; the webhook is signed with 24 times this byte.
    pub(crate) async fn notify(
        &self,
        webhook: Option<&str>,
        secret: Option<u8>,
        emails: &[&str],
    ) -> Result<()> {
        let environment = self.environment.id.uuid();
        let sealed = secret.map(|byte| {
            let secret = format!("whsec_{}", STANDARD.encode([byte; 24]));
            self.key.sealing_key().seal(environment, secret.as_bytes())
        });
        let statement = "insert into notice_settings values ($1, $2, $3, default, $4)
            on conflict (environment_id) do update set webhook_url = $2, emails = $4";
        self.admin.execute(statement, &[&environment, &webhook, &sealed, &emails]).await?;
        Ok(())
    }

    /// Starts a worker that trusts the receiver of webhooks as the system would.
    fn telling_worker(&self, receiver: &HttpsReceiver, arguments: &[&str]) -> Result<Process> {
        self.worker_of_system(receiver.authority(), arguments)
    }

    /// Starts a worker on a system that trusts this authority, and no other.
    pub(crate) fn worker_of_system(
        &self,
        authority_pem: &str,
        arguments: &[&str],
    ) -> Result<Process> {
        let authority = self.folder.path().join("system-ca.pem");
        std::fs::write(&authority, authority_pem)?;
        let mut command = self.worker_command(&[&SOON[..], arguments].concat())?;
        command.env("SSL_CERT_FILE", authority).env_remove("SSL_CERT_DIR");
        Process::start(command, &self.log())
    }

    /// Errors of notices, and how many are neither delivered nor given up.
    pub(crate) async fn notices(&self) -> Result<(Vec<String>, i64)> {
        let errors = "select distinct last_error from notices where last_error is not null";
        let errors = self.admin.query(errors, &[]).await?.iter().map(|row| row.get(0)).collect();
        let left =
            "select count(*) from notices where delivered_at is null and given_up_at is null";
        Ok((errors, self.admin.query_one(left, &[]).await?.get(0)))
    }
}

fn is_signed(request: &Received, byte: u8) -> bool {
    let (id, time) = (request.header("webhook-id"), request.header("webhook-timestamp"));
    let key = hmac::Key::new(hmac::HMAC_SHA256, &[byte; 24]);
    let signed = [format!("{id}.{time}.").as_bytes(), &request.sent].concat();
    let signature = STANDARD.encode(hmac::sign(&key, &signed));
    request.header("webhook-signature") == format!("v1,{signature}")
}

#[tokio::test]
async fn failure_and_recovery_are_told_by_webhook_and_e_mail() -> Result<()> {
    let world = World::new().await?;
    let (endpoint, hook) = (HttpsReceiver::start().await?, HttpsReceiver::start().await?);
    let smtp = SmtpReceiver::start().await?;
    let drain = world.https(&endpoint).await?;
    world.change(drain, "handle = 'web-logs'").await?;
    world.notify(Some(&hook.url()), Some(7), &["ada@example.com", "on-call@example.com"]).await?;
    endpoint.answer_by(|_| Answer::status(503));
    let url = smtp.url();
    let arguments = [&ALLOW[..], &FROM, &["--smtp-url", &url]].concat();
    let _workers =
        [world.telling_worker(&hook, &arguments)?, world.telling_worker(&hook, &arguments)?];
    let mut session = world.session();
    world.append(&[session.numbered(0..10)]).await?;

    wait::until_true("the failure to be told", DEADLINE, async || {
        Ok(hook.requests().len() == 1 && smtp.mails().len() == 2)
    })
    .await?;
    endpoint.answer_by(|_| Answer::status(200));
    wait::until_true("the recovery to be told", DEADLINE, async || {
        Ok(hook.requests().len() == 2 && smtp.mails().len() == 4)
    })
    .await?;

    let ids = world.admin.query("select id::text from activity order by id", &[]).await?;
    let requests = hook.requests();
    for ((request, id), action) in
        requests.iter().zip(&ids).zip(["log_drain.failing", "log_drain.recovered"])
    {
        assert!(is_signed(request, 7) && !is_signed(request, 8));
        assert_eq!(request.header("content-type"), "application/json");
        assert_eq!(request.header("webhook-id"), id.get::<_, String>(0));
        let body: Value = serde_json::from_slice(&request.body)?;
        assert_eq!(body["type"], action);
        assert!(body["timestamp"].as_str().is_some_and(|at| at.starts_with("20")), "{body}");
        let data = &body["data"];
        assert_eq!(
            (&data["environment"], &data["target"]),
            (&"production".into(), &"web-logs".into())
        );
        assert_eq!(data["target_id"], drain.to_string());
        assert!(
            data["detail"].as_str().is_some_and(|detail| detail.contains("since 20")),
            "{body}"
        );
    }
    let mails = smtp.mails();
    for (what, told) in ["is failing", "has recovered"].into_iter().zip(mails.chunks(2)) {
        let mut to: Vec<_> = told.iter().flat_map(|mail| mail.to.clone()).collect();
        to.sort_unstable();
        assert_eq!(to, ["ada@example.com", "on-call@example.com"]);
        for mail in told {
            assert_eq!(mail.from, "spillway@example.com");
            assert_eq!(
                mail.header("Subject"),
                format!("Log drain web-logs {what} (environment production)")
            );
            assert!(mail.header("Content-Type").starts_with("text/plain"), "{}", mail.text);
            assert!(mail.header("Message-ID").ends_with("@example.com>"), "{}", mail.text);
        }
    }
    assert!(mails[0].text.contains("503"), "{}", mails[0].text);
    // The receivers know of it a little before the table does.
    wait::until_true(
        "all to be noted",
        DEADLINE,
        async || Ok(world.notices().await? == (vec![], 0)),
    )
    .await
}

#[tokio::test]
async fn a_notice_that_is_refused_is_told_again_also_by_another_worker() -> Result<()> {
    let world = World::new().await?;
    let (endpoint, hook) = (HttpsReceiver::start().await?, HttpsReceiver::start().await?);
    let smtp = SmtpReceiver::start().await?;
    let drain = world.https(&endpoint).await?;
    world.notify(Some(&hook.url()), None, &["ada@example.com"]).await?;
    endpoint.answer_by(|_| Answer::status(503));
    hook.answer_in_turn(vec![Answer::status(500)]);
    smtp.refuse(1);
    let url = smtp.url();
    let arguments = [&ALLOW[..], &FROM, &["--smtp-url", &url]].concat();
    let mut worker = world.telling_worker(&hook, &arguments)?;
    let mut session = world.session();
    world.append(&[session.numbered(0..10)]).await?;
    world.announced_until(drain, 1).await?;
    wait::until_true("two errors", DEADLINE, async || Ok(world.notices().await?.0.len() == 2))
        .await?;
    let (mut errors, left) = world.notices().await?;
    errors.sort_unstable();
    assert!(errors[0].starts_with("an e-mail: ") && errors[0].contains("451"), "{errors:?}");
    assert!(errors[1].contains("the webhook: the endpoint answered 500"), "{errors:?}");
    assert_eq!((left, smtp.mails().len(), hook.requests().len()), (2, 0, 1));
    kill(&mut worker).await?;
    let _worker = world.telling_worker(&hook, &arguments)?;
    wait::until_true("both to be told", DEADLINE, async || Ok(world.notices().await?.1 == 0))
        .await?;
    assert_eq!((smtp.mails().len(), hook.requests().len()), (1, 2));
    let requests = hook.requests();
    assert_eq!(requests[0].header("webhook-id"), requests[1].header("webhook-id"));
    assert_eq!(requests[1].header("webhook-signature"), "");
    Ok(())
}

#[tokio::test]
async fn a_worker_that_is_killed_while_it_tells_loses_no_notice() -> Result<()> {
    let world = World::new().await?;
    let (endpoint, hook) = (HttpsReceiver::start().await?, HttpsReceiver::start().await?);
    let drain = world.https(&endpoint).await?;
    world.notify(Some(&hook.url()), None, &[]).await?;
    endpoint.answer_by(|_| Answer::status(503));
    hook.answer_in_turn(vec![Answer::Stall]);
    let mut worker = world.telling_worker(&hook, &ALLOW)?;
    let mut session = world.session();
    world.append(&[session.numbered(0..10)]).await?;
    world.announced_until(drain, 1).await?;
    wait::until_true("the first try", DEADLINE, async || Ok(hook.requests().len() == 1)).await?;
    kill(&mut worker).await?;
    // The claim runs out after three minutes: not in this test.
    world.admin.batch_execute("update notices set next_attempt_at = now()").await?;
    let _worker = world.telling_worker(&hook, &ALLOW)?;
    wait::until_true("the notice", DEADLINE, async || Ok(world.notices().await?.1 == 0)).await?;
    assert_eq!(hook.requests().len(), 2);
    assert_eq!(world.announced(drain).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_told_says_why_and_what_nobody_wants_is_dropped() -> Result<()> {
    let world = World::new().await?;
    let (endpoint, hook) = (HttpsReceiver::start().await?, HttpsReceiver::start().await?);
    let drain = world.https(&endpoint).await?;
    world.notify(Some(&hook.url()), None, &["ada@example.com"]).await?;
    // Private addresses are refused, to the drain, too, and there is no mail server.
    let _worker = world.telling_worker(&hook, &[])?;
    let mut session = world.session();
    world.append(&[session.numbered(0..10)]).await?;
    world.announced_until(drain, 1).await?;
    wait::until_true("two errors", DEADLINE, async || Ok(world.notices().await?.0.len() == 2))
        .await?;
    let (mut errors, left) = world.notices().await?;
    errors.sort_unstable();
    assert!(errors[0].contains("--smtp-url"), "{errors:?}");
    assert!(errors[1].contains("loopback"), "{errors:?}");
    assert!(hook.requests().is_empty());
    assert_eq!(left, 2);

    world.notify(None, None, &[]).await?;
    world.admin.batch_execute("update notices set next_attempt_at = now()").await?;
    wait::until_true("none to be left", DEADLINE, async || Ok(world.notices().await?.1 == 0))
        .await?;
    assert_eq!(world.notices().await?.0.len(), 0);
    Ok(())
}
