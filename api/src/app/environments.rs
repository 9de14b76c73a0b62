//! Environments and their session policy.

use model::{Environment as EnvironmentKind, Handle, Id, Organization};
use serde::Deserialize;
use store::environments::{Deletion, Environment, EnvironmentChange};
use utoipa::ToSchema;

use crate::app::apps::null_is_a_value;
use crate::app::log_sources::check_quota;
use crate::app::notices::NoticesPatch;
use crate::app::{App, AppError, Caller, PageRequest, handle_taken};
use crate::authz::{ChangeEnvironments, Permit, ReadEnvironments};
use model::validation::Checks;

/// An environment to create. Limits that are left out take a default.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewEnvironment {
    /// Unique in the organization.
    #[schema(value_type = String, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    handle: Handle,
    /// A session without input and output ends after so many seconds: 10 to 604800 (7 days).
    idle_limit_seconds: Option<i32>,
    /// Memory of a session's container in bytes: 16777216 (16 MiB) to 1099511627776 (1 TiB).
    memory_limit_bytes: Option<i64>,
    /// CPU of a session's container in thousandths of a CPU: 50 to 256000.
    cpu_limit_millis: Option<i32>,
    /// Processes in a session's container: 8 to 100000.
    pids_limit: Option<i32>,
    /// How long records are kept.
    retention: Option<RetentionPatch>,
    /// Bytes that all log sources together may send in a second: 1024 to 1073741824; null, or left out: what the
    /// intake's settings say.
    intake_bytes_per_second: Option<i64>,
    /// Bytes that they may send at once: 1024 to 1073741824; null, or left out: what the intake's settings say.
    intake_burst_bytes: Option<i64>,
    /// Who is told of log drains that fail; nobody, if left out.
    notices: Option<NoticesPatch>,
}

/// How long records are kept, which are the environment's own copy of what its log drains deliver. A drain
/// that is so far behind loses what is not kept, and counts it.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RetentionChange)]
#[allow(clippy::option_option, reason = "absent, null and a value are three things")]
struct RetentionPatch {
    /// For so many seconds: 86400 (a day) to 315360000 (10 years), 2592000 (30 days) where a new environment
    /// leaves it out; null: for ever. Records of a session that goes on are kept longer.
    #[serde(default, deserialize_with = "null_is_a_value")]
    #[schema(value_type = Option<i64>)]
    seconds: Option<Option<i64>>,
    /// The oldest are given up where all have more bytes, compressed: 1048576 (1 MiB) to 1125899906842624
    /// (1 PiB); null, or left out of a new environment: however many. Records of the last hour are kept all
    /// the same.
    #[serde(default, deserialize_with = "null_is_a_value")]
    #[schema(value_type = Option<i64>)]
    bytes: Option<Option<i64>>,
}

/// What to change; what is left out stays. Limits hold for sessions that begin afterwards.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(clippy::option_option, reason = "absent, null and a value are three things")]
pub(crate) struct EnvironmentPatch {
    /// Unique in the organization.
    #[schema(value_type = Option<String>, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    handle: Option<Handle>,
    /// A session without input and output ends after so many seconds: 10 to 604800 (7 days).
    idle_limit_seconds: Option<i32>,
    /// Memory of a session's container in bytes: 16777216 (16 MiB) to 1099511627776 (1 TiB).
    memory_limit_bytes: Option<i64>,
    /// CPU of a session's container in thousandths of a CPU: 50 to 256000.
    cpu_limit_millis: Option<i32>,
    /// Processes in a session's container: 8 to 100000.
    pids_limit: Option<i32>,
    /// How long records are kept.
    retention: Option<RetentionPatch>,
    /// Bytes that all log sources together may send in a second: 1024 to 1073741824; null: what the intake's
    /// settings say.
    #[serde(default, deserialize_with = "null_is_a_value")]
    #[schema(value_type = Option<i64>)]
    intake_bytes_per_second: Option<Option<i64>>,
    /// Bytes that they may send at once: 1024 to 1073741824; null: what the intake's settings say.
    #[serde(default, deserialize_with = "null_is_a_value")]
    #[schema(value_type = Option<i64>)]
    intake_burst_bytes: Option<Option<i64>>,
    /// Who is told of log drains that fail.
    notices: Option<NoticesPatch>,
}

