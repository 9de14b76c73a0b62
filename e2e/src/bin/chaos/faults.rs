//! Does what is planned, heals it, and sees how long what it has hit takes to work again.
//!
//! Faults on different targets overlap; of those on one target, each waits for the one before it.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use e2e::tls_sink::Ending;
use e2e::wait;
use futures_util::future::join_all;
use rustix::process::Signal;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::evidence::Fault;
use crate::load::Load;
use crate::plan::{Kind, Planned};
use crate::receivers::https::Manner;
use crate::world::{HTTPS, Member, PAIRS, SYSLOG, World};

mod recovery;

use recovery::{Sign, recovered};

/// How long after healing something may take to work again.
const RECOVERY: Duration = Duration::from_secs(100);
const ENDINGS: [Ending; 3] = [Ending::CloseNotify, Ending::Fin, Ending::Reset];

/// What a fault hits; one fault at a time.
#[derive(Debug, Default)]
struct Targets {
    members: [Mutex<()>; Member::COUNT],
    senders: Mutex<()>,
    postgres: Mutex<()>,
    docker: Mutex<()>,
    syslog: Mutex<()>,
    https: Mutex<()>,
}

/// Why a fault is not done.
enum Undone {
    /// The machine lacks what it takes.
    Missing(String),
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Undone {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Does everything that is planned; gives what was done, in the order of the plan.
/// One whose turn comes after the end of the attack is left out.
pub(crate) async fn attack(load: &Load, plan: &[Planned], lasts: Duration) -> Vec<Fault> {
    let began = Instant::now();
    let targets = Targets::default();
    join_all(plan.iter().map(async |planned| {
        sleep_until(began + planned.at).await;
        let _turn = targets.of(planned).lock().await;
        if began.elapsed() < lasts { Some(one(load, planned).await) } else { None }
    }))
    .await
    .into_iter()
    .flatten()
    .collect()
}

async fn one(load: &Load, planned: &Planned) -> Fault {
    let mut fault = Fault {
        kind: planned.kind.to_string(),
        detail: format!("{:.1} s", planned.lasts.as_secs_f64()),
        member: member(planned).map(|member| member.to_string()),
        began: load.now(),
        healed: 0.0,
        recovered_after: None,
        not_run: None,
        failure: None,
    };
    eprintln!("{:7.1} s  {} ({})", fault.began, fault.kind, fault.detail);
    let outcome = inflict(load, planned).await;
    fault.healed = load.now();
    match outcome {
        Ok(Sign::None) => fault.recovered_after = Some(0.0),
        Ok(sign) => {
            let healed = Instant::now();
            match timeout(RECOVERY, recovered(load, sign, healed)).await {
                Ok(()) => fault.recovered_after = Some(healed.elapsed().as_secs_f64()),
                Err(_) => {
                    fault.failure = Some(format!("{sign:?} did not come back within {RECOVERY:?}"));
                }
            }
        }
        Err(Undone::Missing(why)) => {
            eprintln!("{:7.1} s  NOT RUN: {} needs what is missing: {why}", load.now(), fault.kind);
            fault.not_run = Some(why);
        }
        Err(Undone::Failed(error)) => fault.failure = Some(format!("{error:#}")),
    }
    if let Some(failure) = &fault.failure {
        eprintln!("{:7.1} s  {} failed: {failure}", load.now(), fault.kind);
    }
    fault
}

impl Targets {
    fn of(&self, planned: &Planned) -> &Mutex<()> {
        let member = member(planned).and_then(|member| Member::all().position(|one| one == member));
        if let Some(target) = member.and_then(|member| self.members.get(member)) {
            return target;
        }
        match planned.kind {
            Kind::KillBackend | Kind::KillPostgres | Kind::FreezePostgres | Kind::DiskFull => {
                &self.postgres
            }
            Kind::SyslogCloseNotify
            | Kind::SyslogFin
            | Kind::SyslogReset
            | Kind::SyslogEveryFive
            | Kind::SyslogStall
            | Kind::BlackHole => &self.syslog,
            Kind::RestartDocker | Kind::KillClient => &self.docker,
            Kind::CutSenders => &self.senders,
            _ => &self.https,
        }
    }
}

const fn pick(planned: &Planned) -> usize {
    planned.choice as usize % PAIRS
}

/// The process that is hit.
fn member(planned: &Planned) -> Option<Member> {
    let chosen = pick(planned);
    match planned.kind {
        Kind::KillEdge | Kind::FreezeEdge => Some(Member::Edge(chosen)),
        Kind::KillWorker | Kind::FreezeWorker => Some(Member::Worker(chosen)),
        Kind::KillIntake | Kind::FreezeIntake => Some(Member::Intake(chosen)),
        Kind::KillApi | Kind::FreezeApi => Some(Member::Api),
        Kind::ClockStep => Member::all().nth(planned.choice as usize % Member::COUNT),
        _ => None,
    }
}

async fn inflict(load: &Load, planned: &Planned) -> Result<Sign, Undone> {
    let world = &*load.world;
    let lasts = planned.lasts;
    let chosen = pick(planned);
    let both: &'static [&'static str] = &[SYSLOG, HTTPS];
    match planned.kind {
        Kind::KillEdge | Kind::KillWorker | Kind::KillApi | Kind::KillIntake => {
            restart(world, hit(planned)?, lasts).await?;
        }
        Kind::FreezeEdge | Kind::FreezeWorker | Kind::FreezeApi | Kind::FreezeIntake => {
            freeze(world, hit(planned)?, lasts).await?;
        }
        Kind::CutSenders => load.senders.cut(),
        Kind::KillBackend | Kind::KillPostgres | Kind::FreezePostgres | Kind::DiskFull => {
            postgres(world, planned).await?;
        }
        Kind::KillClient => {
            let found = load.kill_a_client(planned.choice);
            eprintln!("{:7.1} s  killed client: {}", load.now(), found.unwrap_or_default());
        }
        Kind::RestartDocker => {
            let mut docker = world.docker.lock().await;
            if !docker.is_own() {
                return Err(Undone::Missing("only root can start a Docker daemon".to_owned()));
            }
            let signal = if chosen == 0 { Signal::TERM } else { Signal::KILL };
            docker.stop(signal).await?;
            sleep(lasts).await;
            docker.start_again().await?;
        }
        Kind::SyslogCloseNotify => world.syslog.end_all(Ending::CloseNotify),
        Kind::SyslogFin => world.syslog.end_all(Ending::Fin),
        Kind::SyslogReset => world.syslog.end_all(Ending::Reset),
        Kind::SyslogEveryFive => {
            let ending = ENDINGS.get(planned.choice as usize % 3).copied().unwrap_or(Ending::Fin);
            world.syslog.order(|orders| orders.every = Some((5, ending)));
            sleep(lasts).await;
            world.syslog.order(|orders| orders.every = None);
        }
        Kind::SyslogStall => {
            world.syslog.order(|orders| orders.stalled = true);
            sleep(lasts).await;
            world.syslog.order(|orders| orders.stalled = false);
        }
        Kind::BlackHole => {
            if let crate::world::network::Network::Loopback(why) = &world.network {
                return Err(Undone::Missing(why.clone()));
            }
            world.network.drop_packets(true).await?;
            sleep(lasts).await;
            world.network.drop_packets(false).await?;
        }
        Kind::ClockStep => {
            if let Some(why) = world.clock_missing() {
                return Err(Undone::Missing(why.to_owned()));
            }
            clock_step(world, planned).await?;
        }
        _ => https(world, planned).await?,
    }
    Ok(match planned.kind {
        Kind::KillEdge
        | Kind::FreezeEdge
        | Kind::KillBackend
        | Kind::KillPostgres
        | Kind::FreezePostgres
        | Kind::DiskFull
        | Kind::RestartDocker => Sign::Session(chosen),
        Kind::KillWorker | Kind::FreezeWorker | Kind::BlackHole => Sign::Lines(both),
        Kind::KillApi | Kind::FreezeApi => Sign::Api,
        Kind::KillIntake | Kind::FreezeIntake => Sign::Acknowledged(chosen),
        Kind::CutSenders => Sign::Connected,
        Kind::KillClient | Kind::ClockStep => Sign::None,
        Kind::SyslogCloseNotify
        | Kind::SyslogFin
        | Kind::SyslogReset
        | Kind::SyslogEveryFive
        | Kind::SyslogStall => Sign::Lines(&[SYSLOG]),
        _ => Sign::Lines(&[HTTPS]),
    })
}

fn hit(planned: &Planned) -> Result<Member> {
    member(planned).context("the fault hits a process")
}

async fn restart(world: &World, member: Member, after: Duration) -> Result<()> {
    world.kill(member).await?;
    sleep(after).await;
    world.start(member).await
}

async fn freeze(world: &World, member: Member, lasts: Duration) -> Result<()> {
    world.signal(member, Signal::STOP).await?;
    sleep(lasts).await;
    world.signal(member, Signal::CONT).await
}

async fn postgres(world: &World, planned: &Planned) -> Result<(), Undone> {
    let mut database = world.database.lock().await;
    let cluster = database.cluster().context("the cluster is the run's own")?;
    match planned.kind {
        Kind::KillBackend => {
            let pids = cluster.pids()?;
            // The first is the server itself; another's death makes it start all others anew.
            let victim = pids.get(1 + planned.choice as usize % (pids.len() - 1));
            let victim = *victim.context("the server has children")?;
            rustix::process::kill_process(victim, Signal::KILL)?;
            return Ok(());
        }
        Kind::KillPostgres => {
            cluster.kill().await?;
            sleep(planned.lasts).await;
        }
        Kind::FreezePostgres => {
            cluster.freeze()?;
            sleep(planned.lasts).await;
            cluster.unfreeze()?;
            return Ok(());
        }
        _ => {
            let disk = world.disk.as_ref().map_err(|why| Undone::Missing(why.clone()))?;
            disk.fill(64 << 10).await?;
            sleep(planned.lasts).await;
            disk.free().await?;
        }
    }
    if !cluster.is_running() {
        cluster.start_again().await?;
    }
    Ok(())
}

async fn clock_step(world: &World, planned: &Planned) -> Result<()> {
    let (number, member) = (planned.choice as usize, hit(planned)?);
    // A minute to an hour, ahead or back.
    let seconds = 60 + i32::try_from(number / 7 % 3540).unwrap_or(0);
    let seconds = if (number / 3).is_multiple_of(2) { seconds } else { -seconds };
    eprintln!("{:>9}  {member}'s clock is {seconds} s off", "");
    world.set_clock(member, seconds)?;
    sleep(planned.lasts).await;
    world.set_clock(member, 0)
}

async fn https(world: &World, planned: &Planned) -> Result<()> {
    let manner = match planned.kind {
        Kind::HttpsClose => Manner::Close,
        Kind::HttpsLostAnswer => Manner::LoseAnswers,
        Kind::HttpsStall => {
            Manner::Stall(u8::try_from(planned.lasts.as_secs().max(1)).unwrap_or(6))
        }
        Kind::Https503 => Manner::Status(503),
        Kind::Https429 => Manner::Status(429),
        Kind::Https413 => Manner::RefuseLarge,
        Kind::Https400 => Manner::RefuseSome,
        _ => Manner::Status(401),
    };
    world.https.behave(manner);
    sleep(planned.lasts).await;
    world.https.behave(Manner::Good);
    if planned.kind == Kind::Https401 {
        // As an operator does; the drain is parked until it is tried again or changed.
        let header = format!("X-Rotated: {}", planned.choice);
        let change = ["drain", "update", HTTPS, "--environment", "production", "--header", &header];
        wait::until_true("new credentials to be taken", RECOVERY, async || {
            Ok(world.cli().finish(&change).await.is_ok_and(|change| change.status.success()))
        })
        .await?;
    }
    Ok(())
}

/// Makes everything run again, whatever the attack has left.
pub(crate) async fn heal(world: &World) -> Result<()> {
    world.https.behave(Manner::Good);
    world.syslog.order(|orders| {
        orders.every = None;
        orders.stalled = false;
    });
    {
        let mut database = world.database.lock().await;
        let cluster = database.cluster().context("the cluster is the run's own")?;
        if !cluster.is_running() {
            cluster.start_again().await?;
        }
    }
    let mut ended = Vec::new();
    for member in Member::all() {
        world.set_clock(member, 0)?;
        if world.revive(member).await? {
            let log = std::fs::read_to_string(world.log(member)).unwrap_or_default();
            let tail: Vec<_> = log.lines().rev().take(5).collect();
            ended.push(format!("{member} had ended by itself; it said last: {tail:?}"));
        }
    }
    if !ended.is_empty() {
        bail!("{}", ended.join("; "));
    }
    Ok(())
}
