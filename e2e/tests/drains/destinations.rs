//! Endpoints that end, refuse the handshake, or may not be reached.

use anyhow::Result;
use e2e::certificates::CertificateAuthority;
use e2e::https_receiver::HttpsReceiver;
use e2e::tls_sink::{Ending, Plan, TlsSink};
use serde_json::json;

use crate::content::received;
use crate::{DEADLINE, Delivered, World};

fn delivered(sink: &TlsSink) -> Result<Vec<Delivered>> {
    sink.messages().iter().map(|message| Delivered::of_syslog(message)).collect()
}

#[tokio::test]
async fn a_receiver_that_ends_in_mid_stream_costs_no_line() -> Result<()> {
    for ending in [Ending::CloseNotify, Ending::Fin, Ending::Reset] {
        let world = World::new().await?;
        let sink = TlsSink::start().await?;
        let plan = |messages| Plan { messages, ending };
        sink.plan(&[plan(100), plan(1), plan(2500), plan(4000)]);
        let drain = world.syslog(sink.address().port(), sink.authority()).await?;
        let _worker = world.worker()?;
        let mut session = world.session();
        for block in 0..20 {
            world.append(&[session.numbered(block * 500..block * 500 + 500)]).await?;
        }
        let lines = session.all_delivered(|| sink.messages().len(), || delivered(&sink)).await?;
        session.check(&lines)?;
        assert!(sink.connections() >= 5, "{ending:?}");
        let state = world
            .state_until(drain, "every line to count once", |state| state.delivered >= 10_000)
            .await?;
        assert_eq!((state.delivered, state.failing), (10_000, false), "{ending:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_connection_that_is_closed_while_idle_costs_no_line() -> Result<()> {
    for ending in [Ending::CloseNotify, Ending::Fin, Ending::Reset] {
        let world = World::new().await?;
        let sink = TlsSink::start().await?;
        sink.plan(&[Plan { messages: 1, ending }]);
        let drain = world.syslog(sink.address().port(), sink.authority()).await?;
        let _worker = world.worker()?;
        let mut session = world.session();
        world.append(&[session.numbered(0..1)]).await?;
        world.state_until(drain, "the first line", |state| state.delivered == 1).await?;
        world.append(&[session.numbered(1..2)]).await?;
        world.state_until(drain, "the second line", |state| state.delivered == 2).await?;
        session.check(&delivered(&sink)?)?;
    }
    Ok(())
}

#[tokio::test]
async fn an_untrusted_or_misnamed_certificate_fails_the_drain_until_it_is_put_right() -> Result<()>
{
    let world = World::new().await?;
    let sink = TlsSink::start().await?;
    let port = sink.address().port();
    let stranger = CertificateAuthority::new()?.pem();
    let drain = world.syslog(port, &stranger).await?;
    let _worker = world.worker()?;
    let mut session = world.session();
    world.append(&[session.numbered(0..10)]).await?;
    let state = world.state_until(drain, "the drain to fail", |state| state.failing).await?;
    assert!(state.error.contains("not signed by an authority that this drain trusts"), "{state:?}");

    let mut destination = json!({
        "host": "127.0.0.1", "port": port, "server_name": "logs.example.com",
        "ca_certificates": sink.authority(),
    });
    world.change(drain, &format!("destination = '{destination}'")).await?;
    let state = world
        .state_until(drain, "the other reason", |state| state.error.contains("logs.example.com"))
        .await?;
    assert!(state.failing && state.error.contains("is not for the name"), "{state:?}");
    world
        .state_until(drain, "the lag", |state| state.lag_records >= 1 && state.lag_seconds > 0.0)
        .await?;
    assert!(sink.messages().is_empty());

    destination["server_name"] = json!("localhost");
    world.change(drain, &format!("destination = '{destination}'")).await?;
    world
        .state_until(drain, "the backlog", |state| state.delivered == 10 && !state.failing)
        .await?;
    session.check(&delivered(&sink)?)?;
    world.state_until(drain, "no lag", |state| state.lag_records == 0).await?;
    Ok(())
}

#[tokio::test]
async fn a_private_address_is_refused_unless_the_operator_allows_it() -> Result<()> {
    let world = World::new().await?;
    let receiver = HttpsReceiver::start().await?;
    let sink = TlsSink::start().await?;
    let https = world.https(&receiver).await?;
    let syslog = world.syslog(sink.address().port(), sink.authority()).await?;
    let mut worker = world.worker_with(&[])?;
    let mut session = world.session();
    world.append(&[session.numbered(0..10)]).await?;
    for drain in [https, syslog] {
        let state = world.state_until(drain, "the refusal", |state| state.failing).await?;
        assert!(state.error.contains("--drain-allow-network"), "{state:?}");
    }
    assert!(receiver.requests().is_empty() && sink.connections() == 0);
    worker.stop(rustix::process::Signal::TERM, DEADLINE).await?;

    let _worker = world.worker()?;
    for drain in [https, syslog] {
        world.state_until(drain, "the backlog", |state| state.delivered == 10).await?;
    }
    session.check(&received(&receiver)?)?;
    session.check(&delivered(&sink)?)
}

#[tokio::test]
async fn a_stalled_drain_does_not_delay_another() -> Result<()> {
    let world = World::new().await?;
    let (stalled, healthy) = (TlsSink::start().await?, TlsSink::start().await?);
    stalled.plan(&[Plan { messages: 0, ending: Ending::Stall }; 10]);
    world.syslog(stalled.address().port(), stalled.authority()).await?;
    world.syslog(healthy.address().port(), healthy.authority()).await?;
    let worker = world.worker()?;
    let mut session = world.session();
    let line = "x".repeat(1000) + "\n";
    for _ in 0..64 {
        world.append(&[session.output(line.repeat(500))]).await?;
    }
    let lines = session.all_delivered(|| healthy.messages().len(), || delivered(&healthy)).await?;
    session.check(&lines)?;
    assert!(stalled.messages().is_empty());
    // 32 MiB went by; what the stalled drain holds is bounded.
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", worker.pid()?.as_raw_nonzero()))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("peak memory of the worker: {}", resident.trim());
    let kib: u64 = resident.trim().trim_end_matches(" kB").parse()?;
    assert!(kib < 96 * 1024, "{resident}");
    Ok(())
}
