//! Questions to the person at the terminal. Questions go to standard error, so that standard output
//! holds answers only.

use std::io::{IsTerminal as _, Read as _, Write as _};

use anyhow::{Context as _, Result, bail};
use model::Secret;

/// Longest text that is read from standard input: passwords, keys, values.
const INPUT_LIMIT: u64 = 1024 * 1024;

/// Whether somebody can be asked.
pub(crate) fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks for a line of text.
pub(crate) fn ask(question: &str) -> Result<String> {
    let mut output = std::io::stderr().lock();
    write!(output, "{question}: ")?;
    output.flush()?;
    let mut line = String::new();
    if std::io::stdin().read_line(&mut line)? == 0 {
        bail!("no answer to the question \"{question}\"");
    }
    Ok(line.trim().to_owned())
}

/// Asks for a password, without showing it.
pub(crate) fn ask_password(question: &str) -> Result<Secret<String>> {
    let password = rpassword::prompt_password(format!("{question}: "))
        .context("cannot ask for a password: there is no terminal; use --password-stdin")?;
    Ok(Secret::new(password))
}

/// The first line of standard input, as a password.
pub(crate) fn password_from_stdin() -> Result<Secret<String>> {
    let text = Secret::new(stdin_text()?);
    let line = text.expose().lines().next().unwrap_or_default();
    if line.is_empty() {
        bail!("standard input holds no password");
    }
    Ok(Secret::new(line.to_owned()))
}

/// All of standard input.
pub(crate) fn stdin_text() -> Result<String> {
    let mut text = String::new();
    let read = std::io::stdin().lock().take(INPUT_LIMIT + 1).read_to_string(&mut text);
    read.context("cannot read standard input as UTF-8 text")?;
    if text.len() as u64 > INPUT_LIMIT {
        bail!("standard input is longer than {INPUT_LIMIT} bytes");
    }
    Ok(text)
}

/// A file's text, or standard input's for `-`.
pub(crate) fn file_text(path: &str) -> Result<String> {
    if path == "-" {
        return stdin_text();
    }
    let size = std::fs::metadata(path).with_context(|| format!("cannot read {path}"))?.len();
    if size > INPUT_LIMIT {
        bail!("{path} is longer than {INPUT_LIMIT} bytes");
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read {path} as UTF-8 text"))
}

/// Makes sure that what is deleted is what was meant: asks for its handle, unless `yes`.
pub(crate) fn confirm_deletion(noun: &str, handle: &str, yes: bool) -> Result<()> {
    confirm(&format!("delete the {noun} {handle}"), handle, yes)
}

/// Asks for the handle of what loses something for good; `act` is what is to be done.
pub(crate) fn confirm(act: &str, handle: &str, yes: bool) -> Result<()> {
    if yes {
        return Ok(());
    }
    if !is_interactive() {
        bail!("to {act} needs --yes where nobody can be asked");
    }
    if ask(&format!("Type {handle} to {act}"))? != handle {
        bail!("that is not {handle}; nothing was done");
    }
    Ok(())
}
