use std::io::Write as _;

use clap::{CommandFactory as _, FromArgMatches as _};

use super::*;

// Variables that cargo sets for every test: a test cannot set any of its own.
#[derive(Debug, Parser)]
#[command(name = "service")]
struct Settings {
    /// The file.
    #[arg(long)]
    config: Option<PathBuf>,
    /// How many, 1 to 9.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    count: u8,
    /// Networks that may be dialled.
    #[arg(long)]
    network: Vec<String>,
    /// Whether to be quiet.
    #[arg(long)]
    quiet: bool,
    /// A name.
    #[arg(long, env = "CARGO_PKG_NAME", default_value = "none")]
    name: String,
    /// A number, 0 to 255.
    #[arg(long, env = "CARGO_PKG_DESCRIPTION")]
    number: Option<u8>,
}

/// Without the variables, which would always win.
fn plain() -> Command {
    Settings::command().mut_arg("number", |argument| argument.env(None::<&'static str>))
}

struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("config-{}-{name}.toml", std::process::id()));
        std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

fn parse_with(command: &Command, file: &File, flags: &[&str]) -> Result<Settings, ConfigError> {
    let mut arguments: Vec<OsString> = vec!["service".into()];
    arguments.extend(flags.iter().map(Into::into));
    arguments.extend(["--config".into(), file.0.clone().into()]);
    Ok(Settings::from_arg_matches(&matches(command, &arguments)?).unwrap())
}

#[test]
fn file_overrides_defaults_and_flags_override_the_file() {
    let file = File::new("order", "count = 5\nquiet = true\n");
    let settings = parse_with(&plain(), &file, &[]).unwrap();
    assert_eq!((settings.count, settings.quiet), (5, true));
    assert_eq!(parse_with(&plain(), &file, &["--count", "7"]).unwrap().count, 7);
}

#[test]
fn environment_overrides_the_file_and_flags_override_both() {
    let file = File::new("environment", "name = 'from the file'\n");
    assert_eq!(parse_with(&plain(), &file, &[]).unwrap().name, "service");
    assert_eq!(parse_with(&plain(), &file, &["--name=flag"]).unwrap().name, "flag");
}

#[test]
fn list_in_the_file_is_replaced_by_flags_and_not_added_to() {
    let file = File::new("list", "network = ['10.0.0.0/8', '192.168.0.0/16']\n");
    assert_eq!(parse_with(&plain(), &file, &[]).unwrap().network.len(), 2);
    let settings = parse_with(&plain(), &file, &["--network", "172.16.0.0/12"]).unwrap();
    assert_eq!(settings.network, ["172.16.0.0/12"]);
}

#[test]
fn unknown_key_is_refused_with_the_known_ones() {
    for key in ["cuont", "config", "help"] {
        let file = File::new(key, &format!("{key} = 'x'\n"));
        let text = parse_with(&plain(), &file, &[]).unwrap_err().to_string();
        assert!(text.contains(&format!("`{key}` is no setting")), "{text}");
        assert!(text.contains("count, network, quiet, name, number"), "{text}");
    }
}

#[test]
fn wrong_value_in_the_file_names_key_value_file_and_what_is_allowed() {
    let file = File::new("value", "count = 12\n");
    let text = parse_with(&plain(), &file, &[]).unwrap_err().to_string();
    for part in ["--count", "12", "1..=9", "the configuration file", "How many, 1 to 9"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

#[test]
fn wrong_value_in_the_environment_names_the_variable() {
    let file = File::new("variable", "");
    let text = parse_with(&Settings::command(), &file, &[]).unwrap_err().to_string();
    for part in ["--number", "CARGO_PKG_DESCRIPTION", "A number, 0 to 255"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

#[test]
fn wrong_shapes_are_refused() {
    let table = File::new("table", "[count]\nx = 1\n");
    assert!(matches!(parse_with(&plain(), &table, &[]), Err(ConfigError::Type { .. })));
    let broken = File::new("broken", "count = ");
    assert!(matches!(parse_with(&plain(), &broken, &[]), Err(ConfigError::Syntax { .. })));
    let twice = File::new("twice", "count = [1, 2]\n");
    assert!(matches!(parse_with(&plain(), &twice, &[]), Err(ConfigError::Arguments(_))));
    let switch = File::new("switch", "quiet = 'sometimes'\n");
    assert!(parse_with(&plain(), &switch, &[]).is_err());
}

#[test]
fn missing_file_is_named() {
    let arguments = ["service", "--config", "/nonexistent/x.toml"].map(OsString::from);
    let error = matches(&plain(), &arguments).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/x.toml"), "{error}");
}

#[test]
fn file_reaches_the_subcommand_that_takes_it() {
    let file = File::new("subcommand", "count = 4\n");
    let command = Command::new("program").subcommand(plain().name("up"));
    let arguments =
        ["program".into(), "up".into(), "--config".into(), file.0.clone().into_os_string()];
    let matches = matches(&command, &arguments).unwrap();
    let below = matches.subcommand_matches("up").unwrap();
    assert_eq!(Settings::from_arg_matches(below).unwrap().count, 4);
}
