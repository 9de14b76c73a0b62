-- Days end: more than five days before the newest day, a partition takes no more blocks.
--
-- A reader at the end of the stream then looks at the open days only, however many are kept. This rests
-- on locks and not on clocks: making the trigger waits for every transaction that has written to the
-- partition, so a reader that finds nothing afterwards has everything of that day before its position.
-- Five days: a block's day may be two before and the newest two after the database's own, and one to spare.

-- A block that is in the stream already is there: its append tried again succeeds on any day.
create function stream.refuse_closed() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if exists (select from stream.blocks where made_at = new.made_at and id = new.id) then
        return null;
    end if;
    raise exception 'a block made at % comes after its day was closed', new.made_at;
end $$;
revoke all on function stream.refuse_closed from public;

-- The days there are, and whether they are closed.
create view stream.days as
    select c.oid as partition, to_date(substr(c.relname, 8), 'YYYYMMDD') as day,
        exists (select from pg_trigger t where t.tgrelid = c.oid and t.tgname = 'closed') as closed
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'stream.blocks'::regclass;

-- No block made before this can be appended any more.
create function stream.open_since() returns timestamptz
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select coalesce(least(min(day) filter (where not closed), max(day) - 5)::timestamp
        at time zone 'UTC', '-infinity')
    from stream.days
$$;
revoke all on function stream.open_since from public;
grant execute on function stream.open_since to spillway_worker;

-- Neither appends to open days nor readers wait for this. What it does not get is closed with the next day.
create function stream.close_days() returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '200ms' as $$
declare
    late regclass;
begin
    for late in
        select partition from stream.days
        where not closed and day < (select max(day) - 5 from stream.days) order by day
    loop
        begin
            execute format('create trigger closed before insert on %s '
                'for each row execute function stream.refuse_closed()', late);
        exception when lock_not_available then
            return;
        end;
    end loop;
end $$;
revoke all on function stream.close_days from public;

create or replace function stream.ensure_partition(at timestamptz) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    day date := (at at time zone 'UTC')::date;
    name text := 'blocks_' || to_char(day, 'YYYYMMDD');
begin
    if at < now() - interval '2 days' or at > now() + interval '2 days' then
        raise exception 'a block made at % is more than two days from the database''s clock', at;
    end if;
    perform pg_advisory_xact_lock(hashtext('stream.ensure_partition'));
    if to_regclass('stream.' || name) is not null then
        return;
    end if;
    if at < stream.open_since() then
        raise exception 'a block made at % comes after its day was closed', at;
    end if;
    execute format('create table stream.%I (like stream.blocks including all)', name);
    execute format(
        'alter table stream.blocks attach partition stream.%I for values from (%L) to (%L)',
        name, (day::timestamp at time zone 'UTC'), ((day + 1)::timestamp at time zone 'UTC'));
    perform stream.close_days();
end $$;
