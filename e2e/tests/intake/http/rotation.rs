//! Tokens that were rotated.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::wait;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep};

use super::{Http, count_until};
use crate::{DEADLINE, Source, World, token};

/// How long the old token is kept.
const KEPT: Duration = Duration::from_secs(6);

#[tokio::test]
async fn an_old_token_is_good_as_long_as_it_was_kept_and_then_refused() -> Result<()> {
    let world = World::new().await?;
    let old = world.app_source().await?;
    let http = Http::start(&world, &[]).await?;
    http.post("/logs", &old, &[], "before").await?.is(200)?;
    let new = Source { id: old.id, token: token() };
    let began = Instant::now();
    let hash = Sha256::digest(new.token.as_bytes()).to_vec();
    world
        .admin
        .execute(
            "update log_sources set token_key = $2, token_hash = $3,
                 previous_token_until = now() + interval '6 seconds' where id = $1",
            &[&old.id.uuid(), &new.token.get(..7), &hash],
        )
        .await?;
    let ended = Instant::now() + KEPT;
    http.post("/logs", &new, &[], "new").await?.is(200)?;
    // It knows of the rotation by now.
    http.post("/logs", &old, &[], "old").await?.is(200)?;
    let mut accepted = 3;
    let refused_at = wait::until("a refusal", DEADLINE, async || {
        let answer = http.post("/logs", &old, &[], "old").await?;
        if answer.status == 200 {
            accepted += 1;
            sleep(Duration::from_millis(100)).await;
            return Ok(None);
        }
        answer.is(401)?;
        Ok(Some(Instant::now()))
    })
    .await?;
    ensure!(refused_at >= began + KEPT, "refused {:?} too early", began + KEPT - refused_at);
    ensure!(refused_at < ended + Duration::from_secs(10), "{:?} too late", refused_at - ended);
    http.post("/logs", &new, &[], "new").await?.is(200)?;
    http.post("/logs", &old, &[], "old").await?.is(401)?;
    ensure!(world.lines().await?.len() == accepted + 1);
    count_until(&world, &old, "refused", 2).await
}
