-- Lines that a drain had delivered and that came back into its environment as those of an app or a database: a
-- loop, which the intake breaks by not taking them.
create table drain_loops (
    drain_id uuid primary key references log_drains on delete cascade,
    -- What they came back through last.
    source_id uuid references log_sources,
    lines bigint not null default 0,
    last_at timestamptz not null default now()
);
grant select on drain_loops to spillway_api;
grant select, insert, update on drain_loops to spillway_intake;
grant select (id, environment_id) on log_drains to spillway_intake;
