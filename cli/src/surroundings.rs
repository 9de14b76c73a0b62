//! What the command learns from its environment variables, apart from its flags.
//!
//! Invariant: this is the only place of the command that reads them.

use std::ffi::OsString;
use std::path::PathBuf;

use model::Secret;

fn variable(name: &str) -> Option<OsString> {
    #[allow(clippy::disallowed_methods, reason = "this is where the environment is read")]
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn text(name: &str) -> Option<String> {
    variable(name).and_then(|value| value.into_string().ok())
}

/// An access or API token to use instead of a sign-in; not a flag, because other users see flags.
pub(crate) fn token() -> Option<Secret<String>> {
    text("SPILLWAY_TOKEN").map(Secret::new)
}

/// The folder for this user's settings: `$XDG_CONFIG_HOME`, else `~/.config` (XDG Base Directory
/// Specification 0.8).
pub(crate) fn config_home() -> Option<PathBuf> {
    folder("XDG_CONFIG_HOME", ".config")
}

/// The folder for this user's data that outlive a restart: `$XDG_STATE_HOME`, else
/// `~/.local/state`.
#[cfg(feature = "server")]
pub(crate) fn state_home() -> Option<PathBuf> {
    folder("XDG_STATE_HOME", ".local/state")
}

fn folder(name: &str, below_home: &str) -> Option<PathBuf> {
    // The specification says to ignore relative paths.
    let given = variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    given.or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(below_home)))
}

/// The kind of this terminal, as programs in the session will believe it.
pub(crate) fn terminal_kind() -> String {
    text("TERM").unwrap_or_else(|| "xterm".to_owned())
}

/// Whether a terminal is to show colours (no-color.org).
pub(crate) fn wants_colours() -> bool {
    variable("NO_COLOR").is_none() && terminal_kind() != "dumb"
}

/// The language settings, which sessions are asked to take over.
pub(crate) fn languages() -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, value)| (name == "LANG" || name.starts_with("LC_")) && value.len() <= 256)
        .collect();
    found.sort_unstable();
    found.truncate(32);
    found
}

/// The folders of the search path for programs.
#[cfg(feature = "server")]
pub(crate) fn search_path() -> Vec<PathBuf> {
    variable("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}
