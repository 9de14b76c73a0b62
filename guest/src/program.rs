//! Starting the program: which, with what environment, on which inputs and outputs.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use guest_protocol::Pty;
use rustix::fs::Access;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::environment::{self, Account, InvalidVariable, Variables};
use crate::exit::Reaper;
use crate::terminal;

/// What commands are given to, as POSIX has it.
const SH: &str = "/bin/sh";

/// Why the program does not run, for the engineer to read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Variable(#[from] InvalidVariable),
    #[error("the image has no shell: neither $SHELL nor /bin/bash nor {SH} can be executed in it")]
    NoShell,
    #[error("{0}")]
    Program(String),
    #[error("the container gives no terminal: {0}")]
    Terminal(#[source] io::Error),
    #[error("the container gives no pipes or threads: {0}")]
    System(#[from] io::Error),
}

/// A program, as far as signals and sizes go.
#[derive(Debug)]
pub(crate) struct Program {
    /// Its process, and the group of processes that it leads.
    pid: Pid,
    /// Our end of the terminal.
    pub(crate) terminal: Option<OwnedFd>,
}

/// A program that was started; our ends of its inputs and outputs do not block.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) program: Program,
    pub(crate) reaper: Reaper,
    pub(crate) input: OwnedFd,
    pub(crate) stdout: OwnedFd,
    /// Apart only without a terminal.
    pub(crate) stderr: Option<OwnedFd>,
}

/// Starts the program; when this returns it runs.
pub(crate) fn start(
    what: &guest_protocol::Program,
    image: Vec<(OsString, OsString)>,
    given: Vec<(String, Vec<u8>)>,
    pty: Option<&Pty>,
) -> Result<Running, StartError> {
    let term = pty.map(|pty| pty.term.as_str());
    let mut variables = environment::build(image, given, &Account::current(), term)?;
    let invocation = match what {
        guest_protocol::Program::Shell => {
            let shell = shell(&variables).ok_or(StartError::NoShell)?;
            variables.insert("SHELL".into(), shell.clone());
            let name = if pty.is_some() { login_name(&shell) } else { shell.clone() };
            Invocation { path: shell, name, arguments: Vec::new() }
        }
        guest_protocol::Program::Command(line) => Invocation {
            path: SH.into(),
            name: "sh".into(),
            arguments: vec!["-c".into(), OsString::from_vec(line.clone())],
        },
    };
    match pty {
        Some(pty) => on_terminal(pty, &invocation, &variables),
        None => on_pipes(&invocation, &variables),
    }
}

/// What is executed, by what name, with which arguments.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) path: OsString,
    pub(crate) name: OsString,
    pub(crate) arguments: Vec<OsString>,
}

fn on_pipes(invocation: &Invocation, variables: &Variables) -> Result<Running, StartError> {
    let (stdin, input) = io::pipe()?;
    let (stdout, stdout_end) = io::pipe()?;
    let (stderr, stderr_end) = io::pipe()?;
    // Their usual size: larger ones are hardly faster, and count against a limit that all
    // containers of the same user id share.
    let mut command = Command::new(&invocation.path);
    command.arg0(&invocation.name).args(&invocation.arguments).process_group(0);
    command.stdin(stdin).stdout(stdout_end).stderr(stderr_end);
    let pid = spawn(command, variables, &invocation.path)?;
    Ok(Running {
        program: Program { pid, terminal: None },
        reaper: Reaper::new(pid)?,
        input: nonblocking(input.into())?,
        stdout: nonblocking(stdout.into())?,
        stderr: Some(nonblocking(stderr.into())?),
    })
}

fn on_terminal(
    pty: &Pty,
    invocation: &Invocation,
    variables: &Variables,
) -> Result<Running, StartError> {
    let (ours, theirs) = terminal::open(pty).map_err(StartError::Terminal)?;
    let (mut report, report_end) = io::pipe()?;
    let mut command = terminal::command(invocation);
    command.stdin(theirs.try_clone()?).stdout(theirs).stderr(report_end);
    let pid = spawn(command, variables, OsStr::new("/proc/self/exe"))?;
    let mut reason = String::new();
    report.read_to_string(&mut reason)?;
    if !reason.is_empty() {
        return Err(StartError::Program(reason));
    }
    let ours = nonblocking(ours)?;
    Ok(Running {
        reaper: Reaper::new(pid)?,
        input: ours.try_clone()?,
        stdout: ours.try_clone()?,
        stderr: None,
        program: Program { pid, terminal: Some(ours) },
    })
}

