//! JSON lines by HTTP. None of the rivals that Debian has takes them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use reqwest::header::CONTENT_TYPE;
use tokio::task::JoinSet;

use super::ours::{Intake, token};
use super::{DEADLINE, SETTLE, Taken};
use crate::cpu::used;
use crate::drain::load::text;
use crate::drain::ours::World;

const BODY: usize = 1 << 20;

/// Numbered lines, in the bodies of requests.
pub(super) fn bodies(lines: usize) -> Arc<Vec<Bytes>> {
    let (mut bodies, mut body) = (Vec::new(), Vec::with_capacity(BODY));
    for number in 0..lines {
        let line = format!(
            "{{\"timestamp\":\"2026-11-02T09:30:00.{:06}Z\",\"level\":\"info\",\"message\":\"{}\",\
             \"customer\":\"ada@example.com\",\"region\":\"eu-central\",\"host\":\"web-1\",\
             \"offset\":{number}}}\n",
            number % 1_000_000,
            text(number)
        );
        if body.len() + line.len() > BODY {
            bodies.push(std::mem::replace(&mut body, Vec::with_capacity(BODY)).into());
        }
        body.extend_from_slice(line.as_bytes());
    }
    bodies.push(body.into());
    Arc::new(bodies)
}

/// Sends all of them over so many connections, of which each sends the next when it has its answer.
pub(super) async fn measure(
    world: &mut World,
    bodies: &Arc<Vec<Bytes>>,
    lines: usize,
    connections: usize,
) -> Result<Taken> {
    let token = token();
    let environment = world.log_source(&token).await?;
    let mut intake = Intake::start(world).await?;
    let url = format!("http://127.0.0.1:{}/logs", intake.http_port);
    let before = used(&world.parts(&intake.process)?)?;
    let (begun, mut tasks) = (Instant::now(), JoinSet::new());
    for connection in 0..connections {
        let (url, token, bodies) = (url.clone(), token.clone(), bodies.clone());
        #[allow(clippy::disallowed_methods, reason = "it is a peer on this machine")]
        let client = reqwest::Client::builder().timeout(DEADLINE).build()?;
        tasks.spawn(async move {
            for body in bodies.iter().skip(connection).step_by(connections) {
                loop {
                    let request = client.post(&url).bearer_auth(&token);
                    let request = request.header(CONTENT_TYPE, "application/x-ndjson");
                    let answer = request.body(body.clone()).send().await?;
                    let status = answer.status();
                    let said = answer.text().await?;
                    if status.is_success() {
                        break;
                    }
                    // It has no room at present.
                    ensure!(matches!(status.as_u16(), 429 | 503), "{status}: {said}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let elapsed = begun.elapsed();
    tokio::time::sleep(SETTLE).await;
    let cpu = used(&world.parts(&intake.process)?)?.saturating_sub(before);
    let records = world.records(environment).await?;
    ensure!(records == lines, "of {lines} lines came {records}");
    World::stop(&mut intake.process).await?;
    world.remove_log_sources().await?;
    Ok(Taken { elapsed, cpu })
}
