//! What a record says, in words.

use std::borrow::Cow;

use crate::{Actor, ContainerAction, Event, Record, SessionStarted, Target};

impl Record {
    /// The record's text: what was written, or what happened in words.
    #[must_use]
    pub fn message(&self) -> Cow<'_, [u8]> {
        message(self)
    }
}

fn message(record: &Record) -> Cow<'_, [u8]> {
    let words = match &record.event {
        Event::Line(line) => return Cow::Borrowed(&line.text),
        Event::Output { bytes, .. } | Event::Input { bytes, .. } => return Cow::Borrowed(bytes),
        Event::Pause { .. } => return Cow::Borrowed(b""),
        Event::Exec { command } => return [b"exec: ".as_slice(), command].concat().into(),
        Event::SessionStarted(started) => session_started(record, started),
        Event::Pty { term, size } => format!("terminal: {term} {}x{}", size.columns, size.rows),
        Event::Resize { size } => format!("resize: {}x{}", size.columns, size.rows),
        Event::Env { name } => format!("environment variable set: {name}"),
        Event::Shell => "shell started".to_owned(),
        Event::Subsystem { name } => format!("subsystem: {name}"),
        Event::Signal { name } => format!("signal: {name}"),
        Event::Gap { lines, reason } => format!("{lines} lines were lost: {reason}"),
        Event::Container(container) => {
            let action = match container.action {
                ContainerAction::Started => "started".to_owned(),
                ContainerAction::Exited { code } => format!("ended with exit status {code}"),
                ContainerAction::OutOfMemory => "ran out of memory".to_owned(),
            };
            format!("container {} {action} (image {})", container.name, container.image)
        }
        Event::Exit(status) => format!("exit: {status}"),
        Event::SessionEnded { reason, aborted, output_bytes, duration } => format!(
            "session {}: {reason} ({output_bytes} bytes of output in {:.1} s)",
            if *aborted { "aborted" } else { "ended" },
            duration.as_secs_f64()
        ),
        Event::Activity { actor, action, target, detail } => {
            activity(actor, action, target, detail)
        }
    };
    words.into_bytes().into()
}

fn session_started(record: &Record, started: &SessionStarted) -> String {
    let who = record.origin.session.as_ref().map_or("somebody", |session| &session.user_email);
    let app = record.origin.app.as_ref().map_or("an app", |app| app.handle.as_str());
    let SessionStarted {
        image, client_address, client_version, auth_method, key_fingerprint, ..
    } = started;
    let reason = started.reason.as_ref().map(|reason| format!("; reason: {reason}"));
    format!(
        "session started: {who} opened {app} from {client_address} (image {image}; {auth_method} \
         {key_fingerprint}; client {client_version}){}",
        reason.unwrap_or_default()
    )
}

fn activity(actor: &Actor, action: &str, target: &Target, detail: &str) -> String {
    let Target { kind, handle, .. } = target;
    let kind = kind.replace('_', " ");
    let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
    format!("{action}: {kind} {handle}, by {actor}{detail}")
}
