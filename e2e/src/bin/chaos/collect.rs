//! From the living platform into the evidence's files.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::postgres::connect;
use e2e::wait;
use futures_util::StreamExt as _;
use log_stream::{Block, LogStream as _, Position, PostgresSettings, PostgresStream};
use model::{Event, Id, Secret, Source};
use tokio::time::timeout;
use uuid::Uuid;

use crate::evidence::{Drain, Evidence, write_block};
use crate::world::{HTTPS, SYSLOG, World};

const DEADLINE: Duration = Duration::from_mins(1);

/// Waits until every session has ended in the control data, and both drains have nothing left.
pub(crate) async fn caught_up(world: &World, deadline: Duration) -> Result<()> {
    let database = connect(world.admin_url()).await?;
    let live = "select count(*) from ephemeral_sessions where state = 'active'";
    wait::until_true("every session to be closed", deadline, async || {
        Ok(database.query_one(live, &[]).await?.get::<_, i64>(0) == 0)
    })
    .await?;
    // Everything up to the head is delivered, and no line is open.
    let behind = "select count(*) from log_drains d join drain_positions p on p.drain_id = d.id \
        where d.handle = any($1) and (p.open <> '{}' or exists (select from stream.blocks b \
            where b.environment_id = d.environment_id and \
            (b.xid, b.seq) > (p.low_xid::text::xid8, p.low_seq)))";
    let handles = [SYSLOG, HTTPS].as_slice();
    wait::until_true("the drains to catch up", deadline, async || {
        Ok(database.query_one(behind, &[&handles]).await?.get::<_, i64>(0) == 0)
    })
    .await
}

/// Waits until these lines are in the stream.
pub(crate) async fn taken_in(
    world: &World,
    mut lines: Vec<Vec<u8>>,
    deadline: Duration,
) -> Result<()> {
    let environment = world.environment().await?;
    let url = Secret::new(world.admin_url().to_owned());
    let stream = PostgresStream::connect(PostgresSettings::new(url)).await?;
    let mut blocks = stream.read(environment.parse()?, Position::START);
    let read = async {
        while !lines.is_empty() {
            let (_, block) = blocks.next().await.context("the reader never ends")??;
            if !block.header().sources.contains(&Source::App) {
                continue;
            }
            for record in block.records()? {
                if let Event::Line(line) = &record.event {
                    lines.retain(|wanted| line.text != wanted);
                }
            }
        }
        anyhow::Ok(())
    };
    timeout(deadline, read)
        .await
        .with_context(|| format!("not in the stream within {deadline:?}"))?
}

/// Takes a block of this kind out of the middle of the stream.
pub(crate) async fn delete_a_block(world: &World, is_wanted: fn(&Block) -> bool) -> Result<()> {
    let database = connect(world.admin_url()).await?;
    let all = "select id, header, payload from stream.blocks order by xid, seq";
    let mut found = Vec::new();
    for row in database.query(all, &[]).await? {
        let block =
            Block::from_parts(row.get(0), row.get::<_, Vec<u8>>(1), row.get::<_, Vec<u8>>(2))?;
        if is_wanted(&block) {
            found.push(block.id());
        }
    }
    let middle = found.get(found.len() / 2).context("there is no block to delete")?;
    let deleted = database.execute("delete from stream.blocks where id = $1", &[middle]).await?;
    ensure!(deleted == 1, "the block is gone already");
    Ok(())
}

/// Reads the whole stream with the platform's own reader.
pub(crate) async fn stream(world: &World, evidence: &Evidence) -> Result<()> {
    let database = connect(world.admin_url()).await?;
    let url = Secret::new(world.admin_url().to_owned());
    let stream = PostgresStream::connect(PostgresSettings::new(url)).await?;
    let mut file = evidence.block_writer()?;
    let environments =
        database.query("select distinct environment_id from stream.blocks", &[]).await?;
    for row in environments {
        let environment: Uuid = row.get(0);
        let count = "select count(*) from stream.blocks where environment_id = $1";
        let count: i64 = database.query_one(count, &[&environment]).await?.get(0);
        let mut blocks = stream.read(Id::from_uuid(environment), Position::START);
        for _ in 0..count {
            let next = timeout(DEADLINE, blocks.next()).await.context("a block is not read")?;
            let (position, block) = next.context("the reader never ends")??;
            write_block(&mut file, position, &block)?;
        }
    }
    file.flush()?;
    Ok(())
}

/// What the receivers, and the platform, know of the drains.
pub(crate) async fn drains(world: &World) -> Result<Vec<Drain>> {
    let database = connect(world.admin_url()).await?;
    let mut drains = Vec::new();
    for handle in [SYSLOG, HTTPS] {
        let rejected = "select r.line_id from rejected_lines r join log_drains d \
            on d.id = r.drain_id where d.handle = $1";
        let rejected = database.query(rejected, &[&handle]).await?;
        let syslog = handle == SYSLOG;
        drains.push(Drain {
            handle: handle.to_owned(),
            ended_by_receiver: if syslog { world.syslog.ended() } else { world.https.unanswered() },
            connections: u64::from(if syslog {
                world.syslog.connections()
            } else {
                world.https.requests()
            }),
            refused: if syslog { Vec::new() } else { world.https.refused() },
            rejected: rejected.iter().map(|row| row.get(0)).collect(),
        });
    }
    Ok(drains)
}
