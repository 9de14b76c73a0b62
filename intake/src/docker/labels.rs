//! What a container's labels say it is (pure).

use std::collections::HashMap;

use store::container_logs::ContainerNames;

use super::daemon::ENVIRONMENT_LABEL;

const ORGANIZATION_LABEL: &str = "spillway.organization";
const APP_LABEL: &str = "spillway.app";
const DATABASE_LABEL: &str = "spillway.database";
/// Longer than any handle or id.
const LONGEST: usize = 100;

/// A container's labels name nothing whose log it could be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// Of neither, or of both.
    #[error("it needs one of the labels {APP_LABEL} and {DATABASE_LABEL}")]
    NotOne,
    /// No handle is like that.
    #[error("its label {0} is not a handle")]
    NoHandle(&'static str),
    /// There is none.
    #[error("{0} does not exist; it is followed as soon as it does")]
    Unknown(String),
    /// There are several.
    #[error("there are several of {0}: add the label {ORGANIZATION_LABEL}")]
    Ambiguous(String),
}

/// Reads the labels.
pub(super) fn parse(labels: &HashMap<String, String>) -> Result<ContainerNames, Refused> {
    let label = |name: &'static str| match labels.get(name) {
        None => Ok(None),
        Some(value) if value.is_empty() || value.len() > LONGEST => Err(Refused::NoHandle(name)),
        Some(value) if value.contains('\0') => Err(Refused::NoHandle(name)),
        Some(value) => Ok(Some(value.clone())),
    };
    let (app, database) = (label(APP_LABEL)?, label(DATABASE_LABEL)?);
    if app.is_some() == database.is_some() {
        return Err(Refused::NotOne);
    }
    let environment = label(ENVIRONMENT_LABEL)?.ok_or(Refused::NoHandle(ENVIRONMENT_LABEL))?;
    Ok(ContainerNames { organization: label(ORGANIZATION_LABEL)?, environment, app, database })
}

/// The names in words.
pub(super) fn describe(names: &ContainerNames) -> String {
    let (kind, handle) = match (&names.app, &names.database) {
        (Some(app), _) => ("app", app),
        (None, Some(database)) => ("database", database),
        (None, None) => ("app", &names.environment),
    };
    let organization = names.organization.as_deref();
    let of = organization.map(|handle| format!(" of organization {handle}")).unwrap_or_default();
    format!("the {kind} {handle} in environment {}{of}", names.environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(labels: &[(&str, &str)]) -> Result<ContainerNames, Refused> {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        parse(&labels.collect())
    }

    #[test]
    fn labels_name_an_environment_and_one_app_or_database() {
        let environment = (ENVIRONMENT_LABEL, "production");
        let names = parsed(&[environment, (APP_LABEL, "web"), (ORGANIZATION_LABEL, "acme")]);
        assert_eq!(
            describe(&names.unwrap()),
            "the app web in environment production of organization acme"
        );
        assert!(parsed(&[environment, (DATABASE_LABEL, "main")]).is_ok());
        let both = [environment, (DATABASE_LABEL, "main"), (APP_LABEL, "web")];
        assert_eq!(parsed(&both), Err(Refused::NotOne));
        assert_eq!(parsed(&[environment]), Err(Refused::NotOne));
        assert!(parsed(&[(APP_LABEL, "web")]).is_err());
        assert!(parsed(&[environment, (APP_LABEL, &"x".repeat(101))]).is_err());
    }
}
