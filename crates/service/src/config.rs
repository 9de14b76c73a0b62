//! Configuration from flags, environment variables and a file, in that order of strength.
//!
//! The file is TOML whose keys are the long flags without dashes in front (`api-listen = "..."`).
//! What neither a flag nor a variable sets is turned into flags, so one parser checks all three
//! ways.
//!
//! Invariant: a setting comes from one place. A list in the file is not added to by flags.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, Parser};

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("the configuration file {} is not TOML: {source}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// The file has a key that is no setting.
    #[error("the configuration file {}: `{key}` is no setting; settings are: {known}", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// Every key that is.
        known: String,
    },
    /// A value in the file has a type that no setting has.
    #[error("the configuration file {}: `{key}` must be a string, a number, a boolean or a list of these", path.display())]
    Type {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// A value is not allowed; says where it was set and what is allowed.
    #[error("{error}\n{explanation}")]
    Value {
        /// The parser's complaint: names the key and the value.
        error: Box<clap::Error>,
        /// Where the value was set, and what the setting takes.
        explanation: String,
    },
    /// Help was asked for, or the flags are wrong in another way.
    #[error(transparent)]
    Arguments(Box<clap::Error>),
}

impl ConfigError {
    /// Shows the error, or the help that was asked for, and ends the process.
    pub fn exit(&self) -> ! {
        let code = match self {
            Self::Arguments(error) => error.exit(),
            Self::Value { error, explanation } => {
                // A closed standard error has nobody to tell.
                drop(error.print());
                eprintln!("{explanation}");
                error.exit_code()
            }
            error => {
                eprintln!("error: {error}");
                2
            }
        };
        std::process::exit(code)
    }
}

/// Parses the process's configuration; shows what is wrong, or the help, and exits if it must.
///
/// The file is named by an argument of `P` with the id `config`, usually
/// `#[arg(long, env = "SPILLWAY_CONFIG")] config: Option<PathBuf>`.
#[must_use]
pub fn load<P: Parser>() -> P {
    let parsed = matches(&P::command(), &std::env::args_os().collect::<Vec<_>>());
    let mut matches = parsed.unwrap_or_else(|error| error.exit());
    P::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| error.exit())
}

/// Parses `arguments` (the first is the program's name), joined by the configuration file that the
/// command, or the subcommand they choose, is given.
pub fn matches(command: &Command, arguments: &[OsString]) -> Result<ArgMatches, ConfigError> {
    // A first look, which sees where each setting comes from and leaves complaints to the second.
    let lenient = command.clone().ignore_errors(true).try_get_matches_from(arguments);
    let Ok(lenient) = lenient else { return parse(command, arguments) };
    let (mut settings, mut given) = (command, &lenient);
    while let Some((name, below)) = given.subcommand() {
        let Some(subcommand) = settings.find_subcommand(name) else { break };
        (settings, given) = (subcommand, below);
    }
    let mut all = arguments.to_vec();
    let file = given.try_get_one::<PathBuf>("config").ok().flatten();
    if let Some(file) = file {
        all.extend(file_flags(file, settings, given)?);
    }
    parse(command, &all).map_err(|error| explained(error, settings, given, file))
}

fn parse(command: &Command, arguments: &[OsString]) -> Result<ArgMatches, ConfigError> {
    let parsed = command.clone().try_get_matches_from(arguments);
    parsed.map_err(|error| ConfigError::Arguments(Box::new(error)))
}

fn is_set(argument: &Arg, given: &ArgMatches) -> Option<ValueSource> {
    let source = given.value_source(argument.get_id().as_str())?;
    matches!(source, ValueSource::CommandLine | ValueSource::EnvVariable).then_some(source)
}

/// The file's settings as flags, without those that a flag or a variable sets.
fn file_flags(
    path: &Path,
    settings: &Command,
    given: &ArgMatches,
) -> Result<Vec<OsString>, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let table: toml::Table = toml::from_str(&text).map_err(|source| ConfigError::Syntax {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    let mut flags = Vec::new();
    for (key, value) in &table {
        let Some(argument) = keyed(settings).find(|argument| argument.get_long() == Some(key))
        else {
            let known: Vec<&str> = keyed(settings).filter_map(Arg::get_long).collect();
            let known = known.join(", ");
            return Err(ConfigError::UnknownKey { path: path.to_owned(), key: key.clone(), known });
        };
        let values = scalar_texts(value)
            .ok_or_else(|| ConfigError::Type { path: path.to_owned(), key: key.clone() })?;
        if is_set(argument, given).is_some() {
            continue;
        }
        let is_switch = matches!(argument.get_action(), ArgAction::SetTrue);
        for value in values {
            match (is_switch, value.as_str()) {
                (true, "false") => {}
                (true, "true") => flags.push(format!("--{key}").into()),
                _ => flags.push(format!("--{key}={value}").into()),
            }
        }
    }
    Ok(flags)
}

/// The arguments that a file may set.
fn keyed(settings: &Command) -> impl Iterator<Item = &Arg> {
    let no_setting = ["config", "help", "version"];
    settings
        .get_arguments()
        .filter(move |argument| argument.get_long().is_some_and(|long| !no_setting.contains(&long)))
}

/// Adds to a complaint about a value where the value was set and what the setting takes.
fn explained(
    error: ConfigError,
    settings: &Command,
    given: &ArgMatches,
    file: Option<&PathBuf>,
) -> ConfigError {
    let ConfigError::Arguments(error) = error else { return error };
    let about_a_value =
        matches!(error.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation);
    let Some(ContextValue::String(named)) = error.get(ContextKind::InvalidArg) else {
        return ConfigError::Arguments(error);
    };
    let key = named.trim_start_matches('-').split([' ', '=']).next();
    let Some(argument) =
        keyed(settings).find(|argument| about_a_value && argument.get_long() == key)
    else {
        return ConfigError::Arguments(error);
    };
    let mut explanation = match (is_set(argument, given), argument.get_env(), file) {
        (Some(ValueSource::EnvVariable), Some(name), _) => {
            format!("  set by: the environment variable {}\n", name.display())
        }
        (None, _, Some(file)) => format!("  set by: the configuration file {}\n", file.display()),
        _ => String::new(),
    };
    if let Some(help) = argument.get_long_help().or(argument.get_help()) {
        explanation.push_str("  setting: ");
        explanation.push_str(&help.to_string());
    }
    ConfigError::Value { error, explanation }
}

fn scalar_texts(value: &toml::Value) -> Option<Vec<String>> {
    match value {
        toml::Value::Array(items) => items.iter().map(scalar_text).collect(),
        value => scalar_text(value).map(|text| vec![text]),
    }
}

fn scalar_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(truth) => Some(truth.to_string()),
        toml::Value::Array(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

#[cfg(test)]
mod tests;
