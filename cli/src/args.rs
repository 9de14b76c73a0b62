//! The command line: what all commands share, and which commands there are.

use anyhow::Result;
use clap::{Args as ClapArgs, Parser, Subcommand};
use serde_json::json;

use crate::client::{Authority, Client, DEFAULT_API_URL, Problem};
use crate::credentials::CredentialsFile;
use crate::printer::Printer;
use crate::{noun, ssh, surroundings};

/// Runs ephemeral sessions, and manages apps, databases and log drains.
///
/// Begin with `platform login`; then `platform env list`, and `platform ssh --app APP`.
#[derive(Debug, Parser)]
#[command(
    name = "platform",
    version,
    max_term_width = 100,
    after_help = "Exit status: 0 done, 1 refused or failed, 2 wrong usage; `platform ssh` ends \
                  with the status of the remote command, and 255 if there is no session.\n\n\
                  SPILLWAY_TOKEN holds an API token to use instead of the sign-in (programs)."
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, ClapArgs)]
pub(crate) struct Global {
    /// Print the API's JSON instead of tables and sentences.
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
    /// The API's address. Default: where you signed in, else `http://127.0.0.1:7710`.
    #[arg(
        long,
        global = true,
        env = "SPILLWAY_API_URL",
        value_name = "URL",
        help_heading = "Global options"
    )]
    pub(crate) api: Option<String>,
    /// Send passwords and tokens without encryption to an API on another machine.
    #[arg(long, global = true, env = "SPILLWAY_ALLOW_HTTP", help_heading = "Global options")]
    pub(crate) allow_http: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Ssh(ssh::Arguments),
    #[command(flatten)]
    User(noun::Command),
    #[cfg(feature = "server")]
    #[command(flatten)]
    Operator(crate::server::Command),
}

impl Global {
    /// The printer for the form that was asked for.
    pub(crate) const fn printer(&self) -> Printer {
        Printer::new(self.json)
    }

    /// A client with the user's authority.
    pub(crate) fn client(&self) -> Result<Client> {
        let file = CredentialsFile::of_user()?;
        let url = match &self.api {
            Some(url) => url.clone(),
            None => self.api_url(file.read()?.map(|credentials| credentials.api_url)),
        };
        let authority = match surroundings::token() {
            Some(token) => Authority::Token(token),
            None => Authority::SignIn(file),
        };
        Client::new(&url, self.allow_http, authority)
    }

    /// The API that was named, else the one remembered, else the one on this machine.
    pub(crate) fn api_url(&self, remembered: Option<String>) -> String {
        self.api.clone().or(remembered).unwrap_or_else(|| DEFAULT_API_URL.to_owned())
    }
}

/// Tells on standard error why a command failed.
pub(crate) fn report(error: &anyhow::Error, for_programs: bool) {
    let sentence = sentence(error);
    if !for_programs {
        eprintln!("error: {sentence}");
        return;
    }
    let status = error.downcast_ref::<Problem>().map(|problem| problem.status.as_u16());
    eprintln!("{:#}", json!({ "error": sentence, "status": status }));
}

/// The error and its causes, but for those that repeat what is said already.
fn sentence(error: &anyhow::Error) -> String {
    let mut sentence = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if sentence.is_empty() {
            sentence = cause;
        } else if !sentence.contains(&cause) {
            sentence = format!("{sentence}: {cause}");
        }
    }
    sentence
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn cause_that_is_told_already_is_not_told_again() {
        let error = anyhow::anyhow!("in use").context("port 1: in use").context("cannot start");
        assert_eq!(super::sentence(&error), "cannot start: port 1: in use");
    }

    #[test]
    fn command_line_is_well_formed() {
        super::Args::command().debug_assert();
    }

    /// Every command and setting tells what it is for.
    #[test]
    fn help_leaves_nothing_out() {
        fn visit(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            assert!(command.get_about().is_some(), "{path} has no description");
            for argument in command.get_arguments() {
                let help = argument.get_help().or(argument.get_long_help());
                assert!(help.is_some(), "{path} {} has no description", argument.get_id());
            }
            for below in command.get_subcommands().filter(|c| c.get_name() != "help") {
                visit(below, &path);
            }
        }
        visit(&super::Args::command(), "");
    }
}
