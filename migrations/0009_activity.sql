-- What users and the platform did in an environment.
--
-- A row is written in the transaction of what it tells about, so it is there if and only if that happened.
-- A worker then appends it to the log stream. `block_id`, at first the row's own id, is the id of the block
-- that it is appended as: whoever tries again, the stream has it once. `claimed_until` keeps workers apart;
-- that they append one after the other is for the order of an environment's rows.
create table activity (
    id uuid primary key,
    environment_id uuid not null references environments,
    at timestamptz not null default now(),
    -- Null: the platform.
    actor_id uuid references users,
    -- The actor's e-mail address then, or `platform`.
    actor text not null,
    action text not null,
    -- What it was done to, which may be gone by now.
    target_kind text not null,
    target_id uuid not null,
    target_handle text not null,
    -- In words; nothing secret.
    detail text not null,
    block_id uuid not null,
    claimed_until timestamptz not null default '-infinity',
    appended_at timestamptz
);
create index activity_environment on activity (environment_id, id);
create index activity_pending on activity (environment_id, id) where appended_at is null;

alter table log_drains add column drain_activity boolean not null default false;

-- Since when it is known in the activity that the drain fails; null once it is known that it has
-- recovered. Changed together with the row that says so.
alter table drain_positions add column failure_announced_at timestamptz;

-- Whom to tell of a drain that fails. The webhook's secret is sealed to the workers' key, for the
-- environment's id.
create table notice_settings (
    environment_id uuid primary key references environments,
    webhook_url text,
    sealed_webhook_secret bytea,
    has_webhook_secret boolean not null generated always as (sealed_webhook_secret is not null) stored,
    emails text[] not null default '{}'
);

-- Who is to be told of which activity, written together with it. `next_attempt_at` is when a worker may
-- try; who tries moves it on beforehand, so that two do not try at once and a killed one is followed.
create table notices (
    id uuid primary key,
    activity_id uuid not null references activity,
    environment_id uuid not null references environments,
    -- An e-mail address; null: the webhook.
    email text,
    attempts integer not null default 0,
    next_attempt_at timestamptz not null default now(),
    delivered_at timestamptz,
    given_up_at timestamptz,
    last_error text,
    last_error_at timestamptz
);
create index notices_pending on notices (next_attempt_at) where delivered_at is null and given_up_at is null;
create index notices_failed on notices (environment_id, last_error_at) where last_error_at is not null;

-- api: writes activity of users down and reads all of it; sets whom to tell, but cannot read the secret back.
grant select on activity to spillway_api;
grant insert (id, environment_id, actor_id, actor, action, target_kind, target_id, target_handle, detail, block_id)
    on activity to spillway_api;
grant select (drain_activity) on log_drains to spillway_api;
grant select (environment_id, webhook_url, has_webhook_secret, emails), insert, update on notice_settings to spillway_api;
grant select on notices to spillway_api;

-- worker: writes down what it finds itself, appends all of it to the stream, and sends notices; it sees of users
-- no more than stands in the activity.
grant select on activity, notice_settings to spillway_worker;
grant insert (id, environment_id, actor, action, target_kind, target_id, target_handle, detail, block_id)
    on activity to spillway_worker;
grant update (block_id, claimed_until, appended_at) on activity to spillway_worker;
grant select, insert, update, delete on notices to spillway_worker;
grant insert (id, made_at, environment_id, header, payload) on stream.blocks to spillway_worker;
grant usage on sequence stream.blocks_seq to spillway_worker;
grant execute on function stream.ensure_partition to spillway_worker;
grant select on stream.fences to spillway_worker;
