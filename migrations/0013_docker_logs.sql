-- Containers whose logs an intake follows: how far it has got in each.

-- Of one daemon one process follows the containers. The row is held shared while a container is claimed.
create table docker_followers (
    daemon text primary key,
    appender_id uuid not null,
    -- When it last said that it still does.
    seen_at timestamptz not null default now()
);

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
    -- Who appends that block. Whoever has claimed the container since may have ended before it could fence this
    -- one off.
    pending_appender uuid,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    check (num_nulls(pending_block, pending, pending_appender) in (0, 3))
);
create index container_logs_daemon on container_logs (daemon);

-- Finds what a container's labels name.
grant select (id, handle) on organizations to spillway_intake;
grant select, insert, update, delete on docker_followers, container_logs to spillway_intake;
-- Takes a container over from a process that may still be at it.
grant insert (appender_id) on stream.fences to spillway_intake;
