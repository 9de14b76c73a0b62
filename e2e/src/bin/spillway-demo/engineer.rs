//! An engineer at a terminal.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use e2e::terminal::Terminal;
use tokio::process::Command;

const DEADLINE: Duration = Duration::from_secs(30);
const PROMPT: &str = "# ";

#[derive(Debug, Args)]
pub(crate) struct Type {
    /// Gets every byte that the terminal shows.
    #[arg(long, value_name = "FILE")]
    transcript: PathBuf,
    /// Gets what the program says on standard error, which is no part of the session.
    #[arg(long, value_name = "FILE")]
    messages: PathBuf,
    /// A line to type at the next prompt; may be repeated.
    #[arg(long = "line", value_name = "LINE")]
    lines: Vec<String>,
    /// The program, after `--`.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Type {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let mut command = Command::new("sh");
        command.args(["-c", "exec 2>\"$1\"; shift; exec \"$@\"", "sh"]).arg(&self.messages);
        command.args(&self.command);
        let mut terminal = Terminal::start(command, 100, 30)?;
        let outcome = type_lines(&mut terminal, &self.lines).await;
        std::fs::write(&self.transcript, terminal.shown())?;
        let status = outcome.with_context(|| {
            let said = std::fs::read_to_string(&self.messages).unwrap_or_default();
            format!("the session did not go as planned; the program said:\n{said}")
        })?;
        Ok(ExitCode::from(status))
    }
}

async fn type_lines(terminal: &mut Terminal, lines: &[String]) -> Result<u8> {
    for (number, line) in lines.iter().enumerate() {
        terminal.wait_for(PROMPT, number + 1, DEADLINE).await?;
        terminal.type_in(&format!("{line}\r"))?;
    }
    let status = terminal.ended(DEADLINE).await?;
    Ok(status.code().and_then(|code| code.try_into().ok()).unwrap_or(255))
}
