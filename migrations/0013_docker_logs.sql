-- Containers whose logs an intake follows: how far it has got in each.
--
-- A row is written before what it promises: `pending_block` is the id of the block that is appended next and
-- `pending` the position after it. Who goes on after a crash looks whether that block is in the stream.

create table container_logs (
    -- The container's id, as Docker gives it: 64 hexadecimal digits.
    container_id text primary key,
    -- The daemon that runs it.
    daemon text not null,
    environment_id uuid not null references environments,
    -- Who numbers its records.
    producer_id uuid not null,
    -- The one process that may append them.
    appender_id uuid not null,
    position jsonb not null,
    pending_block uuid,
    pending jsonb,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    check ((pending_block is null) = (pending is null))
);
create index container_logs_daemon on container_logs (daemon);

-- Finds what a container's labels name.
grant select (id, handle) on organizations to spillway_intake;
grant select, insert, update, delete on container_logs to spillway_intake;
-- Takes a container over from a process that may still be at it.
grant insert (appender_id) on stream.fences to spillway_intake;