/// Checks what is to be set in the environment `id`.
fn checked(
    app: &App,
    id: Id<EnvironmentKind>,
    mut change: EnvironmentChange,
    retention: Option<RetentionPatch>,
    notices: Option<NoticesPatch>,
) -> Result<EnvironmentChange, AppError> {
    let mut checks = Checks::default();
    let retention = retention.unwrap_or_default();
    (change.retention_seconds, change.retention_bytes) = (retention.seconds, retention.bytes);
    change.notices = notices.unwrap_or_default().checked(app, id, &mut checks);
    checks.rule(
        change.idle_limit_seconds.is_none_or(|seconds| (10..=604_800).contains(&seconds)),
        "idle_limit_seconds",
        "must be 10 to 604800",
    );
    checks.rule(
        change.memory_limit_bytes.is_none_or(|bytes| (1 << 24..=1 << 40).contains(&bytes)),
        "memory_limit_bytes",
        "must be 16777216 to 1099511627776",
    );
    checks.rule(
        change.cpu_limit_millis.is_none_or(|millis| (50..=256_000).contains(&millis)),
        "cpu_limit_millis",
        "must be 50 to 256000",
    );
    checks.rule(
        change.pids_limit.is_none_or(|pids| (8..=100_000).contains(&pids)),
        "pids_limit",
        "must be 8 to 100000",
    );
    checks.rule(
        change.retention_seconds.flatten().is_none_or(|it| (86_400..=315_360_000).contains(&it)),
        "retention.seconds",
        "must be 86400 to 315360000, or null",
    );
    checks.rule(
        change.retention_bytes.flatten().is_none_or(|bytes| (1 << 20..=1 << 50).contains(&bytes)),
        "retention.bytes",
        "must be 1048576 to 1125899906842624, or null",
    );
    check_quota(
        &mut checks,
        ("intake_bytes_per_second", change.intake_bytes_per_second.flatten()),
        ("intake_burst_bytes", change.intake_burst_bytes.flatten()),
    );
    checks.finish()?;
    Ok(change)
}

/// Environments of every organization that the caller is a member of: each role may see them.
pub(crate) async fn list_all(
    app: &App,
    caller: &Caller,
    handle: Option<&Handle>,
    page: PageRequest,
) -> Result<Vec<Environment>, AppError> {
    let handle = handle.map(Handle::as_str);
    Ok(app.store.environments(caller.account.id, None, handle, page.after, page.limit).await?)
}

/// Environments of one organization.
pub(crate) async fn list(
    app: &App,
    permit: Permit<ReadEnvironments, Id<Organization>>,
    handle: Option<&Handle>,
    page: PageRequest,
) -> Result<Vec<Environment>, AppError> {
    let organization = Some(*permit.thing());
    let handle = handle.map(Handle::as_str);
    Ok(app.store.environments(permit.user(), organization, handle, page.after, page.limit).await?)
}

/// Creates an environment.
pub(crate) async fn create(
    app: &App,
    permit: Permit<ChangeEnvironments, Id<Organization>>,
    request: NewEnvironment,
) -> Result<Environment, AppError> {
    let id = Id::generate();
    let policy = EnvironmentChange {
        idle_limit_seconds: request.idle_limit_seconds,
        memory_limit_bytes: request.memory_limit_bytes,
        cpu_limit_millis: request.cpu_limit_millis,
        pids_limit: request.pids_limit,
        intake_bytes_per_second: request.intake_bytes_per_second.map(Some),
        intake_burst_bytes: request.intake_burst_bytes.map(Some),
        ..EnvironmentChange::default()
    };
    let policy = checked(app, id, policy, request.retention, request.notices)?;
    app.store
        .create_environment(id, *permit.thing(), &request.handle, &policy)
        .await
        .map_err(handle_taken("environments_handle"))
}

/// Shows an environment.
pub(crate) fn show(permit: Permit<ReadEnvironments, Environment>) -> Environment {
    permit.into_thing()
}

/// Changes an environment.
pub(crate) async fn update(
    app: &App,
    permit: Permit<ChangeEnvironments, Environment>,
    expected_revision: Option<i64>,
    patch: EnvironmentPatch,
) -> Result<Environment, AppError> {
    let (id, by) = (permit.thing().id, permit.user());
    let change = EnvironmentChange {
        handle: patch.handle,
        idle_limit_seconds: patch.idle_limit_seconds,
        memory_limit_bytes: patch.memory_limit_bytes,
        cpu_limit_millis: patch.cpu_limit_millis,
        pids_limit: patch.pids_limit,
        intake_bytes_per_second: patch.intake_bytes_per_second,
        intake_burst_bytes: patch.intake_burst_bytes,
        ..EnvironmentChange::default()
    };
    let change = checked(app, id, change, patch.retention, patch.notices)?;
    app.store
        .update_environment(id, expected_revision, &change, by)
        .await
        .map_err(handle_taken("environments_handle"))?
        .ok_or(AppError::RevisionChanged)
}

/// Deletes an environment that has nothing in it.
pub(crate) async fn delete(
    app: &App,
    permit: Permit<ChangeEnvironments, Environment>,
    expected_revision: Option<i64>,
) -> Result<(), AppError> {
    match app.store.delete_environment(permit.thing().id, expected_revision).await? {
        Deletion::Done => Ok(()),
        Deletion::Changed => Err(AppError::RevisionChanged),
        Deletion::NotEmpty => Err(AppError::NotEmpty),
    }
}
