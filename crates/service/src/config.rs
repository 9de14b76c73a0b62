//! Configuration from flags, environment variables and a file, in that order of strength.
//!
//! The file is TOML whose keys are the long flags without dashes in front (`api-listen = "..."`).
//! It is turned into flags that stand before the real ones, so one parser checks all three ways and
//! names the key, the value and what is allowed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Command, Parser};

/// A configuration file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is not TOML.
    #[error("the configuration file {} is not TOML: {source}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// It has a key that is no setting.
    #[error("the configuration file {}: `{key}` is no setting; settings are: {known}", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// Every key that is.
        known: String,
    },
    /// A value has a type that no setting has.
    #[error("the configuration file {}: `{key}` must be a string, a number, a boolean or a list of strings", path.display())]
    Type {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
}

/// Parses the process's configuration; prints what is wrong, or the help, and exits if it must.
///
/// The file is named by `--config FILE` or `SPILLWAY_CONFIG`; `P` has a field for it so that
/// `--help` shows it.
#[must_use]
pub fn load<P: Parser>() -> P {
    #[allow(clippy::disallowed_methods, reason = "this is where the environment is read")]
    let file = file_argument(std::env::args_os()).or_else(|| std::env::var_os("SPILLWAY_CONFIG"));
    let command = P::command().args_override_self(true);
    let mut arguments: Vec<OsString> = std::env::args_os().take(1).collect();
    if let Some(file) = file {
        match file_flags(Path::new(&file), &command) {
            Ok(flags) => arguments.extend(flags),
            Err(error) => command.clone().error(clap::error::ErrorKind::InvalidValue, error).exit(),
        }
    }
    arguments.extend(std::env::args_os().skip(1));
    let mut matches = command.get_matches_from(arguments);
    P::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| error.exit())
}

fn file_argument(arguments: impl Iterator<Item = OsString>) -> Option<OsString> {
    let mut arguments = arguments.skip(1);
    while let Some(argument) = arguments.next() {
        let text = argument.to_string_lossy();
        if text == "--config" {
            return arguments.next();
        }
        if let Some(value) = text.strip_prefix("--config=") {
            return Some(value.into());
        }
    }
    None
}

/// The file's settings as flags, without those that an environment variable sets: the parser
/// prefers a flag to a variable, and the file is the weaker of the two.
pub fn file_flags(path: &Path, command: &Command) -> Result<Vec<OsString>, FileError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    let table: toml::Table = toml::from_str(&text)
        .map_err(|source| FileError::Syntax { path: path.to_owned(), source: Box::new(source) })?;
    let mut flags = Vec::new();
    for (key, value) in &table {
        let argument = command
            .get_arguments()
            .find(|argument| argument.get_long() == Some(key) && key != "config")
            .ok_or_else(|| FileError::UnknownKey {
                path: path.to_owned(),
                key: key.clone(),
                known: known_keys(command),
            })?;
        #[allow(clippy::disallowed_methods, reason = "this is where the environment is read")]
        if argument.get_env().is_some_and(|name| std::env::var_os(name).is_some()) {
            continue;
        }
        let is_switch = matches!(argument.get_action(), ArgAction::SetTrue);
        for value in scalar_texts(value)
            .ok_or_else(|| FileError::Type { path: path.to_owned(), key: key.clone() })?
        {
            match (is_switch, value.as_str()) {
                (true, "false") => {}
                (true, "true") => flags.push(format!("--{key}").into()),
                _ => flags.push(format!("--{key}={value}").into()),
            }
        }
    }
    Ok(flags)
}

fn known_keys(command: &Command) -> String {
    let mut keys: Vec<&str> = command
        .get_arguments()
        .filter_map(clap::Arg::get_long)
        .filter(|key| !matches!(*key, "config" | "help" | "version"))
        .collect();
    keys.sort_unstable();
    keys.join(", ")
}

fn scalar_texts(value: &toml::Value) -> Option<Vec<String>> {
    match value {
        toml::Value::String(text) => Some(vec![text.clone()]),
        toml::Value::Integer(number) => Some(vec![number.to_string()]),
        toml::Value::Float(number) => Some(vec![number.to_string()]),
        toml::Value::Boolean(truth) => Some(vec![truth.to_string()]),
        toml::Value::Array(items) => {
            let nested: Option<Vec<_>> = items.iter().map(scalar_texts).collect();
            nested.map(|lists| lists.concat())
        }
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}
