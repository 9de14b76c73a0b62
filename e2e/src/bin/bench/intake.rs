//! Lines in: Spillway's intake beside rsyslog and syslog-ng as receivers that keep on disk what they took.
//!
//! All get the same bytes from the same sender: messages of about 255 bytes, octet-counted, over TLS. Nobody takes
//! them away meanwhile: Spillway has no drain, and the rivals' destination is down. A line has been taken when it is
//! in a committed and flushed transaction; of a rival, when it has read it into its queue, of which the disk has all
//! but what the queue holds in memory, and which is not flushed. A rate is taken from the first byte to that of all.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::cpu::{Part, used};
use crate::drain::ours::World;
use crate::drain::{RIVALS, RIVALS_NAMES, packages};
use crate::report::{Table, Target};
use crate::rivals::receiver::Receiver;
use crate::{Options, progress};

mod http;
mod latency;
mod ours;
mod sender;

use ours::Intake;
use sender::Corpus;

const DEADLINE: Duration = Duration::from_mins(3);
/// What a receiver does after its last message belongs to it.
const SETTLE: Duration = Duration::from_millis(1500);
const CONNECTIONS: [usize; 2] = [1, 16];
const OURS: usize = 0;

/// Of each rival's, so of the better one's.
const TWICE_EACH: [Target; 3] =
    [Target::RatioAtLeast(1, 2.0), Target::RatioAtLeast(2, 2.0), Target::RatioAtLeast(3, 2.0)];

/// Runs all rounds.
pub(crate) async fn measure(options: &Options) -> Result<Table> {
    let packages = packages().await?;
    let (messages, lines) = if options.quick { (50_000, 50) } else { (1_000_000, 300) };
    let mut table = Table::new("Intake", &[&["Spillway"][..], &RIVALS_NAMES].concat());
    let mut world = World::start().await?;
    // The token is part of what everybody gets.
    let token = ours::token();
    let corpus = Corpus::new(messages, &token);
    let bodies = http::bodies(messages);
    for round in 0..options.rounds {
        progress(&format!("intake: round {} of {}", round + 1, options.rounds));
        for connections in CONNECTIONS {
            let over = over("syslog over TLS", connections);
            let run = spillway(&mut world, &corpus, connections, &token).await?;
            add(&mut table, OURS, &over, messages, &run, &TWICE_EACH);
            for (column, kind) in (OURS + 1..).zip(RIVALS) {
                let mut receiver = Receiver::start(kind, &packages).await?;
                let run = rival(&mut receiver, &corpus, connections).await?;
                add(&mut table, column, &over, messages, &run, &TWICE_EACH);
            }
        }
        for connections in CONNECTIONS {
            let run = http::measure(&mut world, &bodies, messages, connections).await?;
            add(&mut table, OURS, &over("HTTP", connections), messages, &run, &[]);
        }
        latency::measure(&mut world, lines, &mut table).await?;
    }
    Ok(table)
}

/// How long it took, and the CPU time.
struct Taken {
    elapsed: Duration,
    cpu: Duration,
}

fn over(name: &str, connections: usize) -> String {
    format!("{name}, {connections} connection{}", if connections == 1 { "" } else { "s" })
}

fn add(
    table: &mut Table,
    column: usize,
    over: &str,
    messages: usize,
    run: &Taken,
    targets: &[Target],
) {
    let messages = messages as f64;
    let rate = table.row(format!("{over}: taken"), "lines/s", &[]);
    table.add(rate, column, messages / run.elapsed.as_secs_f64());
    let cost = table.row(
        format!("{over}: taken in a CPU second, PostgreSQL's included"),
        "lines",
        targets,
    );
    table.add(cost, column, messages / run.cpu.as_secs_f64());
}

async fn spillway(
    world: &mut World,
    corpus: &Corpus,
    connections: usize,
    token: &str,
) -> Result<Taken> {
    let environment = world.log_source(token).await?;
    let mut intake = Intake::start(world).await?;
    let before = used(&world.parts(&intake.process)?)?;
    let sending =
        sender::Sending::start(intake.syslog_port, &intake.certificate, corpus, connections)
            .await?;
    let begun = sending.begun;
    world.wait_for_records(environment, corpus.messages).await?;
    let elapsed = begun.elapsed();
    sending.written().await?;
    tokio::time::sleep(SETTLE).await;
    let cpu = used(&world.parts(&intake.process)?)?.saturating_sub(before);
    let records = world.records(environment).await?;
    ensure!(records == corpus.messages, "of {} lines came {records}", corpus.messages);
    World::stop(&mut intake.process).await?;
    world.remove_log_sources().await?;
    Ok(Taken { elapsed, cpu })
}

async fn rival(receiver: &mut Receiver, corpus: &Corpus, connections: usize) -> Result<Taken> {
    let parts = [Part::Tree(receiver.pid()?)];
    let before = used(&parts)?;
    let sending =
        sender::Sending::start(receiver.port(), receiver.certificate(), corpus, connections)
            .await?;
    let begun = sending.begun;
    let ended: Instant = sending.read_to_the_end().await?;
    tokio::time::sleep(SETTLE).await;
    let cpu = used(&parts)?.saturating_sub(before);
    let taken = receiver.taken(corpus.messages).await?;
    ensure!(taken == corpus.messages, "of {} messages came {taken}", corpus.messages);
    let elapsed = ended.checked_duration_since(begun).context("it ended before it began")?;
    Ok(Taken { elapsed, cpu })
}
