//! Workers that die, share, and test drains.

use std::time::Duration;

use anyhow::Result;
use e2e::https_receiver::HttpsReceiver;
use e2e::process::Process;
use e2e::tls_sink::TlsSink;
use e2e::wait;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::content::received;
use crate::{DEADLINE, Delivered, World, kill};

#[tokio::test]
async fn a_worker_that_is_killed_in_mid_stream_costs_no_line() -> Result<()> {
    let world = World::new().await?;
    let sink = TlsSink::start().await?;
    let receiver = HttpsReceiver::start().await?;
    let syslog = world.syslog(sink.address().port(), sink.authority()).await?;
    let https = world.https(&receiver).await?;
    let mut session = world.session();
    for round in 0..5 {
        let mut worker = world.worker()?;
        for block in 0..10 {
            let from = (round * 10 + block) * 100;
            // A line without an end stays open across the kill.
            let half = session.output("half a line, ");
            world.append(&[half, session.numbered(from..from + 100)]).await?;
            sleep(Duration::from_millis(20)).await;
        }
        let before = sink.messages().len();
        wait::until_true("some lines", DEADLINE, async || {
            Ok(sink.messages().len() > before || round == 0)
        })
        .await?;
        kill(&mut worker).await?;
    }
    let mut worker = world.worker()?;
    world.append(&[session.ended()]).await?;
    let syslog_lines = || -> Result<Vec<Delivered>> {
        sink.messages().iter().map(|message| Delivered::of_syslog(message)).collect()
    };
    let lines = session.all_delivered(|| sink.messages().len(), syslog_lines).await?;
    session.check(&lines)?;
    let lines = session.all_delivered(|| receiver.requests().len(), || received(&receiver)).await?;
    session.check(&lines)?;
    for drain in [syslog, https] {
        world.state_until(drain, "the count", |state| state.delivered >= 5001).await?;
    }
    worker.stop(Signal::TERM, DEADLINE).await?;
    // An orderly end leaves nothing to repeat.
    let (before, _worker) = (sink.messages().len(), world.worker()?);
    world.append(&[session.numbered(0..1)]).await?;
    wait::until_true("one more", DEADLINE, async || Ok(sink.messages().len() > before)).await?;
    assert_eq!(sink.messages().len(), before + 1);
    Ok(())
}

#[tokio::test]
async fn the_drains_of_a_dead_worker_move_to_another() -> Result<()> {
    let world = World::new().await?;
    let receiver = HttpsReceiver::start().await?;
    let drain = world.https(&receiver).await?;
    let mut first = world.worker()?;
    let mut session = world.session();
    world.append(&[session.numbered(0..10)]).await?;
    world.state_until(drain, "the beginning", |state| state.delivered == 10).await?;
    let _second = world.worker()?;
    sleep(Duration::from_secs(1)).await;
    kill(&mut first).await?;
    let died = Instant::now();
    world.append(&[session.numbered(10..20)]).await?;
    world.state_until(drain, "the rest", |state| state.delivered == 20).await?;
    // The lease of these tests is 3 s, and a worker looks every 2 s.
    assert!(died.elapsed() < Duration::from_secs(8), "{:?}", died.elapsed());
    session.check(&received(&receiver)?)?;
    assert_eq!(received(&receiver)?.len(), 20);
    Ok(())
}

