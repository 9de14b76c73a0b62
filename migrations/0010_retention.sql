-- How long the log stream keeps an environment's blocks: the retention horizon.
--
-- The horizon is a position in the stream that only moves forward. It passes blocks by their age or because
-- an environment has too many bytes. Drains that are behind it count what they lose and go on there; only
-- what every drain has passed is deleted. All of it is in functions of the owner: a worker says when, and cannot
-- say what.

alter table environments
    -- Null: for ever.
    add column retention_seconds bigint default 2592000 check (retention_seconds >= 86400),
    -- Null: however many.
    add column retention_bytes bigint check (retention_bytes >= 1048576);

create table stream.horizons (
    environment_id uuid primary key references environments,
    -- Blocks at or below are not kept.
    xid xid8 not null default '0',
    seq bigint not null default 0,
    -- When the last of them was made.
    passed_at timestamptz,
    -- Blocks after the horizon and up to here are counted in `kept_bytes`.
    counted_xid xid8 not null default '0',
    counted_seq bigint not null default 0,
    -- Headers and payloads, as they are stored.
    kept_bytes bigint not null default 0,
    looked_at timestamptz not null default '-infinity'
);

-- When it was last told in the activity that the horizon has passed records of a drain (`dropped_records`)
-- before they were delivered.
alter table drain_positions add column dropped_told_at timestamptz;

-- Whom to tell of what happens in an environment; null: its webhook.
create view notice_recipients as
    select environment_id, null::text as email from notice_settings where webhook_url is not null
    union all select environment_id, unnest(emails) from notice_settings;

