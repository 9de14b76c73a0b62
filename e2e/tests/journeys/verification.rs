//! Configurations of drains that are tried before they are kept: command, API, worker, and receivers that
//! fail at each step.

#![allow(clippy::indexing_slicing, reason = "a test that finds less than it wants may panic")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use e2e::certificates::CertificateAuthority;
use e2e::https_receiver::{Answer, HttpsReceiver};
use e2e::process::Finished;
use e2e::services::{Service, Services};
use e2e::tls_sink::TlsSink;
use serde_json::Value;
use tokio::net::TcpListener;

/// The API waits for an answer for 10 s; the rest is for the command itself, on a busy machine.
const LONGEST: Duration = Duration::from_secs(12);
const PLACE: [&str; 2] = ["--environment", "production"];

async fn api_and_worker() -> Result<Services> {
    let services = Services::only(&[Service::Api, Service::Worker]).await?;
    services.cli().run(&["env", "create", "production"]).await?;
    Ok(services)
}

/// A receiver that knows one token.
async fn receiver() -> Result<HttpsReceiver> {
    let receiver = HttpsReceiver::start().await?;
    receiver.answer_by(|request| {
        Answer::status(if request.header("authorization") == "Bearer right" { 200 } else { 401 })
    });
    Ok(receiver)
}

fn file(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    std::fs::write(&path, text)?;
    Ok(path)
}

/// Runs `platform drain` with these arguments; gives how it ended and how the steps went.
async fn tried(services: &Services, arguments: &[&str]) -> Result<(Finished, Vec<Value>)> {
    let begun = Instant::now();
    let arguments = [&["drain"], arguments, &PLACE, &["--json"]].concat();
    let finished = services.cli().finish(&arguments).await?;
    let took = begun.elapsed();
    assert!(took < LONGEST, "{arguments:?} took {took:?}");
    let printed = finished.text();
    let answer: Value = serde_json::from_str(&printed)
        .with_context(|| format!("{arguments:?}: {printed}{}", finished.error_text()))?;
    assert_eq!(answer["ok"], finished.status.success(), "{answer}");
    Ok((finished, answer["steps"].as_array().cloned().unwrap_or_default()))
}

/// Whether a test failed at this step, in words like these, after the steps before it.
fn assert_failed_at(steps: &[Value], step: &str, words: &str) {
    const ORDER: [&str; 5] = ["resolve", "connect", "tls", "send", "answer"];
    let names: Vec<_> = steps.iter().filter_map(|step| step["step"].as_str()).collect();
    let place = ORDER.iter().position(|name| *name == step).unwrap_or_default();
    assert_eq!(names, &ORDER[..=place], "{steps:?}");
    let (last, before) = (&steps[place], &steps[..place]);
    assert!(before.iter().all(|step| step["ok"] == true) && last["ok"] == false, "{steps:?}");
    assert!(last["detail"].as_str().unwrap_or_default().contains(words), "{steps:?}");
}

