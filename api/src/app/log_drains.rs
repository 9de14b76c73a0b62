//! Log drains.

use std::time::Duration;

use destinations::{AnyDestination, Credentials, Kind, Options, Selection};
use model::{Handle, Id, Secret, User};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::drain_tests::{DrainConfiguration, DrainTestAnswer, DrainToTest};
use store::environments::Environment;
use store::log_drains::{LogDrain, LogDrainChange, NewLogDrain};
use store::rejected_lines::KeptRejectedLine;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::app::apps::null_is_a_value;
use crate::app::{App, AppError, PageRequest, handle_taken};
use crate::authz::{ChangeDrains, Permit, ReadDrains, ReadRejectedLines};
use model::validation::Checks;

const TEST_PATIENCE: Duration = Duration::from_secs(10);
const MOST_RESENT: usize = 1000;
const HANDLES: &str = "log_drains_environment_id_handle_key";

/// What becomes of terminals' control sequences.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ControlSequences {
    /// They are delivered.
    Keep,
    /// They are left out.
    Strip,
}

/// What becomes of a line that is drawn again and again, such as a progress bar.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Redraws {
    /// Each drawing is delivered.
    Keep,
    /// Only the last one is.
    Last,
}

/// A log drain to create. It takes records from now on, of the sources that are switched on: one at
/// least.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(crate) struct LogDrainToCreate {
    /// Unique among the environment's log drains.
    #[schema(value_type = String, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    handle: Handle,
    /// The kind of endpoint.
    kind: Kind,
    /// Where it sends, in the form of its kind.
    #[schema(value_type = AnyDestination)]
    destination: Value,
    /// What it shows there; never answered.
    #[schema(write_only)]
    credentials: Option<Credentials>,
    /// Takes what apps print.
    #[serde(default)]
    drain_apps: bool,
    /// Takes what databases print.
    #[serde(default)]
    drain_databases: bool,
    /// Takes what ephemeral sessions show.
    #[serde(default)]
    drain_ephemeral_sessions: bool,
    /// Takes what users and the platform did in the environment.
    #[serde(default)]
    drain_activity: bool,
    /// What becomes of terminals' control sequences; `strip`, if left out.
    control_sequences: Option<ControlSequences>,
    /// What becomes of lines that are drawn again; `keep`, if left out.
    redraws: Option<Redraws>,
    #[serde(default)]
    options: Options,
}

/// What to change; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(clippy::option_option, reason = "absent, null and a value are three things")]
pub(crate) struct LogDrainPatch {
    /// Unique among the environment's log drains.
    #[schema(value_type = Option<String>, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    handle: Option<Handle>,
    /// Where it sends, in whole, in the form of its kind.
    #[schema(value_type = Option<AnyDestination>)]
    destination: Option<Value>,
    /// What it shows there, in whole; null takes it away. Needed when the host or port changes, so
    /// that nobody sends the old credentials to a server of their own.
    #[serde(default, deserialize_with = "null_is_a_value")]
    #[schema(value_type = Option<Credentials>, write_only)]
    credentials: Option<Option<Credentials>>,
    /// Takes what apps print.
    drain_apps: Option<bool>,
    /// Takes what databases print.
    drain_databases: Option<bool>,
    /// Takes what ephemeral sessions show.
    drain_ephemeral_sessions: Option<bool>,
    /// Takes what users and the platform did in the environment.
    drain_activity: Option<bool>,
    /// What becomes of terminals' control sequences.
    control_sequences: Option<ControlSequences>,
    /// What becomes of lines that are drawn again.
    redraws: Option<Redraws>,
    /// Which lines it takes, and what becomes of them, in whole.
    options: Option<Options>,
}

impl ControlSequences {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Strip => "strip",
        }
    }
}

impl Redraws {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Last => "last",
        }
    }
}

/// Log drains of an environment.
pub(crate) async fn list(
    app: &App,
    permit: Permit<ReadDrains, Environment>,
    handle: Option<&Handle>,
    page: PageRequest,
) -> Result<Vec<LogDrain>, AppError> {
    let handle = handle.map(Handle::as_str);
    Ok(app.store.log_drains(permit.thing().id, handle, page.after, page.limit).await?)
}

/// Creates a log drain.
pub(crate) async fn create(
    app: &App,
    permit: Permit<ChangeDrains, Environment>,
    request: LogDrainToCreate,
) -> Result<LogDrain, AppError> {
    let id = Id::generate();
    let environment = permit.thing().id;
    let Checked { destination, credentials, options } =
        check_new(app, environment, &request).await?;
    let drain = NewLogDrain {
        id,
        environment_id: environment,
        handle: request.handle,
        kind: request.kind.as_str(),
        destination,
        sealed_credentials: credentials
            .map(|credentials| app.keys.worker.seal(id.uuid(), credentials.expose())),
        drain_apps: request.drain_apps,
        drain_databases: request.drain_databases,
        drain_ephemeral_sessions: request.drain_ephemeral_sessions,
        drain_activity: request.drain_activity,
        control_sequences: request.control_sequences.unwrap_or(ControlSequences::Strip).as_str(),
        redraws: request.redraws.unwrap_or(Redraws::Keep).as_str(),
        options,
    };
    app.store
        .create_log_drain(&drain, permit.user())
        .await
        .map_err(handle_taken(HANDLES))?
        .ok_or(AppError::NotFound)
}

