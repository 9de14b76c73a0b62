-- One role per service, granted only what it needs. Passwords are set outside of migrations.
-- Roles belong to the whole cluster, so another database may have made them already.

do $$
declare
    service text;
begin
    foreach service in array array['spillway_api', 'spillway_edge', 'spillway_worker'] loop
        begin
            execute format('create role %I login', service);
        exception when duplicate_object or unique_violation then
            null;
        end;
    end loop;
end $$;

grant usage on schema stream to spillway_edge, spillway_worker;

-- api: all control data, but no sealed value can be read back, and no record.
grant select on organizations, users, memberships, refresh_tokens, api_tokens, ssh_keys, environments, apps,
    databases, drain_positions, drain_tests, edges, ephemeral_sessions to spillway_api;
grant insert, update on refresh_tokens, api_tokens, environments, apps, databases to spillway_api;
grant insert, delete on ssh_keys to spillway_api;
grant select (app_id, name, updated_at), insert, update, delete on app_variables to spillway_api;
grant select (id, environment_id, handle, kind, destination, has_credentials, drain_apps, drain_databases,
    drain_ephemeral_sessions, control_sequences, redraws, paused_at, revision, created_at, updated_at),
    insert, update, delete on log_drains to spillway_api;
grant insert on drain_positions, drain_tests, ephemeral_sessions to spillway_api;

-- edge: who may enter what; it opens app variables, sees no drain, no password, no token; it appends
-- to the stream and reads headers (how far a dead edge's session got), never payloads.
grant select (id, email, name, disabled_at) on users to spillway_edge;
grant select on organizations, memberships, environments, apps, app_variables, databases, ssh_keys to spillway_edge;
grant update (last_used_at) on ssh_keys to spillway_edge;
grant select, insert, update on edges, ephemeral_sessions to spillway_edge;
grant insert (id, made_at, environment_id, header, payload) on stream.blocks to spillway_edge;
grant select (id, made_at, environment_id, xid, seq, header) on stream.blocks to spillway_edge;
grant usage on sequence stream.blocks_seq to spillway_edge;
grant execute on function stream.ensure_partition to spillway_edge;

-- worker: drains and the stream; no user, no key, no app variable.
grant select on log_drains, environments, apps, databases to spillway_worker;
grant select, insert, update, delete on drain_leases to spillway_worker;
grant select, insert, update on drain_positions, rejected_lines to spillway_worker;
grant select (id, drain_id, requested_at, finished_at, ok), update (finished_at, ok, steps) on drain_tests to spillway_worker;
grant select on stream.blocks to spillway_worker;
grant execute on function stream.trim to spillway_worker;
