-- Ways in for the logs of apps and databases.
--
-- A log source is a sender's right to write lines of one app or one database. It is known by a token, of which
-- the first seven characters are its key and only the hash is kept, or by a client certificate.

do $$
begin
    create role spillway_intake login;
exception when duplicate_object or unique_violation then
    null;
end $$;

create table log_sources (
    id uuid primary key,
    environment_id uuid not null references environments,
    handle text not null,
    app_id uuid references apps,
    database_id uuid references databases,
    token_key text not null unique,
    -- SHA-256 of the token.
    token_hash bytea not null,
    -- The token before it was rotated, and until when it is good; kept by the trigger below.
    previous_token_key text unique,
    previous_token_hash bytea,
    previous_token_until timestamptz,
    -- SHA-256 of client certificates, in DER.
    client_certificates bytea[] not null default '{}',
    -- Null: what the intake's settings say.
    bytes_per_second bigint check (bytes_per_second > 0),
    burst_bytes bigint check (burst_bytes > 0),
    disabled_at timestamptz,
    deleted_at timestamptz,
    revision bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    check (num_nonnulls(app_id, database_id) = 1)
);
create unique index log_sources_handle on log_sources (environment_id, handle) where deleted_at is null;
create index log_sources_updated on log_sources (updated_at);

-- Who rotates a token need not read the hash of the one before.
create function keep_previous_token() returns trigger language plpgsql as $$
begin
    new.previous_token_key := old.token_key;
    new.previous_token_hash := old.token_hash;
    return new;
end $$;
create trigger keep_previous_token before update of token_hash on log_sources
    for each row when (old.token_hash is distinct from new.token_hash) execute function keep_previous_token();

-- Which source a client certificate is of: of one only, so that nobody gets another's lines by naming its
-- certificate.
create table log_source_certificates (
    -- SHA-256 of the certificate, in DER.
    fingerprint bytea primary key,
    source_id uuid not null references log_sources
);
create index log_source_certificates_source on log_source_certificates (source_id);

-- The quota of all sources of an environment together; null: what the intake's settings say.
alter table environments
    add column intake_bytes_per_second bigint check (intake_bytes_per_second > 0),
    add column intake_burst_bytes bigint check (intake_burst_bytes > 0);

-- What came in, as the intakes add it up every two seconds.
create table log_source_counts (
    source_id uuid primary key references log_sources,
    lines bigint not null default 0,
    bytes bigint not null default 0,
    -- Messages and requests with a wrong or an old token, or while the source is disabled.
    refused bigint not null default 0,
    -- Lines that could not be read as what they were said to be.
    malformed bigint not null default 0,
    -- Datagrams over the quota or while the stream could not take them.
    dropped bigint not null default 0,
    -- How often a sender was told to wait, or made to.
    throttled bigint not null default 0,
    -- Lines that a drain of the same environment had delivered.
    looped bigint not null default 0,
    last_line_at timestamptz,
    last_refused_at timestamptz,
    -- In words.
    last_refusal text
);
create table log_source_minutes (
    source_id uuid not null references log_sources,
    minute timestamptz not null,
    lines bigint not null,
    bytes bigint not null,
    primary key (source_id, minute)
);
create index log_source_minutes_minute on log_source_minutes (minute);

-- Requests that have a key of their own: the blocks that their lines are appended as, written before
-- that, so that a request that is tried again is in the stream once. `done_at`: they are durable.
create table intake_requests (
    source_id uuid not null references log_sources,
    -- SHA-256 of the key, and of the body.
    key_hash bytea not null,
    body_hash bytea not null,
    -- The first of the blocks; the others are derived from it. It is their records' producer, too.
    block_id uuid not null,
    created_at timestamptz not null default now(),
    done_at timestamptz,
    -- What was answered.
    answer jsonb,
    primary key (source_id, key_hash)
);
create index intake_requests_created on intake_requests (created_at);

-- intake: who may write what; it appends to the stream and reads nothing of it.
grant usage on schema stream to spillway_intake;
grant select on log_sources, environments, apps, databases to spillway_intake;
grant select, insert, update on log_source_counts, log_source_minutes to spillway_intake;
grant delete on log_source_minutes to spillway_intake;
grant select, insert, update, delete on intake_requests to spillway_intake;
grant insert (id, made_at, environment_id, header, payload) on stream.blocks to spillway_intake;
grant select (id, made_at, environment_id, xid, seq, header) on stream.blocks to spillway_intake;
grant usage on sequence stream.blocks_seq to spillway_intake;
grant execute on function stream.ensure_partition to spillway_intake;
grant select on stream.fences to spillway_intake;

-- api: sets sources up, and cannot read a token's hash back.
grant select (id, environment_id, handle, app_id, database_id, token_key, previous_token_key, previous_token_until,
    client_certificates, bytes_per_second, burst_bytes, disabled_at, deleted_at, revision, created_at, updated_at),
    insert, update on log_sources to spillway_api;
grant select, insert, delete on log_source_certificates to spillway_api;
grant select on log_source_counts, log_source_minutes to spillway_api;