/// Shows a log drain.
pub(crate) fn show(permit: Permit<ReadDrains, LogDrain>) -> LogDrain {
    permit.into_thing()
}

/// Changes a log drain.
pub(crate) async fn update(
    app: &App,
    permit: Permit<ChangeDrains, LogDrain>,
    expected_revision: Option<i64>,
    patch: LogDrainPatch,
) -> Result<LogDrain, AppError> {
    let drain = permit.thing();
    let (_, Checked { destination, credentials, options }) =
        check_patch(app, drain, &patch).await?;
    let change = LogDrainChange {
        handle: patch.handle,
        destination,
        sealed_credentials: credentials.map(|credentials| {
            credentials.map(|it| app.keys.worker.seal(drain.id.uuid(), it.expose()))
        }),
        drain_apps: patch.drain_apps,
        drain_databases: patch.drain_databases,
        drain_ephemeral_sessions: patch.drain_ephemeral_sessions,
        drain_activity: patch.drain_activity,
        control_sequences: patch.control_sequences.map(ControlSequences::as_str),
        redraws: patch.redraws.map(Redraws::as_str),
        options,
    };
    // What was checked was this revision, so no other is changed.
    let revision = Some(expected_revision.unwrap_or(drain.revision));
    app.store
        .update_log_drain(drain.id, revision, &change, permit.user())
        .await
        .map_err(handle_taken(HANDLES))?
        .ok_or(AppError::RevisionChanged)
}

/// Pauses a log drain, or lets it go on from where it stopped.
pub(crate) async fn pause(
    app: &App,
    permit: Permit<ChangeDrains, LogDrain>,
    paused: bool,
) -> Result<LogDrain, AppError> {
    app.store
        .pause_log_drain(permit.thing().id, paused, permit.user())
        .await?
        .ok_or(AppError::NotFound)
}

/// Deletes a log drain; what it has not delivered it never will.
pub(crate) async fn delete(
    app: &App,
    permit: Permit<ChangeDrains, LogDrain>,
    expected_revision: Option<i64>,
) -> Result<(), AppError> {
    let drain = permit.thing().id;
    let done = app.store.delete_log_drain(drain, expected_revision, permit.user()).await?;
    if done { Ok(()) } else { Err(AppError::RevisionChanged) }
}

/// Has a drain leave out all that it has not delivered by now.
pub(crate) async fn skip(
    app: &App,
    permit: Permit<ChangeDrains, LogDrain>,
) -> Result<LogDrain, AppError> {
    app.store.skip_log_drain(permit.thing().id, permit.user()).await?.ok_or(AppError::NotFound)
}

/// Lines that a drain's endpoint refused.
pub(crate) async fn rejected_lines(
    app: &App,
    permit: Permit<ReadRejectedLines, LogDrain>,
    page: PageRequest,
) -> Result<Vec<KeptRejectedLine>, AppError> {
    Ok(app.store.rejected_lines(permit.thing().id, page.after, page.limit).await?)
}

/// Has refused lines sent again; answers how many.
pub(crate) async fn resend(
    app: &App,
    permit: Permit<ChangeDrains, LogDrain>,
    lines: Option<&[Uuid]>,
) -> Result<u64, AppError> {
    let mut checks = Checks::default();
    let count = lines.map_or(1, <[_]>::len);
    checks.rule((1..=MOST_RESENT).contains(&count), "ids", "must be 1 to 1000, or left out");
    checks.finish()?;
    Ok(app.store.ask_resend(permit.thing().id, lines, permit.user()).await?)
}

/// Has a worker send a test line and waits for how that went.
pub(crate) async fn test(
    app: &App,
    permit: Permit<ChangeDrains, LogDrain>,
) -> Result<DrainTestAnswer, AppError> {
    ask(app, Uuid::now_v7(), DrainToTest::Drain(permit.thing().id), permit.user()).await
}

/// The same as a drain would that was created like this.
pub(crate) async fn verify(
    app: &App,
    permit: Permit<ChangeDrains, Environment>,
    request: LogDrainToCreate,
) -> Result<DrainTestAnswer, AppError> {
    let environment = permit.thing().id;
    let checked = check_new(app, environment, &request).await?;
    let test = Uuid::now_v7();
    let configuration = DrainConfiguration {
        environment,
        drain: None,
        kind: request.kind.as_str(),
        settings: json!({
            "handle": request.handle, "destination": checked.destination, "options": checked.options
        }),
        // With none, none are to be sent.
        sealed_credentials: checked.credentials.map(|it| app.keys.worker.seal(test, it.expose())),
    };
    ask(app, test, DrainToTest::Configuration(configuration.into()), permit.user()).await
}

