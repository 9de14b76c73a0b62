//! What a worker holds while its endpoints take nothing.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use e2e::https_receiver::{Answer, HttpsReceiver};
use e2e::process::Process;
use e2e::tls_sink::{Ending, Plan, TlsSink};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::World;
use crate::content::received;

const DRAINS: u64 = 100;
const BUCKETS: u64 = 20;
/// The bound that README.md states.
const BOUND_PER_DRAIN: u64 = 256 << 10;
const BOUND_OF_THE_WORKER: u64 = 64 << 20;

fn peak(worker: &Process) -> Result<u64> {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", worker.pid()?.as_raw_nonzero()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

#[tokio::test]
async fn a_hundred_drains_that_take_nothing_with_200_mb_behind_them_stay_under_the_bound()
-> Result<()> {
    let world = World::new().await?;
    let stalled = TlsSink::start().await?;
    stalled.plan(&[Plan { messages: 0, ending: Ending::Stall }; 1000]);
    // It accepts connections and says nothing, not even in the TLS handshake.
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    for number in 0..DRAINS {
        let port =
            if number % 4 == 0 { silent.local_addr()?.port() } else { stalled.address().port() };
        world.syslog(port, stalled.authority()).await?;
    }
    let peak = stays_under(&world, BOUND_OF_THE_WORKER + DRAINS * BOUND_PER_DRAIN).await?;
    println!("{} MiB for {DRAINS} drains", peak >> 20);
    ensure!(stalled.connections() >= 75, "{} have connected", stalled.connections());
    Ok(())
}

#[tokio::test]
async fn buckets_that_take_nothing_stay_under_the_bound() -> Result<()> {
    let world = World::new().await?;
    let stalled = HttpsReceiver::start().await?;
    stalled.answer_by(|_| Answer::Stall);
    let destination = json!({
        "bucket": "logs", "region": "auto", "ca_certificates": stalled.authority(),
        "endpoint": format!("https://localhost:{}", stalled.address().port()),
    });
    let credentials = json!({ "access_key_id": "a", "secret_access_key": "b" });
    for _ in 0..BUCKETS {
        world.drain("s3", destination.clone(), credentials.clone()).await?;
    }
    let peak = stays_under(&world, BOUND_OF_THE_WORKER + BUCKETS * BOUND_PER_DRAIN).await?;
    println!("{} MiB for {BUCKETS} drains", peak >> 20);
    ensure!(stalled.requests().len() as u64 >= BUCKETS, "not every one has sent an object");
    Ok(())
}

/// What failing drains hold is thrown away where others may want the memory, and comes again.
#[tokio::test]
async fn what_is_thrown_away_for_its_memory_comes_again_in_order() -> Result<()> {
    // Whether there is enough memory depends on who takes it first.
    for _ in 0..10 {
        if one_of_many_that_take_little().await? > 0 {
            return Ok(());
        }
    }
    bail!("nothing was thrown away in ten runs")
}

/// Checks that everything comes in order; how often the drain's lines were thrown away.
async fn one_of_many_that_take_little() -> Result<usize> {
    let world = World::new().await?;
    let (stalled, moody) = (HttpsReceiver::start().await?, HttpsReceiver::start().await?);
    stalled.answer_by(|_| Answer::Stall);
    let mut requests = 0;
    moody.answer_by(move |_| {
        requests += 1;
        Answer::status(if requests % 10 < 7 { 200 } else { 503 })
    });
    for _ in 0..8 {
        world.https(&stalled).await?;
    }
    let drain = world.https(&moody).await?;
    let mut session = world.session();
    for part in 0..8 {
        world.append(&[session.numbered(part * 1000..part * 1000 + 1000)]).await?;
    }
    let _worker = world.worker()?;
    // Of a batch that was taken in part, what was taken comes again and counts again.
    session.all_delivered(|| moody.requests().len(), || received(&moody)).await?;
    world.state_until(drain, "all", |state| state.delivered >= 8000).await?;
    session.check(&received(&moody)?)?;
    Ok(world.worker_log().matches("thrown away").count())
}

/// Lets a worker read 200 MB for drains that take nothing; answers the most memory that it took.
async fn stays_under(world: &World, bound: u64) -> Result<u64> {
    let mut session = world.session();
    let line = format!("{}\n", "all work and no play ".repeat(12));
    let record = line.repeat((64 << 10) / line.len());
    for _ in 0..100 {
        let records: Vec<_> = (0..32).map(|_| session.output(&record)).collect();
        world.append(&records).await?;
        session.forget();
    }
    let mut worker = world.worker()?;
    // Reading that knew no bound would take all of it in this time.
    sleep(Duration::from_secs(20)).await;
    worker.check_running()?;
    let peak = peak(&worker)?;
    ensure!(peak < bound, "{peak} of {bound}");
    Ok(peak)
}
