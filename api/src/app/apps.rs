//! Apps and their configuration.

use std::collections::BTreeMap;

use model::{Handle, Secret};
use serde::{Deserialize, Deserializer};
use store::apps::{App as StoredApp, AppChange, Variable, VariablesChange};
use store::environments::Environment;
use utoipa::ToSchema;

use crate::app::{App, AppError, PageRequest, handle_taken};
use crate::authz::{ChangeApps, Permit, ReadApps, ReadConfiguration};
use model::validation::{Checks, FieldError};

const MOST_VARIABLES: usize = 500;
const LONGEST_VALUE: usize = 64 * 1024;

/// An app to create.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewApp {
    /// Unique among the environment's apps.
    #[schema(value_type = String, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    handle: Handle,
    /// The container image, as `docker run` takes it.
    #[schema(example = "registry.example.com/web:2026-03-01")]
    image: String,
    /// What a session runs that asks for no command; the shell, if left out.
    command: Option<Vec<String>>,
}

/// What to change; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(clippy::option_option, reason = "absent, null and a value are three things")]
pub(crate) struct AppPatch {
    /// Unique among the environment's apps.
    #[schema(value_type = Option<String>, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    handle: Option<Handle>,
    /// The container image, as `docker run` takes it.
    image: Option<String>,
    /// What a session runs that asks for no command; null for the shell.
    #[serde(default, deserialize_with = "null_is_a_value")]
    #[schema(value_type = Option<Vec<String>>)]
    command: Option<Option<Vec<String>>>,
}

/// Variables to set (text) or remove (null).
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfigurationPatch {
    /// By name: letters, digits and `_`, not beginning with a digit. Values have at most 64 KiB and are
    /// never shown again.
    #[schema(value_type = BTreeMap<String, Option<String>>, write_only)]
    variables: BTreeMap<String, Option<Secret<String>>>,
}

/// Tells null, which takes a value away, from a field that is left out.
#[allow(clippy::option_option, reason = "absent, null and a value are three things")]
pub(crate) fn null_is_a_value<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::<T>::deserialize(deserializer).map(Some)
}

fn check(image: Option<&str>, command: Option<&[String]>) -> Result<(), AppError> {
    let mut checks = Checks::default();
    checks.rule(
        image.is_none_or(|image| {
            (1..=512).contains(&image.len())
                && image.starts_with(|c: char| c.is_ascii_alphanumeric())
                && image.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:@".contains(c))
        }),
        "image",
        "must be an image's name of 1 to 512 letters, digits and ._-/:@, beginning with a letter or digit",
    );
    if let Some(command) = command {
        checks.rule(
            (1..=256).contains(&command.len())
                && command.first().is_some_and(|program| !program.is_empty()),
            "command",
            "must have a program and at most 255 arguments",
        );
        checks.rule(
            command.iter().map(String::len).sum::<usize>() <= 32 * 1024
                && !command.iter().any(|argument| argument.contains('\0')),
            "command",
            "must have at most 32768 bytes and no NUL",
        );
    }
    Ok(checks.finish()?)
}

/// Apps of an environment.
pub(crate) async fn list(
    app: &App,
    permit: Permit<ReadApps, Environment>,
    handle: Option<&Handle>,
    page: PageRequest,
) -> Result<Vec<StoredApp>, AppError> {
    let handle = handle.map(Handle::as_str);
    Ok(app.store.apps(permit.thing().id, handle, page.after, page.limit).await?)
}

/// Creates an app.
pub(crate) async fn create(
    app: &App,
    permit: Permit<ChangeApps, Environment>,
    request: NewApp,
) -> Result<StoredApp, AppError> {
    let command = request.command.as_deref();
    check(Some(&request.image), command)?;
    app.store
        .create_app(permit.thing().id, &request.handle, &request.image, command)
        .await
        .map_err(handle_taken("apps_handle"))?
        .ok_or(AppError::NotFound)
}

/// Shows an app.
pub(crate) fn show(permit: Permit<ReadApps, StoredApp>) -> StoredApp {
    permit.into_thing()
}

/// Changes an app.
pub(crate) async fn update(
    app: &App,
    permit: Permit<ChangeApps, StoredApp>,
    expected_revision: Option<i64>,
    patch: AppPatch,
) -> Result<StoredApp, AppError> {
    check(patch.image.as_deref(), patch.command.as_ref().and_then(Option::as_deref))?;
    let change = AppChange { handle: patch.handle, image: patch.image, command: patch.command };
    app.store
        .update_app(permit.thing().id, expected_revision, &change)
        .await
        .map_err(handle_taken("apps_handle"))?
        .ok_or(AppError::RevisionChanged)
}

/// Deletes an app and its variables.
pub(crate) async fn delete(
    app: &App,
    permit: Permit<ChangeApps, StoredApp>,
    expected_revision: Option<i64>,
) -> Result<(), AppError> {
    let done = app.store.delete_app(permit.thing().id, expected_revision, permit.user()).await?;
    if done { Ok(()) } else { Err(AppError::RevisionChanged) }
}

/// The names of an app's variables, and the app's revision.
pub(crate) async fn configuration(
    app: &App,
    permit: Permit<ReadConfiguration, StoredApp>,
) -> Result<(Vec<Variable>, i64), AppError> {
    let StoredApp { id, revision, .. } = *permit.thing();
    Ok((app.store.variables(id).await?, revision))
}

/// Sets and removes variables, all or nothing; answers as [`configuration`] does.
pub(crate) async fn configure(
    app: &App,
    permit: Permit<ChangeApps, StoredApp>,
    expected_revision: Option<i64>,
    patch: ConfigurationPatch,
) -> Result<(Vec<Variable>, i64), AppError> {
    let id = permit.thing().id;
    let mut checks = Checks::default();
    let (mut set, mut removed) = (Vec::new(), Vec::new());
    let mut count = 0;
    for (name, value) in patch.variables {
        let field = format!("variables.{name}");
        count += 1;
        checks.rule(
            (1..=128).contains(&name.len())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && !name.starts_with(|c: char| c.is_ascii_digit()),
            &field,
            "must be named with 1 to 128 letters, digits and _, not beginning with a digit",
        );
        if let Some(value) = value {
            checks.rule(
                value.expose().len() <= LONGEST_VALUE && !value.expose().contains('\0'),
                &field,
                "must have at most 65536 bytes and no NUL",
            );
            set.push((name, app.keys.edge.seal(id.uuid(), value.expose().as_bytes())));
        } else {
            removed.push(name);
        }
    }
    let most = format!("must be at most {MOST_VARIABLES}");
    checks.rule(count <= MOST_VARIABLES, "variables", &most);
    checks.finish()?;
    let limit = i64::try_from(MOST_VARIABLES).unwrap_or(i64::MAX);
    match app.store.change_variables(id, expected_revision, &set, &removed, limit).await? {
        VariablesChange::Done(revision) => Ok((app.store.variables(id).await?, revision)),
        VariablesChange::Changed => Err(AppError::RevisionChanged),
        VariablesChange::TooMany => {
            Err(AppError::Invalid(vec![FieldError::new("variables", &*most)]))
        }
    }
}
