//! How fast, and at what cost.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use model::{Environment, Id};

use super::ours::{Form, World};
use super::sink::{Protocol, Sink};
use super::{EVERY_TAG, OURS, OURS_NAMES, RIVALS, RSYSLOG, Table, load, wait_for};
use crate::cpu::{Part, used};
use crate::progress;
use crate::report::Target;
use crate::rivals::forwarder::Forwarder;

const PATIENCE: Duration = Duration::from_secs(20);
/// What a forwarder does after its last message belongs to it.
const SETTLE: Duration = Duration::from_millis(1500);

const TWICE_EACH_RSYSLOG: [Target; 2] =
    [Target::RatioAtLeast(RSYSLOG[0], 2.0), Target::RatioAtLeast(RSYSLOG[1], 2.0)];
const A_THIRD_OF_EACH_RSYSLOG: [Target; 2] =
    [Target::RatioAtMost(RSYSLOG[0], 1.0 / 3.0), Target::RatioAtMost(RSYSLOG[1], 1.0 / 3.0)];

/// Sends all messages once by every contestant.
pub(super) async fn measure(
    world: &mut World,
    backlog: Id<Environment>,
    messages: usize,
    packages: &Path,
    table: &mut Table,
) -> Result<()> {
    for (column, form, has_every_tag) in [
        (OURS, Form::Syslog, false),
        (EVERY_TAG, Form::Syslog, true),
        (OURS, Form::Https, false),
        (EVERY_TAG, Form::Https, true),
        (OURS, Form::HttpsGzip, false),
        (EVERY_TAG, Form::HttpsGzip, true),
    ] {
        let sink = Sink::start(form.protocol(), &[])?;
        let mut worker = world.worker()?;
        // Its start is not measured.
        tokio::time::sleep(SETTLE).await;
        let parts = world.parts(&worker)?;
        let before = used(&parts)?;
        world.drain(backlog, &sink, form, has_every_tag).await?;
        let complete = wait_for(&sink, messages, PATIENCE).await?;
        ensure!(complete, "of {messages} messages came {}", sink.distinct());
        tokio::time::sleep(SETTLE).await;
        let cpu = used(&parts)?.saturating_sub(before);
        World::stop(&mut worker).await?;
        world.remove_drains().await?;
        add(table, column, form, &sink, cpu)?;
    }
    for (column, kind) in (OURS_NAMES.len()..).zip(RIVALS) {
        let sink = Sink::start(Protocol::Syslog, &[])?;
        let forwarder = Forwarder::start(kind, sink.port(), sink.certificate(), packages).await?;
        let parts = [Part::Tree(forwarder.pid()?)];
        let before = used(&parts)?;
        let port = forwarder.port();
        let feeder = tokio::task::spawn_blocking(move || load::feed(port, 0..messages, None));
        let complete = wait_for(&sink, messages, PATIENCE).await?;
        if !complete {
            progress(&format!("{kind:?} delivered {} of {messages}", sink.distinct()));
        }
        feeder.await??;
        tokio::time::sleep(SETTLE).await;
        add(table, column, Form::Syslog, &sink, used(&parts)?.saturating_sub(before))?;
    }
    Ok(())
}

fn add(table: &mut Table, column: usize, form: Form, sink: &Sink, cpu: Duration) -> Result<()> {
    let tally = sink.tally();
    let (first, last) = tally.first.zip(tally.last).context("something came")?;
    let seconds = (last - first).as_secs_f64();
    let messages = tally.messages as f64;
    let bytes = tally.bytes as f64;
    let (name, rate, cost): (_, &[Target], &[Target]) = match form {
        Form::Syslog => ("syslog", &TWICE_EACH_RSYSLOG, &A_THIRD_OF_EACH_RSYSLOG),
        Form::Https => ("HTTPS", &[], &[Target::AtMost(0.4)]),
        Form::HttpsGzip => ("HTTPS, gzip", &[], &[Target::AtMost(1.4)]),
    };
    let mut figures = vec![
        ("delivered", "messages/s", messages / seconds, rate),
        ("the same", "MB/s", bytes / 1e6 / seconds, &[]),
        (
            "forwarder CPU, PostgreSQL's included",
            "s per million",
            cpu.as_secs_f64() / messages * 1e6,
            cost,
        ),
        ("a message", "bytes", bytes / messages, &[]),
    ];
    if form == Form::Syslog {
        let records = tally.records as f64;
        let many = &[Target::AtLeast(2.0)];
        figures.push(("messages in a TLS record", "", messages / records, many));
    }
    if form == Form::HttpsGzip {
        let ratio = bytes / tally.body_bytes as f64;
        figures.push(("compressed to a part of", "", ratio, &[Target::AtLeast(3.8)]));
    }
    for (what, unit, value, targets) in figures {
        let row = table.row(format!("{name}: {what}"), unit, targets);
        table.add(row, column, value);
    }
    Ok(())
}
