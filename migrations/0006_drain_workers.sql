-- The workers that are there: each takes no more than its share of the drains, so it has to know how
-- many others there are.
create table drain_workers (
    id uuid primary key,
    expires_at timestamptz not null
);
grant select, insert, update, delete on drain_workers to spillway_worker;
