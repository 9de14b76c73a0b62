//! Drains that are deleted, with what they leave behind.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use e2e::https_receiver::HttpsReceiver;
use e2e::wait;
use store::Store;
use tokio::time::timeout;

use crate::state::user;
use crate::{DEADLINE, World, kill};

const REFUSED: i64 = 12_000;

/// The lease of the drain that is deleted, which the worker renews with those of the others, is locked for as
/// long as the deletion takes.
#[tokio::test]
async fn a_drain_with_many_refused_lines_is_deleted_without_holding_up_another() -> Result<()> {
    let world = World::new().await?;
    let receiver = HttpsReceiver::start().await?;
    let [deleted, other] = [world.https(&receiver).await?, world.https(&receiver).await?];
    let refuse = format!(
        "insert into rejected_lines (id, drain_id, line_id, line, encoded, reason)
         select gen_random_uuid(), '{deleted}', n::text, '{{\"message\": \"refused\"}}', 'line', '400'
         from generate_series(1, {REFUSED}) n"
    );
    world.admin.batch_execute(&refuse).await?;
    let mut worker = world.worker()?;
    let mut session = world.session();
    world.append(&[session.numbered(0..10)]).await?;
    for drain in [deleted, other] {
        world.state_until(drain, "the beginning", |state| state.delivered == 10).await?;
    }

    let api = Store::connect(&world.database.api_url()?, 2)?;
    let user = user(&world).await?;
    // Were it to delete the lines, too, it would now take for ever, and not only long.
    let line = format!("begin; select from rejected_lines where drain_id = '{deleted}' for update");
    let holder = world.database.connect().await?;
    holder.batch_execute(&line).await?;
    let api_waits = Duration::from_secs(5);
    let begun = Instant::now();
    let deletion = async {
        let deleting = timeout(api_waits, api.delete_log_drain(deleted, None, user));
        assert!(deleting.await.context("the deletion waits for the refused lines")??);
        anyhow::Ok(begun.elapsed())
    };
    let delivery = async {
        world.append(&[session.numbered(10..20)]).await?;
        world.state_until(other, "what came meanwhile", |state| state.delivered == 20).await?;
        anyhow::Ok(begun.elapsed())
    };
    let (deletion, delivery) = tokio::try_join!(deletion, delivery)?;
    println!("deleted in {deletion:?}, the other drain delivered after {delivery:?}");
    assert!(deletion < Duration::from_secs(1), "the deletion took {deletion:?}");
    assert!(delivery < Duration::from_secs(4), "the other drain delivered after {delivery:?}");

    // The lines go after it, by whichever worker begins to look.
    holder.batch_execute("rollback").await?;
    kill(&mut worker).await?;
    let _worker = world.worker()?;
    let left = "select count(*) from rejected_lines union all select count(*) from deleted_drains";
    wait::until_true("the lines to be gone", DEADLINE, async || {
        let left = world.admin.query(left, &[]).await?;
        Ok(left.iter().all(|row| row.get::<_, i64>(0) == 0))
    })
    .await
}
