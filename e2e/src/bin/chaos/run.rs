//! One run: build, attack, heal, let everything end and catch up, collect.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use log_stream::Block;
use rustix::process::Signal;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::collect;
use crate::evidence::{Evidence, Facts, Memory};
use crate::faults;
use crate::load::Load;
use crate::plan::{Kind, plan};
use crate::senders::{Senders, container};
use crate::world::World;
use crate::{bounds, evidence};

/// How long sessions may go on after the attack.
const LAST_SESSIONS: Duration = Duration::from_mins(2);
/// How long senders may take to have everything acknowledged.
const LAST_LINES: Duration = Duration::from_mins(4);
/// How long the intakes may take to have in the stream what they were sent.
const TAKEN_IN: Duration = Duration::from_mins(1);
/// How long drains may take to catch up.
const CATCH_UP: Duration = Duration::from_mins(3);
/// How long a container may outlive its session.
const CONTAINERS_GONE: Duration = Duration::from_mins(1);

/// What is to be done.
#[derive(Debug)]
pub(crate) struct Attack {
    pub(crate) seed: u64,
    pub(crate) lasts: Duration,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) sessions: u64,
    pub(crate) bulk_bytes: u32,
    /// Deletes such a block before the stream is read.
    pub(crate) delete_a_block: Option<fn(&Block) -> bool>,
}

/// Attacks, and leaves the evidence in its folder.
pub(crate) async fn run(attack: &Attack, evidence: &Evidence) -> Result<()> {
    let world = Arc::new(World::build(evidence).await?);
    let load = Load::new(Arc::clone(&world), evidence.clone(), attack.seed, attack.bulk_bytes);
    let load = Arc::new(load);
    let mut facts = Facts { seed: attack.seed, ..Facts::default() };

    let (stop, stopped) = watch::channel(false);
    let mut sessions = load.start(attack.sessions, &stopped);
    let mut senders = Senders::start(&load, &stopped);
    let watcher = watch_processes(&world);
    let docker = watch_docker(&load);
    let end = Instant::now() + attack.lasts;
    facts.faults =
        faults::attack(&load, &plan(attack.seed, attack.lasts, &attack.kinds), attack.lasts).await;
    sleep_until(end).await;
    facts.attack_seconds = load.now();
    eprintln!("{:7.1} s  the attack is over, {} bytes shown", load.now(), load.shown());

    let healed = faults::heal(&world).await;
    stop.send_replace(true);
    let ended = timeout(LAST_SESSIONS, async {
        while let Some(outcome) = sessions.join_next().await {
            outcome??;
        }
        anyhow::Ok(())
    })
    .await;
    // What still runs is cut off: its client is killed, and its session must end for that.
    sessions.shutdown().await;
    match ended {
        Ok(outcome) => outcome?,
        Err(_) => eprintln!("{:7.1} s  some sessions did not end, and are cut off", load.now()),
    }
    eprintln!("{:7.1} s  the sessions have ended", load.now());
    facts.faults.extend(end_senders(&load, evidence, &mut senders).await);
    eprintln!("{:7.1} s  the senders have ended", load.now());
    facts.containers_left = containers_left(&world).await?;
    if let Err(error) = &healed {
        facts.faults.push(failure("heal", load.now(), format!("{error:#}")));
    }
    eprintln!("{:7.1} s  containers: {} left", load.now(), facts.containers_left.len());
    drop(docker.tasks);
    facts.faults.extend(docker.hangs.lock().await.drain(..));

    let caught_up = collect::caught_up(&world, CATCH_UP).await;
    if let Err(error) = &caught_up {
        facts.faults.push(failure("catch up", load.now(), format!("{error:#}")));
    }
    eprintln!("{:7.1} s  the drains have caught up", load.now());
    if let Some(is_wanted) = attack.delete_a_block {
        collect::delete_a_block(&world, is_wanted).await?;
    }
    collect::stream(&world, evidence).await.context("the stream cannot be read")?;
    facts.drains = collect::drains(&world).await?;
    world.note_peaks();
    drop(watcher);
    facts.memory = memory(&world);
    (facts.clients, facts.refusals) = load.take();
    facts.sent = load.senders.take();
    facts.sent.no_container = world.no_container().map(str::to_owned);
    world.syslog.ledger().finish()?;
    world.https.ledger().finish()?;
    evidence.write_facts(&facts)
}

