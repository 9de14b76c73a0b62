//! What each service's database role may not do.

use anyhow::Result;
use e2e::postgres::{TestDatabase, connect};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

async fn refused(client: &Client, statements: &[&str]) -> Vec<String> {
    let mut wrong = Vec::new();
    for statement in statements {
        let outcome = client.batch_execute(statement).await;
        let code = outcome.as_ref().err().and_then(tokio_postgres::Error::code);
        if code != Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
            wrong.push(format!("{statement}: {outcome:?}"));
        }
    }
    wrong
}

// Nobody but the owner of the database may do these.
const OWNERS: &[&str] = &[
    "create table t (a int)",
    "create schema s",
    "drop table organizations",
    "insert into organizations (id, handle, name) values (gen_random_uuid(), 'a', 'a')",
    "insert into users (id, email, name, password_hash) values (gen_random_uuid(), 'a', 'a', 'a')",
    "update users set disabled_at = null",
    "insert into memberships (organization_id, user_id, role)
     values (gen_random_uuid(), gen_random_uuid(), 'owner')",
    "update memberships set role = 'owner'",
    "delete from ephemeral_sessions",
    "delete from stream.blocks",
    "update stream.blocks set seq = 0",
    "drop table stream.blocks",
    "set role postgres",
];

#[tokio::test(flavor = "multi_thread")]
async fn api_reads_back_no_sealed_value_and_changes_no_record() -> Result<()> {
    let database = TestDatabase::create().await?;
    let api = connect(&database.api_url()?).await?;
    let mut wrong = refused(&api, OWNERS).await;
    wrong.extend(
        refused(
            &api,
            &[
                "select sealed_credentials from log_drains",
                "select * from log_drains",
                "select 1 from log_drains where sealed_credentials is null",
                "update log_drains set handle = encode(sealed_credentials, 'hex')",
                "delete from log_drains returning sealed_credentials",
                "select sealed_value from app_variables",
                "select * from app_variables",
                "insert into stream.blocks (id, made_at, environment_id, header, payload)
                 values (gen_random_uuid(), now(), gen_random_uuid(), '', '')",
                "insert into stream.fences (appender_id) values (gen_random_uuid())",
                "update stream.horizons set seq = 0",
                "select stream.ensure_partition(now())",
                "select stream.drop_passed_day()",
                "select encoded from rejected_lines",
                "update rejected_lines set reason = ''",
                "delete from rejected_lines",
                "select sealed_credentials from drain_tests",
                "select configuration from drain_tests",
                "update drain_positions set delivered_lines = 0",
                "update ephemeral_sessions set state = 'ended'",
                "insert into edges (id, name, address) values (gen_random_uuid(), 'a', 'a')",
                "update activity set detail = ''",
                "delete from activity",
                "insert into activity (appended_at) values (now())",
                "select sealed_webhook_secret from notice_settings",
                "update notice_settings set webhook_url = encode(sealed_webhook_secret, 'hex')",
                "insert into notices (id) values (gen_random_uuid())",
                "update notices set delivered_at = now()",
                "select token_hash from log_sources",
                "select previous_token_hash from log_sources",
                "select * from log_sources",
                "update log_sources set handle = encode(token_hash, 'hex')",
                "update log_sources set handle = '' where token_hash is null",
                "delete from log_sources",
                "update log_source_counts set lines = 0",
                "select key_hash from intake_requests",
            ],
        )
        .await,
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    api.batch_execute(
        "select has_credentials from log_drains; select has_webhook_secret from notice_settings;
         select payload from stream.blocks",
    )
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn edge_sees_no_drain_no_password_and_no_payload() -> Result<()> {
    let database = TestDatabase::create().await?;
    let edge = connect(&database.edge_url()?).await?;
    let mut wrong = refused(&edge, OWNERS).await;
    wrong.extend(
        refused(
            &edge,
            &[
                "select destination from log_drains",
                "select drain_id from drain_positions",
                "select line from rejected_lines",
                "select password_hash from users",
                "select * from users",
                "select id from refresh_tokens",
                "select id from api_tokens",
                "select payload from stream.blocks",
                "select stream.drop_passed_day()",
                "update apps set image = 'other'",
                "update environments set pids_limit = 9",
                "update app_variables set sealed_value = ''",
                "insert into ssh_keys (id, user_id, name, public_key, fingerprint)
                 values (gen_random_uuid(), gen_random_uuid(), 'a', 'a', 'a')",
                "update ssh_keys set user_id = gen_random_uuid()",
                "select id from activity",
                "select environment_id from notice_settings",
                "select id from notices",
                "select id from log_sources",
                "select source_id from log_source_certificates",
                "select source_id from log_source_counts",
            ],
        )
        .await,
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    edge.batch_execute("select sealed_value from app_variables; select header from stream.blocks")
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_sees_no_user_no_key_no_variable_and_changes_no_record() -> Result<()> {
    let database = TestDatabase::create().await?;
    let worker = connect(&database.worker_url()?).await?;
    let mut wrong = refused(&worker, OWNERS).await;
    wrong.extend(
        refused(
            &worker,
            &[
                "select id from users",
                "select id from ssh_keys",
                "select id from api_tokens",
                "select id from refresh_tokens",
                "select user_id from memberships",
                "select name from app_variables",
                "select id from ephemeral_sessions",
                "insert into stream.blocks (id, made_at, environment_id, xid, header, payload)
                 values (gen_random_uuid(), now(), gen_random_uuid(), '1', '', '')",
                "insert into stream.fences (appender_id) values (gen_random_uuid())",
                "update activity set detail = ''",
                "update activity set actor = 'somebody else'",
                "insert into deleted_drains (drain_id) values (gen_random_uuid())",
                "insert into activity (actor_id) values (gen_random_uuid())",
                "delete from activity",
                "update notice_settings set emails = '{}'",
                "insert into notice_settings (environment_id) values (gen_random_uuid())",
                "update log_drains set destination = '{}'",
                "update stream.horizons set seq = 0",
                "select stream.passed_by_all(gen_random_uuid())",
                "update environments set retention_seconds = null",
                "select id from log_sources",
                "select source_id from intake_requests",
                "insert into drain_tests (id, drain_id, requested_by)
                 values (gen_random_uuid(), gen_random_uuid(), gen_random_uuid())",
            ],
        )
        .await,
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    worker
        .batch_execute(
            "select sealed_credentials from log_drains; select payload from stream.blocks;
             select sealed_webhook_secret from notice_settings",
        )
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn intake_reads_no_record_no_user_and_no_key_and_lets_nobody_in() -> Result<()> {
    let database = TestDatabase::create().await?;
    let intake = connect(&database.intake_url()?).await?;
    let mut wrong = refused(&intake, OWNERS).await;
    wrong.extend(
        refused(
            &intake,
            &[
                "select payload from stream.blocks",
                "select * from stream.blocks",
                "select stream.drop_passed_day()",
                "select id from users",
                "select user_id from memberships",
                "select id from ssh_keys",
                "select id from api_tokens",
                "select id from refresh_tokens",
                "select name from app_variables",
                "select id from ephemeral_sessions",
                "select destination from log_drains",
                "select drain_id from drain_positions",
                "select line from rejected_lines",
                "select id from activity",
                "insert into activity (actor_id) values (gen_random_uuid())",
                "select environment_id from notice_settings",
                "select fingerprint from log_source_certificates",
                "insert into log_sources (id, environment_id, handle, token_key, token_hash)
                 values (gen_random_uuid(), gen_random_uuid(), 'a', 'a', '')",
                "update log_sources set token_hash = ''",
                "update log_sources set disabled_at = null",
                "delete from log_sources",
                "update environments set intake_bytes_per_second = null",
                "update apps set image = 'other'",
                "delete from log_source_counts",
            ],
        )
        .await,
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    intake
        .batch_execute("select token_hash from log_sources; select header from stream.blocks")
        .await?;
    Ok(())
}
