-- Which lines a drain takes, and what becomes of them: the object that the crate `destinations` describes.
alter table log_drains add column options jsonb not null default '{}';
grant select (options) on log_drains to spillway_api;

-- Lines of which something was masked.
alter table drain_positions add column redacted_lines bigint not null default 0;

-- How a drain fares: since it was made, and minute by minute.
alter table drain_positions
    add column delivered_bytes bigint not null default 0,
    add column repeated_lines bigint not null default 0,
    add column lag_bytes bigint not null default 0,
    add column connection jsonb;

create table drain_minutes (
    drain_id uuid not null references log_drains on delete cascade,
    minute timestamptz not null,
    delivered_lines bigint not null default 0,
    delivered_bytes bigint not null default 0,
    rejected_lines bigint not null default 0,
    failures bigint not null default 0,
    lag_records bigint not null default 0,
    lag_seconds double precision not null default 0,
    primary key (drain_id, minute)
) with (fillfactor = 50);
grant select, insert, update, delete on drain_minutes to spillway_worker;
grant select on drain_minutes to spillway_api;

-- A drain can be told to leave out what it has not delivered: records up to here. Those are counted, and so
-- are those that were dropped because they were too old or too many to be kept.
alter table log_drains
    add column skip_to_xid bigint,
    add column skip_to_seq bigint;
alter table drain_positions
    add column skipped_records bigint not null default 0,
    add column dropped_records bigint not null default 0;

-- A line that was refused can be sent again, as it was encoded.
alter table rejected_lines
    add column encoded bytea,
    add column format text not null default '',
    add column resend_requested_at timestamptz;
create index rejected_lines_drain on rejected_lines (drain_id, id);
create index rejected_lines_resend on rejected_lines (drain_id) where resend_requested_at is not null;
grant select (id, drain_id, line_id, line, reason, rejected_at, resend_requested_at),
    update (resend_requested_at) on rejected_lines to spillway_api;
grant delete on rejected_lines to spillway_worker;

-- A configuration can be tested before it is kept: that of no drain, or of a drain that would be changed.
alter table drain_tests
    alter column drain_id drop not null,
    add column environment_id uuid references environments,
    add column configuration jsonb,
    add column sealed_credentials bytea,
    add column claimed_at timestamptz;
revoke select on drain_tests from spillway_api;
grant select (id, finished_at, ok, steps) on drain_tests to spillway_api;
grant select (environment_id, configuration, sealed_credentials, claimed_at),
    update (sealed_credentials, claimed_at), delete on drain_tests to spillway_worker;