#[tokio::test]
async fn a_configuration_is_tried_step_by_step_before_it_is_kept() -> Result<()> {
    let services = api_and_worker().await?;
    let (receiver, silent, sink) =
        (receiver().await?, HttpsReceiver::start().await?, TlsSink::start().await?);
    silent.answer_by(|_| Answer::Stall);
    // Takes connections, and says nothing.
    let mute = TcpListener::bind("127.0.0.1:0").await?;
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        format!("https://localhost:{}/logs", listener.local_addr()?.port())
    };
    let mute = (format!("https://localhost:{}/logs", mute.local_addr()?.port()), mute);
    let folder = services.folder();
    let files: BTreeMap<_, _> = [
        ("ca", receiver.authority()),
        ("silent", silent.authority()),
        ("sink", sink.authority()),
        ("stranger", &CertificateAuthority::new()?.pem()),
        ("right", "Authorization: Bearer right"),
        ("wrong", "Authorization: Bearer wr0ng-token"),
    ]
    .into_iter()
    .map(|(name, text)| Ok((name, file(folder, name, text)?.display().to_string())))
    .collect::<Result<_>>()?;
    let https = async |url: &str, ca: &str, headers: &str| {
        let new = ["verify", "https", "new", "--url", url, "--ca-file", &files[ca]];
        tried(&services, &[&new[..], &["--header-file", &files[headers]]].concat()).await
    };

    let silent_url = silent.url();
    let stalls = async {
        tokio::try_join!(https(&mute.0, "ca", "right"), https(&silent_url, "silent", "right"))
    };
    let others = async {
        let (_, steps) = https(&receiver.url(), "ca", "right").await?;
        assert!(steps.len() == 5 && steps.iter().all(|step| step["ok"] == true), "{steps:?}");
        for (url, ca, headers, step, words) in [
            ("https://no-such-host.invalid/logs", "ca", "right", "resolve", "cannot be resolved"),
            ("https://10.0.0.1/logs", "ca", "right", "resolve", "which is private"),
            (&*closed, "ca", "right", "connect", "refused"),
            (&*receiver.url(), "stranger", "right", "tls", "not signed by an authority"),
            (&*receiver.url(), "ca", "wrong", "answer", "401 Unauthorized"),
        ] {
            let (finished, steps) = https(url, ca, headers).await?;
            assert_failed_at(&steps, step, words);
            let said = finished.error_text();
            assert!(said.contains("the test of the drain new failed"), "{said}");
            assert!(!finished.text().contains("wr0ng-token") && !said.contains("wr0ng-token"));
        }
        let port = sink.address().port().to_string();
        let syslog = ["verify", "syslog", "new", "--host", "localhost", "--port", &port];
        let (_, steps) =
            tried(&services, &[&syslog[..], &["--ca-file", &files["sink"]]].concat()).await?;
        assert!(steps.len() == 5 && steps.iter().all(|step| step["ok"] == true), "{steps:?}");
        assert_eq!(sink.count(), 1);
        anyhow::Ok(())
    };
    let (stalls, others) = tokio::join!(stalls, others);
    others?;
    let ((_, tls), (_, answer)) = stalls?;
    assert_failed_at(&tls, "tls", "no result within 8s");
    assert_failed_at(&answer, "answer", "no result within 8s");

    let lines = receiver.accepted_lines()?;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0]["message"].as_str().is_some_and(|text| text.contains("test of the log drain new"))
    );
    let drains = services.cli().json(&[&["drain", "list"][..], &PLACE].concat()).await?;
    assert_eq!(drains.as_array().map(Vec::len), Some(0), "{drains}");

    // For people: a table, and a sentence.
    let new = ["drain", "verify", "https", "new", "--url", &closed];
    let finished = services.cli().finish(&[&new[..], &PLACE].concat()).await?;
    assert!(!finished.status.success());
    assert!(finished.text().contains("connect") && finished.text().contains("refused"));
    Ok(())
}

#[tokio::test]
async fn a_change_of_a_drain_is_tried_without_being_made() -> Result<()> {
    let services = api_and_worker().await?;
    let (receiver, other) = (receiver().await?, receiver().await?);
    let folder = services.folder();
    let ca = file(folder, "ca", receiver.authority())?.display().to_string();
    let right = file(folder, "right", "Authorization: Bearer right")?.display().to_string();
    let wrong = file(folder, "wrong", "Authorization: Bearer wrong")?.display().to_string();
    let cli = services.cli();
    let url = receiver.url();
    let create = ["drain", "create", "https", "kept", "--url", &url, "--ca-file", &ca];
    let create = [&create[..], &["--header-file", &right, "--activity=false"], &PLACE].concat();
    cli.run(&create).await?;
    let show = [&["drain", "show", "kept"][..], &PLACE].concat();
    let before = cli.json(&show).await?;

    // With the credentials of the drain, for it is the same server.
    let path = format!("{url}/other");
    let (_, steps) = tried(&services, &["update", "kept", "--url", &path, "--verify"]).await?;
    assert!(steps.len() == 5 && steps.iter().all(|step| step["ok"] == true), "{steps:?}");
    let update = ["update", "kept", "--header-file", &wrong, "--verify"];
    assert_failed_at(&tried(&services, &update).await?.1, "answer", "401 Unauthorized");
    // Another server gets none of them.
    let elsewhere = ["drain", "update", "kept", "--url", &other.url(), "--verify"];
    let refused = cli.finish(&[&elsewhere[..], &PLACE].concat()).await?;
    assert!(refused.error_text().contains("must be given again"), "{}", refused.error_text());
    assert!(other.requests().is_empty());

    let requests = receiver.requests();
    let sent: Vec<_> =
        requests.iter().map(|it| (it.path.as_str(), it.header("authorization"))).collect();
    assert_eq!(sent, [("/logs/other", "Bearer right"), ("/logs", "Bearer wrong")]);
    let after = cli.json(&show).await?;
    for field in ["destination", "updated_at", "revision", "state"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    // It has not been sent anything by that.
    let test = [&["drain", "test", "kept"][..], &PLACE].concat();
    assert_eq!(cli.json(&test).await?["ok"], true);
    Ok(())
}