-- Counts some blocks and moves an environment's horizon past some; whether there may be more to do. Until its
-- last statement it has no transaction id, so readers of the stream do not wait for it.
create function stream.move_horizon(environment uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    -- Blocks at a time.
    most constant integer := 2000;
    horizon stream.horizons;
    keep record;
    fresh record;
    passed record;
    gone record;
    more boolean := false;
begin
    if not pg_try_advisory_xact_lock(hashtext('stream.horizons'), hashtext(environment::text)) then
        return false;
    end if;
    select * into horizon from stream.horizons h where h.environment_id = environment;
    if not found then
        insert into stream.horizons (environment_id) values (environment);
        return true;
    end if;
    -- How far a session that goes on has got is found out from its blocks, should its edge die.
    select case when e.retention_seconds is not null then
            least(now() - make_interval(secs => e.retention_seconds), (
                select min(s.requested_at) from public.ephemeral_sessions s
                where s.environment_id = environment and s.state = 'active'))
        end as since, e.retention_bytes as bytes
        into keep from public.environments e where e.id = environment;
    select count(*) as blocks, coalesce(sum(octets), 0) as bytes,
            (array_agg(b.xid order by b.xid desc, b.seq desc))[1] as xid,
            (array_agg(b.seq order by b.xid desc, b.seq desc))[1] as seq
        into fresh from (
            select xid, seq, octet_length(header) + octet_length(payload) as octets from stream.blocks
            where environment_id = environment and (xid, seq) > (horizon.counted_xid, horizon.counted_seq)
                and xid < pg_snapshot_xmin(pg_current_snapshot())
            order by xid, seq limit most
        ) b;
    if fresh.blocks > 0 then
        horizon.counted_xid := fresh.xid;
        horizon.counted_seq := fresh.seq;
        horizon.kept_bytes := horizon.kept_bytes + fresh.bytes;
    end if;
    -- As a rule there is nothing to pass. A block of the last hour is kept whatever there is: its append may
    -- still be tried again.
    select made_at < keep.since as by_age, made_at < now() - interval '1 hour' as by_bytes into passed
        from stream.blocks
        where environment_id = environment and (xid, seq) > (horizon.xid, horizon.seq)
            and (xid, seq) <= (horizon.counted_xid, horizon.counted_seq)
        order by xid, seq limit 1;
    if passed.by_age or (passed.by_bytes and horizon.kept_bytes > keep.bytes) then
        select count(*) as blocks, coalesce(sum(octets), 0) as bytes, max(made_at) as made_at,
                (array_agg(b.xid order by b.xid desc, b.seq desc))[1] as xid,
                (array_agg(b.seq order by b.xid desc, b.seq desc))[1] as seq
            into gone from (
                select *, bool_and(coalesce(made_at < keep.since, false) or coalesce(
                        horizon.kept_bytes - before > keep.bytes and made_at < now() - interval '1 hour', false)
                    ) over (order by xid, seq) as is_passed
                from (
                    select *, sum(octets) over (order by xid, seq) - octets as before
                    from (
                        select xid, seq, made_at, octet_length(header) + octet_length(payload) as octets
                        from stream.blocks
                        where environment_id = environment and (xid, seq) > (horizon.xid, horizon.seq)
                            and (xid, seq) <= (horizon.counted_xid, horizon.counted_seq)
                        order by xid, seq limit most
                    ) sized
                ) summed
            ) b where is_passed;
        horizon.xid := gone.xid;
        horizon.seq := gone.seq;
        horizon.passed_at := greatest(horizon.passed_at, gone.made_at);
        horizon.kept_bytes := horizon.kept_bytes - gone.bytes;
        more := gone.blocks = most;
    end if;
    update stream.horizons h set xid = horizon.xid, seq = horizon.seq, passed_at = horizon.passed_at,
        counted_xid = horizon.counted_xid, counted_seq = horizon.counted_seq, kept_bytes = horizon.kept_bytes, looked_at = now()
        where h.environment_id = environment;
    return more or fresh.blocks = most;
end $$;
revoke all on function stream.move_horizon from public;

-- What the horizon and every drain of an environment have passed.
create function stream.passed_by_all(environment uuid, out xid xid8, out seq bigint)
language sql stable set search_path = pg_catalog, pg_temp as $$
    select position.xid, position.seq
    from stream.horizons h, lateral (
        select h.xid, h.seq
        union all
        select p.low_xid::text::xid8, p.low_seq
        from public.drain_positions p join public.log_drains d on d.id = p.drain_id
        where d.environment_id = environment
    ) position
    where h.environment_id = environment
    order by position.xid, position.seq limit 1
$$;
revoke all on function stream.passed_by_all from public;

-- Deletes some of the blocks that all have passed; answers how many. Those of the day that the horizon is in
-- wait until it is over, unless they go for their bytes: as a rule the whole day is dropped by then.
create function stream.delete_passed(environment uuid, most integer) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    passed record;
    keep record;
    deleted integer;
begin
    if not pg_try_advisory_xact_lock(hashtext('stream.horizons'), hashtext(environment::text)) then
        return 0;
    end if;
    select * into passed from stream.passed_by_all(environment);
    select now() - make_interval(secs => retention_seconds) as since, retention_bytes is not null as by_bytes
        into keep from public.environments where id = environment;
    delete from stream.blocks b using (
        select made_at, id from stream.blocks
        where environment_id = environment and (xid, seq) <= (passed.xid, passed.seq)
            and (keep.since is null
                or made_at < date_trunc('day', keep.since at time zone 'UTC') at time zone 'UTC'
                or (keep.by_bytes and made_at >= keep.since))
        order by xid, seq limit most
    ) gone where b.made_at = gone.made_at and b.id = gone.id;
    get diagnostics deleted = row_count;
    return deleted;
end $$;
revoke all on function stream.delete_passed from public;

-- Drops the oldest closed day of which all have passed every block; whether there was one. Dropping waits for
-- all who use the stream, and meanwhile lets none in, so it gives up soon: try again later.
create function stream.drop_passed_day() returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '200ms' as $$
declare
    old regclass;
    kept boolean;
begin
    for old in
        select partition from stream.days
        where closed and day <= (select max(passed_at) at time zone 'UTC' from stream.horizons)::date
        order by day
    loop
        execute format('select exists (
                select from public.environments e, stream.passed_by_all(e.id) passed
                where exists (select from %s b where b.environment_id = e.id
                    and (passed.xid is null or (b.xid, b.seq) > (passed.xid, passed.seq)))
            )', old) into kept;
        if not kept then
            execute format('drop table %s', old);
            return true;
        end if;
    end loop;
    return false;
end $$;
revoke all on function stream.drop_passed_day from public;
drop function stream.trim;

grant select on stream.horizons, notice_recipients to spillway_worker;
grant execute on function stream.move_horizon, stream.delete_passed, stream.drop_passed_day to spillway_worker;
grant usage on schema stream to spillway_api;
grant select on stream.horizons to spillway_api;