/// Lets the senders have everything acknowledged, stops the container, and waits until its last line, and the
/// last that was written with syslog, are in the stream. Gives what went wrong.
async fn end_senders(
    load: &Load,
    evidence: &Evidence,
    senders: &mut JoinSet<Result<()>>,
) -> Vec<evidence::Fault> {
    let mut failures = Vec::new();
    let mut fail = |why: String| failures.push(failure("senders", load.now(), why));
    let all = timeout(LAST_LINES, async {
        while let Some(outcome) = senders.join_next().await {
            match outcome {
                Ok(Ok(())) => {}
                Ok(Err(error)) => fail(format!("{error:#}")),
                Err(error) => fail(error.to_string()),
            }
        }
    });
    if all.await.is_err() {
        fail(format!("they have not ended within {LAST_LINES:?}"));
    }
    senders.shutdown().await;
    let mut last: Vec<_> = load.senders.last_syslog_line().into_iter().collect();
    if load.world.no_container().is_none() {
        match container::stop(&*load.world.docker.lock().await, evidence).await {
            Ok(line) => last.push(line),
            Err(error) => fail(format!("the container: {error:#}")),
        }
    }
    // What is missing in the stream the check finds, and says of it more.
    if let Err(error) = collect::taken_in(&load.world, last, TAKEN_IN).await {
        eprintln!("{:7.1} s  {error:#}", load.now());
    }
    failures
}

fn failure(kind: &str, at: f64, why: String) -> evidence::Fault {
    evidence::Fault {
        kind: kind.to_owned(),
        detail: "after the attack".to_owned(),
        member: None,
        began: at,
        healed: at,
        recovered_after: None,
        not_run: None,
        failure: Some(why),
    }
}

/// Notes how much memory they have, and starts those again that are not to blame for having ended.
fn watch_processes(world: &Arc<World>) -> JoinSet<()> {
    let world = Arc::clone(world);
    let mut watcher = JoinSet::new();
    watcher.spawn(async move {
        loop {
            world.note_peaks();
            // What cannot be started is found to have ended after the attack.
            world.supervise().ok();
            sleep(Duration::from_millis(500)).await;
        }
    });
    watcher
}

/// Restarts Docker's daemon when it hangs, as an operator would; each time counts as a fault.
struct DockerWatch {
    hangs: Arc<Mutex<Vec<evidence::Fault>>>,
    tasks: JoinSet<()>,
}

fn watch_docker(load: &Arc<Load>) -> DockerWatch {
    let load = Arc::clone(load);
    let hangs = Arc::<Mutex<Vec<_>>>::default();
    let mut tasks = JoinSet::new();
    let noted = Arc::clone(&hangs);
    tasks.spawn(async move {
        loop {
            sleep(Duration::from_secs(2)).await;
            let mut docker = load.world.docker.lock().await;
            let began = load.now();
            if !docker.hangs().await {
                continue;
            }
            eprintln!("{began:7.1} s  Docker's daemon hangs: it is restarted");
            let restarted = async {
                docker.stop(Signal::KILL).await?;
                docker.start_again().await
            };
            let failure = restarted.await.err().map(|error| format!("{error:#}"));
            noted.lock().await.push(evidence::Fault {
                kind: "docker-hangs".to_owned(),
                detail: "by itself".to_owned(),
                member: None,
                began,
                healed: load.now(),
                recovered_after: failure.is_none().then_some(0.0),
                not_run: None,
                failure,
            });
        }
    });
    DockerWatch { hangs, tasks }
}

fn memory(world: &World) -> Vec<Memory> {
    let bound = |name: &str| match name.split('-').next() {
        Some("edge") => bounds::EDGE_KIB,
        Some("worker") => bounds::WORKER_KIB,
        Some("intake") => bounds::INTAKE_KIB,
        _ => bounds::API_KIB,
    };
    let peaks = world.peaks().into_iter();
    peaks
        .map(|(process, peak_kib)| Memory { bound_kib: bound(&process), process, peak_kib })
        .collect()
}

/// The containers that are still there after a minute without sessions.
async fn containers_left(world: &World) -> Result<Vec<String>> {
    let end = Instant::now() + CONTAINERS_GONE;
    let environment = world.environment().await?;
    loop {
        let left = world.docker.lock().await.containers(&environment).await?;
        if left.is_empty() || Instant::now() >= end {
            return Ok(left);
        }
        sleep(Duration::from_millis(200)).await;
    }
}
