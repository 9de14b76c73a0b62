//! Which worker owns which drain.
//!
//! Invariant: each change of owner raises the generation, and what a worker writes under an old
//! generation is refused, so a worker that was thought dead harms nothing when it wakes.

use std::time::Duration;

use model::{Drain, Environment, Handle, Id, Organization, Worker};
use serde_json::Value;
use sqlx::FromRow;
use sqlx::postgres::PgListener;
use uuid::Uuid;

use crate::{Store, StoreError};

/// What of a drain a worker needs to work on it.
#[derive(Debug, Clone, FromRow)]
pub struct WorkableDrain {
    /// Its id.
    #[sqlx(try_from = "Uuid")]
    pub id: Id<Drain>,
    /// Whose records it takes.
    #[sqlx(try_from = "Uuid")]
    pub environment_id: Id<Environment>,
    /// The environment's handle.
    #[sqlx(try_from = "String")]
    pub environment_handle: Handle,
    /// Whose environment it is.
    #[sqlx(try_from = "Uuid")]
    pub organization_id: Id<Organization>,
    /// Its handle.
    #[sqlx(try_from = "String")]
    pub handle: Handle,
    /// `syslog_tls_tcp` or `https_post`.
    pub kind: String,
    /// Where it sends, in the form of its kind.
    pub destination: Value,
    /// Sealed to the workers' key.
    pub sealed_credentials: Option<Vec<u8>>,
    /// `keep` or `strip`.
    pub control_sequences: String,
    /// `keep` or `last`.
    pub redraws: String,
    /// Which lines it takes, and what becomes of them.
    pub options: Value,
    /// Raised by each change of what is set.
    pub revision: i64,
}

/// What of a drain is looked at again and again.
#[allow(clippy::struct_excessive_bools, reason = "the switches of the table")]
#[derive(Debug, Clone, FromRow)]
pub struct DrainOutline {
    /// Its id.
    #[sqlx(try_from = "Uuid")]
    pub id: Id<Drain>,
    /// Whether it takes apps' records.
    pub drain_apps: bool,
    /// Whether it takes databases' records.
    pub drain_databases: bool,
    /// Whether it takes ephemeral sessions' records.
    pub drain_ephemeral_sessions: bool,
    /// Whether it takes records of activity.
    pub drain_activity: bool,
    /// What it is to leave out: everything up to here.
    pub skip_to_xid: Option<i64>,
    /// The same: number.
    pub skip_to_seq: Option<i64>,
    /// What is not kept for it any longer: everything up to here. None where it has passed that.
    pub drop_to_xid: Option<i64>,
    /// The same: number.
    pub drop_to_seq: Option<i64>,
    /// Whether it is paused.
    pub paused: bool,
    /// Raised by each change of what is set.
    pub revision: i64,
}

/// The proof that a worker owns a drain: writes carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The drain.
    pub drain: Id<Drain>,
    /// The worker that took it.
    pub worker: Id<Worker>,
    /// How often the drain had changed its owner by then.
    pub generation: i64,
}

/// Tells that a drain was changed or is to be tested.
#[derive(Debug)]
pub struct DrainNews(PgListener);

impl DrainNews {
    /// Waits for the next news. After an error, look at everything and listen anew.
    pub async fn next(&mut self) -> Result<(), StoreError> {
        self.0.recv().await?;
        Ok(())
    }
}

impl Store {
    /// A drain; None if it is gone.
    pub async fn workable_drain(&self, id: Id<Drain>) -> Result<Option<WorkableDrain>, StoreError> {
        Ok(sqlx::query_as(
            "select d.id, d.environment_id, e.handle as environment_handle, e.organization_id,
                 d.handle, d.kind, d.destination, d.sealed_credentials,
                 d.control_sequences, d.redraws, d.options, d.revision
             from log_drains d join environments e on e.id = d.environment_id
             where d.id = $1 and e.deleted_at is null",
        )
        .bind(id.uuid())
        .fetch_optional(&self.pool)
        .await?)
    }

