//! Tokens that are new.

use anyhow::Result;
use futures_util::future::try_join_all;

use super::Http;
use crate::World;

#[tokio::test]
async fn new_tokens_are_taken_at_once_however_many_there_are_and_whatever_else_is_tried()
-> Result<()> {
    let world = World::new().await?;
    let http = Http::start(&world, &[]).await?;
    for round in 0..3 {
        let mut sources = Vec::new();
        for _ in 0..4 {
            sources.push(world.app_source().await?);
            // Somebody tries tokens, so that the intake has just looked which there are.
            let unknown = format!("Bearer {}", crate::token());
            let tried = http.post_as("/logs", &[("authorization", &unknown)], "x").await?;
            tried.is(401)?;
        }
        sources.push(world.app_source().await?);
        let sent = sources.iter().map(|source| http.post("/logs", source, &[], format!("{round}")));
        for answer in try_join_all(sent).await? {
            answer.is(200)?;
        }
    }
    Ok(())
}
