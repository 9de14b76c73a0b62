-- Appenders that were taken for dead. An appender is one life of a process that appends to the stream;
-- its connections hold an advisory lock on its id and look here when they begin, so a process that was
-- frozen, and whose sessions others have closed, appends nothing when it wakes.

create table stream.fences (
    appender_id uuid primary key,
    fenced_at timestamptz not null default now()
);
grant select, insert (appender_id) on stream.fences to spillway_edge;

-- Who appends a live session's records, or did when it was last seen.
alter table ephemeral_sessions add column appender_id uuid;