#[tokio::test]
async fn the_drains_of_a_killed_worker_move_within_15_s_by_default() -> Result<()> {
    let world = World::new().await?;
    let receiver = HttpsReceiver::start().await?;
    for _ in 0..4 {
        world.https(&receiver).await?;
    }
    let owners = async || -> Result<Vec<i64>> {
        let owners = "select count(*) from drain_leases where expires_at > now()
                      group by worker_id order by 1";
        let rows = world.admin.query(owners, &[]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    };
    let start = || Process::start(world.default_worker_command()?, &world.log());
    let mut first = start()?;
    let _second = start()?;
    let patience = Duration::from_secs(40);
    wait::until_true("a share for each", patience, async || Ok(owners().await? == [2, 2])).await?;
    kill(&mut first).await?;
    let died = Instant::now();
    wait::until_true("all at one", patience, async || Ok(owners().await? == [4])).await?;
    assert!(died.elapsed() < Duration::from_secs(15), "{:?}", died.elapsed());
    Ok(())
}

/// Has a worker test a drain; answers whether it worked, and its steps.
pub(crate) async fn test_line(world: &World, drain: Uuid) -> Result<(bool, Value)> {
    let test = Uuid::now_v7();
    let user = Uuid::now_v7();
    world
        .admin
        .batch_execute(&format!(
            "insert into users (id, email, name, password_hash) values ('{user}', '{user}', 'a', '');
             insert into drain_tests (id, drain_id, requested_by) values ('{test}', '{drain}', '{user}');
             notify spillway_drain_tests, '{drain}'"
        ))
        .await?;
    wait::until("the answer", Duration::from_secs(9), async || {
        let query =
            "select ok, steps::text from drain_tests where id = $1 and finished_at is not null";
        let Some(row) = world.admin.query_opt(query, &[&test]).await? else { return Ok(None) };
        Ok(Some((row.get(0), serde_json::from_str(&row.get::<_, String>(1))?)))
    })
    .await
}

#[tokio::test]
async fn a_test_line_shows_each_step_even_of_a_paused_drain() -> Result<()> {
    let world = World::new().await?;
    let receiver = HttpsReceiver::start().await?;
    let sink = TlsSink::start().await?;
    let https = world.https(&receiver).await?;
    let syslog = world.syslog(sink.address().port(), sink.authority()).await?;
    world.change(syslog, "paused_at = now()").await?;
    let refused = world.syslog(1, sink.authority()).await?;
    let _worker = world.worker()?;

    let steps = |answer: &Value| -> Vec<String> {
        let steps = answer.as_array().into_iter().flatten();
        steps.map(|step| format!("{}:{}", step["step"].as_str().unwrap(), step["ok"])).collect()
    };
    for drain in [https, syslog] {
        let (ok, answer) = test_line(&world, drain.uuid()).await?;
        let all = ["resolve:true", "connect:true", "tls:true", "send:true", "answer:true"];
        assert_eq!((ok, steps(&answer)), (true, all.map(String::from).to_vec()), "{answer}");
    }
    let (ok, answer) = test_line(&world, refused.uuid()).await?;
    assert_eq!((ok, steps(&answer)), (false, vec!["resolve:true".into(), "connect:false".into()]));
    assert!(answer[1]["detail"].as_str().unwrap().contains("refused"), "{answer}");
    let line = &received(&receiver)?[0];
    assert_eq!(line.field("event"), "test");
    assert!(line.text().contains("test of the log drain"));
    assert_eq!(sink.messages().len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_test_of_an_endpoint_that_says_nothing_ends_in_time() -> Result<()> {
    let world = World::new().await?;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let drain =
        world.syslog(silent.local_addr()?.port(), TlsSink::start().await?.authority()).await?;
    let _worker = world.worker()?;
    let (ok, answer) = test_line(&world, drain.uuid()).await?;
    let steps: Vec<_> = (0..3).map(|at| (&answer[at]["step"], &answer[at]["ok"])).collect();
    let wanted = json!([["resolve", true], ["connect", true], ["tls", false]]);
    assert_eq!((ok, json!(steps)), (false, wanted));
    assert_eq!(answer[2]["detail"], "no result within 8s");
    Ok(())
}

#[tokio::test]
async fn a_worker_that_was_frozen_beyond_its_lease_does_no_harm_when_it_wakes() -> Result<()> {
    let world = World::new().await?;
    let sink = TlsSink::start().await?;
    // Slow enough that the frozen worker is in the middle of it.
    sink.rest(Duration::from_millis(100));
    let drain = world.syslog(sink.address().port(), sink.authority()).await?;
    let mut session = world.session();
    for block in 0..20 {
        world.append(&[session.numbered(block * 1000..block * 1000 + 1000)]).await?;
    }
    let frozen = world.worker()?;
    wait::until_true("some lines", DEADLINE, async || Ok(sink.count() > 2000)).await?;
    frozen.signal(Signal::STOP)?;
    let _second = world.worker()?;
    sink.rest(Duration::ZERO);
    let lines = || -> Result<Vec<Delivered>> {
        sink.messages().iter().map(|message| Delivered::of_syslog(message)).collect()
    };
    let delivered = session.all_delivered(|| sink.count(), lines).await?;
    session.check(&delivered)?;
    let generation = "select generation, worker_id from drain_leases where drain_id = $1";
    let position = "select low_xid, low_seq, high_xid, high_seq, open::text, delivered_lines
                    from drain_positions where drain_id = $1";
    let look = async |query: &str| -> Result<String> {
        let row = world.admin.query_one(query, &[&drain.uuid()]).await?;
        let columns = 0..row.len();
        let text = columns.map(|at| {
            let number = row.try_get::<_, i64>(at).map(|number| number.to_string());
            let id = || row.try_get::<_, Uuid>(at).map(|id| id.to_string());
            number.or_else(|_| id()).or_else(|_| row.try_get::<_, String>(at))
        });
        Ok(text.collect::<Result<Vec<_>, _>>()?.join(" "))
    };
    world.state_until(drain, "all to count", |state| state.delivered >= 15_000).await?;
    // Until what is delivered is written, too.
    sleep(Duration::from_secs(3)).await;
    let (owner, reached, count) = (look(generation).await?, look(position).await?, sink.count());

    frozen.signal(Signal::CONT)?;
    sleep(Duration::from_secs(5)).await;
    assert_eq!((look(generation).await?, look(position).await?), (owner, reached));
    // What it was sending goes out; nothing that it had yet to send does.
    let again = sink.count() - count;
    println!("the worker that woke sent {again} lines");
    assert!(again <= 10_000, "{again}");
    world.append(&[session.numbered(20_000..20_010)]).await?;
    let delivered = session.all_delivered(|| sink.count(), lines).await?;
    assert!(session.is_complete_in(&delivered));
    Ok(())
}

#[tokio::test]
async fn two_workers_share_the_drains_and_one_takes_all_when_the_other_goes() -> Result<()> {
    let world = World::new().await?;
    let receiver = HttpsReceiver::start().await?;
    let mut drains = Vec::new();
    for _ in 0..5 {
        drains.push(world.https(&receiver).await?);
    }
    let shares = async || -> Result<Vec<i64>> {
        let query = "select count(*) from drain_leases where expires_at > now()
                     group by worker_id order by 1";
        Ok(world.admin.query(query, &[]).await?.iter().map(|row| row.get(0)).collect())
    };
    let _first = world.worker()?;
    wait::until_true("one to have all", DEADLINE, async || Ok(shares().await? == [5])).await?;
    let mut second = world.worker()?;
    wait::until_true("both to have some", DEADLINE, async || Ok(shares().await? == [2, 3])).await?;
    let mut session = world.session();
    world.append(&[session.numbered(0..10)]).await?;
    for drain in &drains {
        world.state_until(*drain, "its lines", |state| state.delivered == 10).await?;
    }
    second.stop(Signal::TERM, DEADLINE).await?;
    wait::until_true("one to have all again", DEADLINE, async || Ok(shares().await? == [5]))
        .await?;
    world.append(&[session.numbered(10..20)]).await?;
    for drain in &drains {
        world.state_until(*drain, "its lines", |state| state.delivered == 20).await?;
    }
    // Handing over repeats nothing.
    assert_eq!(received(&receiver)?.len(), 5 * 20);
    Ok(())
}

#[tokio::test]
async fn a_worker_goes_on_by_itself_when_postgresql_returns() -> Result<()> {
    let cluster = e2e::postgres::TestCluster::start().await?;
    let mut world =
        World::over(e2e::postgres::TestDatabase::of_own_cluster(cluster).await?).await?;
    let sink = TlsSink::start().await?;
    let drain = world.syslog(sink.address().port(), sink.authority()).await?;
    let mut worker = world.worker()?;
    let mut session = world.session();
    for block in 0..5 {
        world.append(&[session.numbered(block * 1000..block * 1000 + 1000)]).await?;
    }
    wait::until_true("some lines", DEADLINE, async || Ok(sink.count() > 0)).await?;
    let cluster = world.database.cluster().expect("it is the database's own");
    cluster.crash().await?;
    // Longer than the lease.
    sleep(Duration::from_secs(5)).await;
    cluster.start_again().await?;
    world.admin = world.database.connect().await?;
    wait::until_true("the stream", DEADLINE, async || {
        Ok(world.append(&[session.numbered(5000..5001)]).await.is_ok())
    })
    .await?;
    let lines = || -> Result<Vec<Delivered>> {
        sink.messages().iter().map(|message| Delivered::of_syslog(message)).collect()
    };
    let delivered = session.all_delivered(|| sink.count(), lines).await?;
    session.check(&delivered)?;
    world.state_until(drain, "all to count", |state| state.delivered >= 1).await?;
    worker.check_running()
}

#[tokio::test]
async fn a_row_that_cannot_be_written_holds_back_no_other_drains() -> Result<()> {
    let world = World::new().await?;
    let receiver = HttpsReceiver::start().await?;
    let drains = [world.https(&receiver).await?, world.https(&receiver).await?];
    let [refused, other] = drains;
    let refuse = format!(
        "alter table drain_positions add constraint refused
         check (drain_id <> '{refused}' or delivered_lines = 0)"
    );
    world.admin.batch_execute(&refuse).await?;
    let _worker = world.worker()?;
    let mut session = world.session();
    for count in 1..=5 {
        let from = 10 * (count - 1);
        world.append(&[session.numbered(from..from + 10)]).await?;
        let delivered = i64::try_from(from + 10)?;
        world.state_until(other, "the others", |state| state.delivered == delivered).await?;
    }
    world.admin.batch_execute("alter table drain_positions drop constraint refused").await?;
    for drain in drains {
        world.state_until(drain, "all", |state| state.delivered == 50).await?;
    }
    // Nothing was delivered again for it.
    assert_eq!(received(&receiver)?.len(), 100);
    Ok(())
}
