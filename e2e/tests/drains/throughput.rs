//! How fast one drain is; run by hand: `cargo nextest run --release -p e2e --run-ignored only`.

use std::time::Instant;

use anyhow::Result;
use e2e::tls_sink::TlsSink;

use crate::World;

fn cpu_seconds(pid: i32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok());
    // utime and stime (proc(5)), after the name and its parenthesis.
    Ok((ticks(12).unwrap_or_default() + ticks(13).unwrap_or_default()) / 100.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn measure_syslog_over_tls() -> Result<()> {
    let world = World::new().await?;
    let sink = TlsSink::start().await?;
    let drain = world.syslog(sink.address().port(), sink.authority()).await?;
    let mut session = world.session();
    let total = 1_000_000;
    for block in 0..total / 2000 {
        world.append(&[session.numbered(block * 2000..block * 2000 + 2000)]).await?;
    }
    let started = Instant::now();
    let worker = world.worker()?;
    world.state_until(drain, "all", |state| state.delivered >= total as i64).await?;
    let elapsed = started.elapsed().as_secs_f64();
    let cpu = cpu_seconds(worker.pid()?.as_raw_nonzero().get())?;
    println!("{:.0} lines/s, {cpu:.2} CPU s per million", total as f64 / elapsed);
    Ok(())
}
