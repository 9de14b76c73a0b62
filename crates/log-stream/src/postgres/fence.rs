//! Fences: who was taken for dead appends no more, even if it only was frozen.
//!
//! Every connection that appends holds a shared advisory lock on its appender until it ends, and
//! looks after that whether the appender is fenced off. Who fences it off writes that down first,
//! and then waits until it can have the lock for itself. So a connection either sees the fence, or
//! held its lock before the fence was there, and then it has ended when the wait is over. Appends
//! themselves pay nothing for it.

use model::{Appender, Id};

use super::session::{Dialer, Failure, Session};

const ENTER: &str = "select pg_advisory_lock_shared(hashtextextended($1::text, 0))";
// A statement of its own: its snapshot is taken when the lock is held.
const IS_FENCED: &str = "select from stream.fences where appender_id = $1";

const FENCE: &str = "insert into stream.fences (appender_id) values ($1) on conflict do nothing";
// The frozen process cannot end its connections, so the server does. A lock on a bigint shows as its
// two halves.
const CUT: &str = "\
    select pg_terminate_backend(pid) from pg_locks \
    where locktype = 'advisory' and objsubid = 1 and granted and pid <> pg_backend_pid() \
        and database = (select oid from pg_database where datname = current_database()) \
        and (classid::bigint << 32 | objid::bigint) = hashtextextended($1::text, 0)";
const AWAIT: &str = "select pg_advisory_xact_lock(hashtextextended($1::text, 0))";

/// Makes a connection one of this appender's; fails if the appender is fenced off.
pub(super) async fn enter(session: &Session, appender: Id<Appender>) -> Result<(), Failure> {
    session.execute(ENTER, &[&appender.to_string()]).await?;
    let fences = session.query(IS_FENCED, &[&appender.uuid()]).await?;
    if fences.is_empty() { Ok(()) } else { Err(Failure::fenced()) }
}

/// Fences an appender off, and waits until its connections have ended.
pub(super) async fn close(dialer: &Dialer, appender: Id<Appender>) -> Result<(), Failure> {
    let session = dialer.dial().await?;
    let name = appender.to_string();
    session.execute(FENCE, &[&appender.uuid()]).await?;
    session.execute(CUT, &[&name]).await?;
    session.execute(AWAIT, &[&name]).await
}