/// Consumes the command, and with it our copies of the program's ends.
fn spawn(mut command: Command, variables: &Variables, path: &OsStr) -> Result<Pid, StartError> {
    let child = command
        .env_clear()
        .envs(variables)
        .spawn()
        .map_err(|error| StartError::Program(explain(path, &error)))?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    Ok(pid.ok_or_else(|| io::Error::from(Errno::SRCH))?)
}

fn nonblocking(end: OwnedFd) -> io::Result<OwnedFd> {
    rustix::io::ioctl_fionbio(&end, true)?;
    Ok(end)
}

/// The first shell that can be executed.
fn shell(variables: &Variables) -> Option<OsString> {
    let wanted = variables.get(OsStr::new("SHELL")).cloned();
    wanted.into_iter().chain(["/bin/bash".into(), SH.into()]).find(|shell| {
        let path = Path::new(shell);
        path.is_absolute()
            && path.is_file()
            && rustix::fs::access(shell.as_os_str(), Access::EXEC_OK).is_ok()
    })
}

/// A shell called by this name is a login shell.
fn login_name(shell: &OsStr) -> OsString {
    let mut name = OsString::from("-");
    name.push(Path::new(shell).file_name().unwrap_or(shell));
    name
}

/// Why `path` cannot be executed, for the engineer to read.
pub(crate) fn explain(path: &OsStr, error: &io::Error) -> String {
    let shown = Path::new(path).display();
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) if !Path::new(path).exists() => {
            format!("the image has no {shown}, without which nothing can be run in it")
        }
        Some(Errno::NOENT) => {
            format!("{shown} is in the image, but the interpreter or loader that it needs is not")
        }
        Some(Errno::NOEXEC) => format!(
            "{shown} in the image is made for another kind of machine than this one ({})",
            std::env::consts::ARCH
        ),
        Some(Errno::ACCESS | Errno::PERM) => format!(
            "{shown} in the image may not be executed by its user (user id {})",
            rustix::process::getuid().as_raw()
        ),
        Some(Errno::TOOBIG) => {
            "the command and the configuration variables are too long for a program".to_owned()
        }
        Some(Errno::AGAIN) => "the limit on processes does not let a program start".to_owned(),
        Some(Errno::NOMEM) => "the limit on memory does not let a program start".to_owned(),
        _ => format!("{shown} in the image cannot be executed: {error}"),
    }
}

impl Program {
    /// Tells the terminal's new size; one that does not take it keeps the old one.
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        if let Some(terminal) = &self.terminal {
            terminal::resize(terminal, columns, rows).ok();
        }
    }

    /// Sends a signal to what runs in the foreground of the terminal, or to the program's group.
    pub(crate) fn signal(&self, signal: Signal) {
        let foreground =
            self.terminal.as_ref().and_then(|terminal| rustix::termios::tcgetpgrp(terminal).ok());
        send(foreground.unwrap_or(self.pid), signal);
    }

    /// Sends a signal to the program's own group.
    pub(crate) fn signal_group(&self, signal: Signal) {
        send(self.pid, signal);
    }
}

/// A group that is gone, or belongs to another user by now, gets no signal.
fn send(group: Pid, signal: Signal) {
    kill_process_group(group, signal).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(path: &str, errno: Errno) -> String {
        explain(OsStr::new(path), &errno.into())
    }

    #[test]
    fn missing_shell_and_missing_loader_are_told_apart() {
        assert!(explained("/no/such/sh", Errno::NOENT).starts_with("the image has no /no/such/sh"));
        assert!(explained("/bin/sh", Errno::NOENT).contains("loader"));
        assert!(explained("/bin/sh", Errno::NOEXEC).contains("another kind of machine"));
    }

    #[test]
    fn shell_that_cannot_be_executed_is_passed_over() {
        for bad in ["/etc/passwd", "/no/such/sh", "/tmp"] {
            let variables = Variables::from([("SHELL".into(), bad.into())]);
            assert_ne!(shell(&variables).unwrap(), bad);
        }
        assert_eq!(login_name(OsStr::new("/bin/bash")), "-bash");
    }
}