/// The same as a drain would that was changed like this.
pub(crate) async fn verify_change(
    app: &App,
    permit: Permit<ChangeDrains, LogDrain>,
    patch: LogDrainPatch,
) -> Result<DrainTestAnswer, AppError> {
    let drain = permit.thing();
    let handle = patch.handle.clone().unwrap_or_else(|| drain.handle.clone());
    let (kind, checked) = check_patch(app, drain, &patch).await?;
    let test = Uuid::now_v7();
    let nothing = || Secret::new(b"null".to_vec());
    let sealed_credentials = checked.credentials.map(|credentials| {
        app.keys.worker.seal(test, credentials.unwrap_or_else(nothing).expose())
    });
    let configuration = DrainConfiguration {
        environment: drain.environment_id,
        drain: Some((drain.id, drain.revision)),
        kind: kind.as_str(),
        settings: json!({
            "handle": handle,
            "destination": checked.destination.unwrap_or_else(|| drain.destination.clone()),
            "options": checked.options.unwrap_or_else(|| drain.options.clone()),
        }),
        sealed_credentials,
    };
    ask(app, test, DrainToTest::Configuration(configuration.into()), permit.user()).await
}

async fn ask(
    app: &App,
    test: Uuid,
    subject: DrainToTest,
    user: Id<User>,
) -> Result<DrainTestAnswer, AppError> {
    let _slot = app.drain_tests.try_acquire().map_err(|_| AppError::Busy)?;
    app.store.ask_drain_test(test, subject, user, TEST_PATIENCE).await?.ok_or(AppError::NoWorker)
}

/// What was asked for, in the form in which it is kept.
struct Checked<D, C, O> {
    destination: D,
    credentials: C,
    options: O,
}

async fn check_new(
    app: &App,
    environment: Id<model::Environment>,
    request: &LogDrainToCreate,
) -> Result<Checked<Value, Option<Secret<Vec<u8>>>, Value>, AppError> {
    let mut checks = Checks::default();
    let destination = checks.keep(request.kind.checked(request.destination.clone()));
    let credentials = request.credentials.clone().unwrap_or_default().checked(request.kind);
    let credentials = checks.keep(credentials).flatten();
    check_sources(
        &mut checks,
        [
            request.drain_apps,
            request.drain_databases,
            request.drain_ephemeral_sessions,
            request.drain_activity,
        ],
    );
    let options =
        check_options(app, &mut checks, environment, (request.kind, &request.options)).await?;
    checks.finish()?;
    Ok(Checked { destination: destination.unwrap_or_default(), credentials, options })
}

async fn check_patch(
    app: &App,
    drain: &LogDrain,
    patch: &LogDrainPatch,
) -> Result<(Kind, Checked<Option<Value>, Option<Option<Secret<Vec<u8>>>>, Option<Value>>), AppError>
{
    let kind = Kind::from_kept(&drain.kind).ok_or_else(|| {
        AppError::Internal(format!("a drain has the unknown kind {}", drain.kind))
    })?;
    let mut checks = Checks::default();
    let destination = patch.destination.clone().and_then(|it| checks.keep(kind.checked(it)));
    if let Some(destination) = &destination {
        checks.rule(
            !drain.has_credentials
                || patch.credentials.is_some()
                || kind.is_same_server(destination, &drain.destination),
            "credentials",
            "must be given again, or null, because the destination is another server",
        );
    }
    let credentials = patch.credentials.clone();
    let credentials =
        credentials.map(|it| checks.keep(it.unwrap_or_default().checked(kind)).flatten());
    check_sources(
        &mut checks,
        [
            patch.drain_apps.unwrap_or(drain.drain_apps),
            patch.drain_databases.unwrap_or(drain.drain_databases),
            patch.drain_ephemeral_sessions.unwrap_or(drain.drain_ephemeral_sessions),
            patch.drain_activity.unwrap_or(drain.drain_activity),
        ],
    );
    let options = match &patch.options {
        Some(options) => {
            Some(check_options(app, &mut checks, drain.environment_id, (kind, options)).await?)
        }
        None => None,
    };
    checks.finish()?;
    Ok((kind, Checked { destination, credentials, options }))
}

/// Checks options and that the apps and databases they name are the environment's; answers them as they are
/// kept.
async fn check_options(
    app: &App,
    checks: &mut Checks,
    environment: Id<model::Environment>,
    (kind, options): (Kind, &Options),
) -> Result<Value, AppError> {
    checks.keep(options.check(kind));
    let apps = options.apps.as_ref().map_or(&[][..], Selection::ids);
    let databases = options.databases.as_ref().map_or(&[][..], Selection::ids);
    let foreign = app.store.foreign_to(environment, apps, databases).await?;
    checks.rule(!foreign.apps, "options.apps", "must be ids of apps of the drain's environment");
    let detail = "must be ids of databases of the drain's environment";
    checks.rule(!foreign.databases, "options.databases", detail);
    serde_json::to_value(options).map_err(|error| AppError::Internal(error.to_string()))
}

fn check_sources(checks: &mut Checks, sources: [bool; 4]) {
    checks.rule(
        sources.contains(&true),
        "drain_apps",
        "drain_apps, drain_databases, drain_ephemeral_sessions or drain_activity must be true",
    );
}
