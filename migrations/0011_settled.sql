-- Up to where the log stream can be read while transactions are open that do not append to it.

-- The transaction id below which no block can appear any more. Of the transactions that are open, those count
-- that hold the lock of who writes to `stream.blocks`: it is taken before the id (below), and given back, like
-- the id's own, when the transaction has ended for all to see. An id whose lock is not seen counts, too: it is
-- shown later than the id. A standby does not know which ids are whose, so there every open transaction counts.
-- Who appends to a partition by its own name is not seen: roles cannot.
create function stream.settled_below() returns xid8
language sql stable set search_path = pg_catalog, pg_temp as $$
    with held as materialized (
        select locktype, virtualtransaction, transactionid from pg_catalog.pg_locks
        where granted and (locktype = 'transactionid' and mode = 'ExclusiveLock'
            or locktype = 'relation' and relation = 'stream.blocks'::regclass
                and database = (select oid from pg_database where datname = current_database())
                and mode not in ('AccessShareLock', 'RowShareLock'))
    )
    select case when pg_is_in_recovery() then pg_snapshot_xmin(pg_current_snapshot()) else coalesce((
        select xid from pg_snapshot_xip(pg_current_snapshot()) xid
        where not exists (
            select from held own where locktype = 'transactionid' and transactionid = xid::xid
                and not exists (
                    select from held blocks where locktype = 'relation'
                        and blocks.virtualtransaction = own.virtualtransaction
                )
        )
        order by xid limit 1
    ), pg_snapshot_xmax(pg_current_snapshot())) end
$$;
revoke all on function stream.settled_below from public;
grant execute on function stream.settled_below to spillway_api, spillway_worker;

create function stream.check_append() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if pg_current_xact_id_if_assigned() is not null then
        raise exception 'an append to the log stream must be the first thing that its transaction writes';
    end if;
    return null;
end $$;
create trigger check_append before insert on stream.blocks execute function stream.check_append();
