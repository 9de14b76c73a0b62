//! Several requests at a time, as many as the endpoint is quicker with.

use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use e2e::https_receiver::{Answer, HttpsReceiver, Received};

use crate::content::received;
use crate::{Session, World};

const SESSIONS: usize = 20;
const LINES: usize = 1000;
const LATENCY: Duration = Duration::from_millis(100);

/// Sessions whose output lies mixed in the stream.
async fn sessions(world: &World) -> Result<Vec<Session>> {
    let mut sessions: Vec<_> = (0..SESSIONS).map(|_| world.session()).collect();
    for from in (0..LINES).step_by(50) {
        let records: Vec<_> =
            sessions.iter_mut().map(|session| session.numbered(from..from + 50)).collect();
        world.append(&records).await?;
    }
    Ok(sessions)
}

/// Requests that were being answered when one came, itself included; the most of them.
fn most_at_a_time(requests: &[Received], latency: Duration) -> usize {
    let times: Vec<_> = requests.iter().map(|request| request.at).collect();
    let beside = |at: SystemTime| {
        let began = |other: &SystemTime| at.duration_since(*other).is_ok_and(|it| it < latency);
        times.iter().filter(|other| began(other)).count()
    };
    times.iter().map(|at| beside(*at)).max().unwrap_or_default()
}

#[tokio::test]
async fn a_distant_endpoint_gets_several_requests_at_a_time_and_each_session_in_order() -> Result<()>
{
    let world = World::new().await?;
    let receiver = HttpsReceiver::start().await?;
    receiver.answer_by(|_| Answer::slow(200, LATENCY));
    let drain = world.https(&receiver).await?;
    let sessions = sessions(&world).await?;
    let _worker = world.worker()?;
    let all = SESSIONS * LINES;
    let wanted = i64::try_from(all)?;
    world.state_until(drain, "all", |state| state.delivered >= wanted).await?;
    let lines = received(&receiver)?;
    ensure!(lines.len() == all, "{} lines came", lines.len());
    sessions.iter().try_for_each(|session| session.check(&lines))?;
    let requests = receiver.requests();
    let most = most_at_a_time(&requests, LATENCY);
    ensure!((4..=8).contains(&most), "{most} at a time");
    for request in &requests {
        let lines = request.lines()?.len();
        ensure!(lines <= 1000, "{lines} in one request");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_refused_of_requests_at_a_time_is_sent_again_alone_after_the_endpoints_time()
-> Result<()> {
    let world = World::new().await?;
    let receiver = HttpsReceiver::start().await?;
    let mut requests = 0;
    receiver.answer_by(move |request| {
        requests += 1;
        if request.body.windows(6).any(|bytes| bytes == b"poison") {
            return Answer::status(400);
        }
        if requests % 12 == 0 { Answer::retry_after(429, 1) } else { Answer::slow(200, LATENCY) }
    });
    let drain = world.https(&receiver).await?;
    let mut sessions = sessions(&world).await?;
    let poison = sessions[0].output("poison\r\n");
    world.append(&[poison, sessions[1].numbered(0..10)]).await?;
    let _worker = world.worker()?;
    let all = SESSIONS * LINES + 10;
    let wanted = i64::try_from(all)?;
    let state = world
        .state_until(drain, "all", |state| state.delivered >= wanted && state.rejected >= 1)
        .await?;
    ensure!((state.delivered, state.rejected) == (wanted, 1), "{state:?}");
    let lines = received(&receiver)?;
    ensure!(lines.len() == all, "{} lines came", lines.len());
    sessions[1..].iter().try_for_each(|session| session.check(&lines))?;

    let requests = receiver.requests();
    let most = most_at_a_time(&requests, LATENCY);
    ensure!(most >= 3, "{most} at a time");
    let refused: Vec<_> =
        requests.iter().filter(|request| request.status == Some(429)).map(|it| it.at).collect();
    ensure!(refused.len() >= 2, "{} were refused", refused.len());
    for at in refused {
        // Those beside it were under way.
        let after = requests.iter().filter_map(|request| request.at.duration_since(at).ok());
        let next = after.filter(|after| *after > LATENCY * 4).min();
        ensure!(next.is_none_or(|next| next >= Duration::from_secs(1)), "{next:?} after a 429");
    }
    Ok(())
}