    /// Every drain of every environment.
    pub async fn drain_outlines(&self) -> Result<Vec<DrainOutline>, StoreError> {
        Ok(sqlx::query_as(
            "select d.id, d.drain_apps, d.drain_databases, d.drain_ephemeral_sessions,
                 d.drain_activity, d.skip_to_xid, d.skip_to_seq, dropped.xid as drop_to_xid,
                 dropped.seq as drop_to_seq, d.paused_at is not null as paused, d.revision
             from log_drains d join environments e on e.id = d.environment_id
             left join lateral (
                 select h.xid::text::bigint as xid, h.seq
                 from stream.horizons h join drain_positions p on p.drain_id = d.id
                 where h.environment_id = d.environment_id
                     and (h.xid, h.seq) > (p.high_xid::text::xid8, p.high_seq)
             ) dropped on true
             where e.deleted_at is null
             order by d.id",
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Listens for changes of drains and for wishes to test one. Takes a connection of the pool.
    pub async fn drain_news(&self) -> Result<DrainNews, StoreError> {
        let mut listener = PgListener::connect_with(&self.pool).await?;
        listener.listen_all(["spillway_drains", "spillway_drain_tests"]).await?;
        Ok(DrainNews(listener))
    }

    /// Says that a worker is there for so long; answers how many are, this one included.
    pub async fn announce_worker(
        &self,
        worker: Id<Worker>,
        duration: Duration,
    ) -> Result<u32, StoreError> {
        let others: i64 = sqlx::query_scalar(
            "with gone as (
                 delete from drain_workers where expires_at < now() - interval '1 hour'
             ), mine as (
                 insert into drain_workers values ($1, now() + make_interval(secs => $2))
                 on conflict (id) do update set expires_at = excluded.expires_at
             )
             select count(*) from drain_workers where id <> $1 and expires_at > now()",
        )
        .bind(worker.uuid())
        .bind(duration.as_secs_f64())
        .fetch_one(&self.pool)
        .await?;
        Ok(u32::try_from(others).unwrap_or_default().saturating_add(1))
    }

    /// Says that a worker is gone.
    pub async fn forget_worker(&self, worker: Id<Worker>) -> Result<(), StoreError> {
        sqlx::query("delete from drain_workers where id = $1")
            .bind(worker.uuid())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Takes a drain that nobody owns; None if somebody does, or the drain is gone.
    pub async fn take_lease(
        &self,
        drain: Id<Drain>,
        worker: Id<Worker>,
        duration: Duration,
    ) -> Result<Option<Lease>, StoreError> {
        let generation: Option<i64> = sqlx::query_scalar(
            "insert into drain_leases as l (drain_id, worker_id, generation, expires_at)
             select id, $2, 1, now() + make_interval(secs => $3) from log_drains where id = $1
             on conflict (drain_id) do update
                 set worker_id = excluded.worker_id, generation = l.generation + 1,
                     expires_at = excluded.expires_at
                 where l.expires_at <= now()
             returning generation",
        )
        .bind(drain.uuid())
        .bind(worker.uuid())
        .bind(duration.as_secs_f64())
        .fetch_optional(&self.pool)
        .await?;
        Ok(generation.map(|generation| Lease { drain, worker, generation }))
    }

    /// Prolongs leases; answers the drains of those that still hold.
    pub async fn renew_leases(
        &self,
        leases: &[Lease],
        duration: Duration,
    ) -> Result<Vec<Id<Drain>>, StoreError> {
        let (drains, workers, generations) = columns(leases);
        let held: Vec<Uuid> = sqlx::query_scalar(
            "with mine as materialized (
                 select drain_id from drain_leases
                 where (drain_id, worker_id, generation)
                     in (select * from unnest($1::uuid[], $2::uuid[], $3::bigint[]))
                 order by drain_id for no key update
             )
             update drain_leases set expires_at = now() + make_interval(secs => $4)
             where drain_id in (select drain_id from mine)
             returning drain_id",
        )
        .bind(drains)
        .bind(workers)
        .bind(generations)
        .bind(duration.as_secs_f64())
        .fetch_all(&self.pool)
        .await?;
        Ok(held.into_iter().map(Id::from_uuid).collect())
    }

    /// Gives drains back, so that another worker can take them at once.
    pub async fn release_leases(&self, leases: &[Lease]) -> Result<(), StoreError> {
        let (drains, workers, generations) = columns(leases);
        sqlx::query(
            "with mine as materialized (
                 select drain_id from drain_leases
                 where (drain_id, worker_id, generation)
                     in (select * from unnest($1::uuid[], $2::uuid[], $3::bigint[]))
                 order by drain_id for no key update
             )
             update drain_leases set expires_at = '-infinity'
             where drain_id in (select drain_id from mine)",
        )
        .bind(drains)
        .bind(workers)
        .bind(generations)
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

fn columns(leases: &[Lease]) -> (Vec<Uuid>, Vec<Uuid>, Vec<i64>) {
    (
        leases.iter().map(|lease| lease.drain.uuid()).collect(),
        leases.iter().map(|lease| lease.worker.uuid()).collect(),
        leases.iter().map(|lease| lease.generation).collect(),
    )
}
