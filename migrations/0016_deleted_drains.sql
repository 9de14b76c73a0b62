-- A drain is deleted at once, however many of its lines were refused: whoever renews leases waits for it.

-- Drains whose refused lines are yet to be deleted, a few at a time, by workers.
create table deleted_drains (
    drain_id uuid primary key,
    deleted_at timestamptz not null default now()
);
grant select, delete on deleted_drains to spillway_worker;

alter table rejected_lines drop constraint rejected_lines_drain_id_fkey;

create function note_deleted_drain() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    insert into public.deleted_drains (drain_id) values (old.id) on conflict do nothing;
    return null;
end $$;
revoke all on function note_deleted_drain from public;
create trigger note_deleted after delete on log_drains
    for each row execute function note_deleted_drain();
