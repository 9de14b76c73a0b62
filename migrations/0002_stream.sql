-- The log stream: blocks of records, partitioned by the day they were made.
--
-- Ids taken before commit become visible out of order, so readers order by (xid, seq) and read only
-- below pg_snapshot_xmin(pg_current_snapshot()). A block's id and `made_at` are chosen by its
-- producer and stay the same when the append is tried again, so it is in the stream once.

create schema stream;
create sequence stream.blocks_seq;

create table stream.blocks (
    id uuid not null,
    made_at timestamptz not null,
    environment_id uuid not null,
    xid xid8 not null default pg_current_xact_id(),
    seq bigint not null default nextval('stream.blocks_seq'),
    header bytea not null,
    payload bytea not null,
    primary key (made_at, id)
) partition by range (made_at);
alter table stream.blocks alter column payload set storage external;
create index blocks_environment on stream.blocks (environment_id, xid, seq);

-- Makes the partition for the UTC day of `at` unless it is there. Appenders call it when an insert
-- finds no partition; they may not create tables themselves. Days far from now are refused, so a
-- wrong clock cannot litter the catalogue. Making a table and attaching it blocks neither appends nor
-- readers; `create table ... partition of` waits for all of them and lets none in meanwhile.
create function stream.ensure_partition(at timestamptz) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    day date := (at at time zone 'UTC')::date;
    name text := 'blocks_' || to_char(day, 'YYYYMMDD');
begin
    if at < now() - interval '2 days' or at > now() + interval '2 days' then
        raise exception 'a block made at % is more than two days from the database''s clock', at;
    end if;
    perform pg_advisory_xact_lock(hashtext('stream.ensure_partition'));
    if to_regclass('stream.' || name) is null then
        execute format('create table stream.%I (like stream.blocks including all)', name);
        execute format(
            'alter table stream.blocks attach partition stream.%I for values from (%L) to (%L)',
            name, (day::timestamp at time zone 'UTC'), ((day + 1)::timestamp at time zone 'UTC'));
    end if;
end $$;
revoke all on function stream.ensure_partition from public;

-- Drops the partitions of which every block was made before `before`; answers how many. Dropping
-- waits for all who use the stream, and meanwhile lets none in and holds readers back, so it gives up
-- soon: trim again later.
create function stream.trim(before timestamptz) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '200ms' as $$
declare
    partition text;
    dropped integer := 0;
begin
    for partition in
        select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'stream.blocks'::regclass
          and (to_date(substr(c.relname, 8), 'YYYYMMDD') + 1)::timestamp at time zone 'UTC' <= before
    loop
        execute format('drop table stream.%I', partition);
        dropped := dropped + 1;
    end loop;
    return dropped;
end $$;
revoke all on function stream.trim from public;
