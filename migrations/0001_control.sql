-- Control data: who may do what, with which apps, databases and log drains.
-- Deleted environments, apps and databases keep their rows: sessions of the past refer to them.

create table organizations (
    id uuid primary key,
    handle text not null unique,
    name text not null,
    created_at timestamptz not null default now()
);

create table users (
    id uuid primary key,
    email text not null,
    name text not null,
    password_hash text not null,
    created_at timestamptz not null default now(),
    disabled_at timestamptz
);
create unique index users_email on users (lower(email));

create table memberships (
    organization_id uuid not null references organizations,
    user_id uuid not null references users,
    role text not null check (role in ('owner', 'admin', 'engineer', 'auditor', 'viewer')),
    created_at timestamptz not null default now(),
    primary key (organization_id, user_id)
);
create index memberships_user on memberships (user_id);

-- Only hashes (SHA-256) of tokens are kept. Tokens of one sign-in share a family: using a token
-- twice ends the family (RFC 9700, section 4.14.2).
create table refresh_tokens (
    id uuid primary key,
    user_id uuid not null references users,
    family uuid not null,
    token_hash bytea not null unique,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    used_at timestamptz,
    revoked_at timestamptz
);
create index refresh_tokens_family on refresh_tokens (family);

create table api_tokens (
    id uuid primary key,
    user_id uuid not null references users,
    name text not null,
    token_hash bytea not null unique,
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz
);
create index api_tokens_user on api_tokens (user_id);

-- A key signs in as exactly one user, so its fingerprint is unique everywhere.
create table ssh_keys (
    id uuid primary key,
    user_id uuid not null references users,
    name text not null,
    public_key text not null,
    fingerprint text not null unique,
    created_at timestamptz not null default now(),
    last_used_at timestamptz
);
create index ssh_keys_user on ssh_keys (user_id);

-- The session policy stands in the environment's row.
create table environments (
    id uuid primary key,
    organization_id uuid not null references organizations,
    handle text not null,
    idle_limit_seconds integer not null default 1800 check (idle_limit_seconds between 10 and 604800),
    memory_limit_bytes bigint not null default 1073741824 check (memory_limit_bytes >= 16777216),
    cpu_limit_millis integer not null default 2000 check (cpu_limit_millis between 50 and 256000),
    pids_limit integer not null default 1024 check (pids_limit between 8 and 100000),
    revision bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz
);
create unique index environments_handle on environments (organization_id, handle) where deleted_at is null;

create table apps (
    id uuid primary key,
    environment_id uuid not null references environments,
    handle text not null,
    image text not null,
    command text[],
    revision bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz
);
create unique index apps_handle on apps (environment_id, handle) where deleted_at is null;

-- Values are sealed to the edges' key: the api can replace them and not read them.
create table app_variables (
    app_id uuid not null references apps,
    name text not null,
    sealed_value bytea not null,
    updated_at timestamptz not null default now(),
    primary key (app_id, name)
);

create table databases (
    id uuid primary key,
    environment_id uuid not null references environments,
    handle text not null,
    engine text not null check (engine in ('postgresql', 'mysql', 'mariadb', 'redis', 'mongodb', 'other')),
    revision bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz
);
create unique index databases_handle on databases (environment_id, handle) where deleted_at is null;

-- `destination` holds what is not secret; credentials are sealed to the workers' key.
create table log_drains (
    id uuid primary key,
    environment_id uuid not null references environments,
    handle text not null,
    kind text not null check (kind in ('syslog_tls_tcp', 'https_post')),
    destination jsonb not null,
    sealed_credentials bytea,
    has_credentials boolean not null generated always as (sealed_credentials is not null) stored,
    drain_apps boolean not null,
    drain_databases boolean not null,
    drain_ephemeral_sessions boolean not null,
    control_sequences text not null default 'strip' check (control_sequences in ('keep', 'strip')),
    redraws text not null default 'keep' check (redraws in ('keep', 'last')),
    paused_at timestamptz,
    revision bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (environment_id, handle)
);

-- One worker at a time owns a drain. Each change of owner raises the generation; what an old
-- generation writes is refused.
create table drain_leases (
    drain_id uuid primary key references log_drains on delete cascade,
    worker_id uuid not null,
    generation bigint not null,
    expires_at timestamptz not null
);

-- How far a drain has got, and how it is. Positions are (xid, seq) of stream.blocks: all of a
-- block at or below `low` is delivered; between `low` and `high` all is delivered but what `open`
-- names: {"producer uuid": {"stdout": first undelivered offset, ...}}.
create table drain_positions (
    drain_id uuid primary key references log_drains on delete cascade,
    low_xid bigint not null,
    low_seq bigint not null,
    high_xid bigint not null,
    high_seq bigint not null,
    open jsonb not null default '{}',
    delivered_lines bigint not null default 0,
    rejected_lines bigint not null default 0,
    failing_since timestamptz,
    last_error text,
    last_error_at timestamptz,
    lag_records bigint not null default 0,
    lag_seconds double precision not null default 0,
    updated_at timestamptz not null default now()
);

-- Lines that an endpoint refused for good: counted, kept, never in the way of others.
create table rejected_lines (
    id uuid primary key,
    drain_id uuid not null references log_drains on delete cascade,
    line_id text not null,
    line jsonb not null,
    reason text not null,
    rejected_at timestamptz not null default now(),
    unique (drain_id, line_id)
);

-- A test of a drain: the api asks, the worker that owns the drain sends a line and answers.
create table drain_tests (
    id uuid primary key,
    drain_id uuid not null references log_drains on delete cascade,
    requested_by uuid not null references users,
    requested_at timestamptz not null default now(),
    finished_at timestamptz,
    ok boolean,
    steps jsonb
);
create index drain_tests_open on drain_tests (drain_id) where finished_at is null;

create table edges (
    id uuid primary key,
    name text not null,
    address text not null,
    started_at timestamptz not null default now(),
    seen_at timestamptz not null default now(),
    stopped_at timestamptz
);

-- requested: the api has signed a certificate; starting/active: an edge has it; refused: it never
-- began; ended, aborted: it is over and its last record says so.
create table ephemeral_sessions (
    id uuid primary key,
    organization_id uuid not null references organizations,
    environment_id uuid not null references environments,
    app_id uuid not null references apps,
    user_id uuid not null references users,
    state text not null check (state in ('requested', 'active', 'ended', 'aborted', 'refused')),
    reason text,
    command text,
    edge_id uuid references edges,
    image text,
    client_address text,
    client_version text,
    auth_method text,
    key_fingerprint text,
    requested_at timestamptz not null default now(),
    started_at timestamptz,
    ended_at timestamptz,
    end_reason text,
    exit_code bigint,
    exit_signal text,
    output_bytes bigint
);
create index ephemeral_sessions_environment on ephemeral_sessions (environment_id, id);
create index ephemeral_sessions_live on ephemeral_sessions (edge_id) where state = 'active';
