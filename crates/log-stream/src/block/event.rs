//! The protobuf messages of records, and how events become messages. The rules for tags stand in
//! [`super::wire`].

use std::time::Duration;

use bytes::Bytes;
use model::{
    Actor, ContainerAction, ContainerEvent, ExitStatus, Fields, OutputStream, Severity, Target,
    TerminalSize, Timestamp,
};

use super::{DecodeError, wire};

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Record {
    /// The origin's place in the table.
    #[prost(uint32, tag = "1")]
    pub(super) origin: u32,
    /// The number less the one after this origin's previous record (wrapping); 0 without a gap.
    #[prost(uint64, tag = "2")]
    pub(super) seq_skip: u64,
    /// The time less the previous record's (wrapping); the first one's is the time itself.
    #[prost(sint64, tag = "3")]
    pub(super) at_change: i64,
    #[prost(
        oneof = "Event",
        tags = "4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21"
    )]
    pub(super) event: Option<Event>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Event {
    #[prost(message, tag = "4")]
    Output(Output),
    #[prost(message, tag = "5")]
    Input(Carried),
    #[prost(message, tag = "6")]
    Line(Carried),
    #[prost(message, tag = "7")]
    SessionStarted(SessionStarted),
    #[prost(message, tag = "8")]
    Pty(Pty),
    #[prost(message, tag = "9")]
    Resize(Size),
    #[prost(string, tag = "10")]
    Env(String),
    #[prost(message, tag = "11")]
    Exec(Carried),
    #[prost(message, tag = "12")]
    Shell(()),
    #[prost(string, tag = "13")]
    Subsystem(String),
    #[prost(string, tag = "14")]
    Signal(String),
    #[prost(message, tag = "15")]
    Exit(Exit),
    #[prost(message, tag = "16")]
    SessionEnded(SessionEnded),
    /// The number of the output that pauses.
    #[prost(uint32, tag = "17")]
    Pause(u32),
    #[prost(message, tag = "18")]
    Activity(Activity),
    /// A line of which more is known than its text.
    #[prost(message, tag = "19")]
    LogLine(LogLine),
    #[prost(message, tag = "20")]
    Gap(Gap),
    #[prost(message, tag = "21")]
    Container(Container),
}

/// Output; its bytes stand apart, and `length` says how many of the next ones they are.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Output {
    /// 0 is standard output, 1 is standard error.
    #[prost(uint32, tag = "1")]
    pub(super) stream: u32,
    #[prost(uint64, tag = "2")]
    pub(super) offset: u64,
    #[prost(uint64, tag = "3")]
    pub(super) length: u64,
}

/// Another event whose bytes stand apart.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Carried {
    #[prost(uint64, tag = "1")]
    offset: u64,
    #[prost(uint64, tag = "2")]
    length: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SessionStarted {
    #[prost(string, tag = "1")]
    image: String,
    #[prost(string, tag = "2")]
    client_address: String,
    #[prost(string, tag = "3")]
    client_version: String,
    #[prost(string, tag = "4")]
    auth_method: String,
    #[prost(string, tag = "5")]
    key_fingerprint: String,
    #[prost(string, optional, tag = "6")]
    reason: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Pty {
    #[prost(string, tag = "1")]
    term: String,
    #[prost(uint32, tag = "2")]
    columns: u32,
    #[prost(uint32, tag = "3")]
    rows: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Size {
    #[prost(uint32, tag = "1")]
    columns: u32,
    #[prost(uint32, tag = "2")]
    rows: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Exit {
    #[prost(uint32, tag = "1")]
    code: u32,
    #[prost(string, optional, tag = "2")]
    signal: Option<String>,
    #[prost(bool, tag = "3")]
    core_dumped: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SessionEnded {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(bool, tag = "2")]
    aborted: bool,
    #[prost(uint64, tag = "3")]
    output_bytes: u64,
    #[prost(uint64, tag = "4")]
    seconds: u64,
    #[prost(uint32, tag = "5")]
    nanos: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Activity {
    /// None: the platform.
    #[prost(message, optional, tag = "1")]
    user: Option<User>,
    #[prost(string, tag = "2")]
    action: String,
    #[prost(string, tag = "3")]
    target_kind: String,
    #[prost(bytes = "vec", tag = "4")]
    target: Vec<u8>,
    #[prost(string, tag = "5")]
    target_handle: String,
    #[prost(string, tag = "6")]
    detail: String,
}

/// Its text and then its packed fields stand apart.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LogLine {
    #[prost(uint64, tag = "1")]
    length: u64,
    #[prost(uint64, tag = "2")]
    fields_length: u64,
    /// 0: not known; else syslog's number and one.
    #[prost(uint32, tag = "3")]
    severity: u32,
    /// 0: not known; else the output's number and one.
    #[prost(uint32, tag = "4")]
    stream: u32,
    #[prost(fixed64, optional, tag = "5")]
    sent_at: Option<u64>,
    #[prost(bool, tag = "6")]
    continued: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Gap {
    #[prost(uint64, tag = "1")]
    lines: u64,
    #[prost(string, tag = "2")]
    reason: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Container {
    /// 1: started, 2: exited, 3: out of memory.
    #[prost(uint32, tag = "1")]
    action: u32,
    #[prost(uint32, tag = "2")]
    code: u32,
    #[prost(string, tag = "3")]
    id: String,
    #[prost(string, tag = "4")]
    name: String,
    #[prost(string, tag = "5")]
    image: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct User {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(string, tag = "2")]
    email: String,
}

const fn output_number(stream: OutputStream) -> u32 {
    match stream {
        OutputStream::Stdout => 0,
        OutputStream::Stderr => 1,
    }
}

const fn output_stream(number: u32) -> Result<OutputStream, DecodeError> {
    match number {
        0 => Ok(OutputStream::Stdout),
        1 => Ok(OutputStream::Stderr),
        _ => Err(DecodeError::UnknownKind("output stream")),
    }
}

pub(super) fn pack(event: &model::Event) -> Event {
    use model::Event as Model;
    let carried = |offset, bytes: &[u8]| Carried { offset, length: bytes.len() as u64 };
    match event {
        Model::Output { stream, offset, bytes } => Event::Output(Output {
            stream: output_number(*stream),
            offset: *offset,
            length: bytes.len() as u64,
        }),
        Model::Pause { stream } => Event::Pause(output_number(*stream)),
        Model::Input { offset, bytes } => Event::Input(carried(*offset, bytes)),
        Model::Line(line) if line.is_plain() => Event::Line(carried(0, &line.text)),
        Model::Line(line) => Event::LogLine(LogLine {
            length: line.text.len() as u64,
            fields_length: line.fields.packed().len() as u64,
            severity: line.severity.map_or(0, |severity| u32::from(severity.number()) + 1),
            stream: line.stream.map_or(0, |stream| output_number(stream) + 1),
            sent_at: line.sent_at.map(Timestamp::nanos),
            continued: line.continued,
        }),
        Model::Gap { lines, reason } => Event::Gap(Gap { lines: *lines, reason: reason.clone() }),
        Model::Container(container) => pack_container(container),
        Model::SessionStarted(started) => Event::SessionStarted(SessionStarted {
            image: started.image.clone(),
            client_address: started.client_address.clone(),
            client_version: started.client_version.clone(),
            auth_method: started.auth_method.clone(),
            key_fingerprint: started.key_fingerprint.clone(),
            reason: started.reason.clone(),
        }),
        Model::Pty { term, size } => {
            Event::Pty(Pty { term: term.clone(), columns: size.columns, rows: size.rows })
        }
        Model::Resize { size } => Event::Resize(Size { columns: size.columns, rows: size.rows }),
        Model::Env { name } => Event::Env(name.clone()),
        Model::Exec { command } => Event::Exec(carried(0, command)),
        Model::Shell => Event::Shell(()),
        Model::Subsystem { name } => Event::Subsystem(name.clone()),
        Model::Signal { name } => Event::Signal(name.clone()),
        Model::Exit(ExitStatus::Code(code)) => {
            Event::Exit(Exit { code: *code, signal: None, core_dumped: false })
        }
        Model::Exit(ExitStatus::Signal { name, core_dumped }) => {
            Event::Exit(Exit { code: 0, signal: Some(name.clone()), core_dumped: *core_dumped })
        }
        Model::SessionEnded { reason, aborted, output_bytes, duration } => {
            Event::SessionEnded(SessionEnded {
                reason: reason.clone(),
                aborted: *aborted,
                output_bytes: *output_bytes,
                seconds: duration.as_secs(),
                nanos: duration.subsec_nanos(),
            })
        }
        Model::Activity { actor, action, target, detail } => Event::Activity(Activity {
            user: match actor {
                Actor::Platform => None,
                Actor::User { id, email } => Some(User { id: wire::id(*id), email: email.clone() }),
            },
            action: action.clone(),
            target_kind: target.kind.clone(),
            target: target.id.as_bytes().to_vec(),
            target_handle: target.handle.clone(),
            detail: detail.clone(),
        }),
    }
}

fn pack_container(container: &ContainerEvent) -> Event {
    let (action, code) = match container.action {
        ContainerAction::Started => (1, 0),
        ContainerAction::Exited { code } => (2, code),
        ContainerAction::OutOfMemory => (3, 0),
    };
    let ContainerEvent { id, name, image, .. } = container.clone();
    Event::Container(Container { action, code, id, name, image })
}

fn unpack_container(container: Container) -> Result<ContainerEvent, DecodeError> {
    let Container { action, code, id, name, image } = container;
    let action = match action {
        1 => ContainerAction::Started,
        2 => ContainerAction::Exited { code },
        3 => ContainerAction::OutOfMemory,
        _ => return Err(DecodeError::UnknownKind("act of a container")),
    };
    Ok(ContainerEvent { action, id, name, image })
}

fn unpack_line(line: &LogLine, carried: &mut Bytes) -> Result<model::LogLine, DecodeError> {
    let text = take(carried, line.length)?;
    let fields = Fields::parse(take(carried, line.fields_length)?);
    let severity = match line.severity.checked_sub(1) {
        None => None,
        Some(number) => {
            Some(*Severity::ALL.get(number as usize).ok_or(DecodeError::UnknownKind("severity"))?)
        }
    };
    Ok(model::LogLine {
        text,
        severity,
        stream: line.stream.checked_sub(1).map(output_stream).transpose()?,
        sent_at: line.sent_at.map(Timestamp::from_nanos),
        continued: line.continued,
        fields: fields.map_err(|_| DecodeError::Damaged("a line's fields are cut off"))?,
    })
}

fn take(carried: &mut Bytes, length: u64) -> Result<Bytes, DecodeError> {
    match usize::try_from(length) {
        Ok(length) if length <= carried.len() => Ok(carried.split_to(length)),
        _ => Err(DecodeError::Damaged("a record's bytes are cut off")),
    }
}

/// The same as [`unpack`] for what there is most of.
pub(super) fn unpack_output(
    output: &Output,
    carried: &mut Bytes,
) -> Result<model::Event, DecodeError> {
    let Output { stream, offset, length } = *output;
    let stream = output_stream(stream)?;
    Ok(model::Event::Output { stream, offset, bytes: take(carried, length)? })
}

/// The event, with its bytes taken, not copied, from the front of `carried`.
pub(super) fn unpack(event: Event, carried: &mut Bytes) -> Result<model::Event, DecodeError> {
    use model::Event as Model;
    Ok(match event {
        Event::Output(output) => unpack_output(&output, carried)?,
        Event::Pause(stream) => Model::Pause { stream: output_stream(stream)? },
        Event::Input(Carried { offset, length }) => {
            Model::Input { offset, bytes: take(carried, length)? }
        }
        Event::Line(Carried { length, .. }) => {
            Model::Line(Box::new(model::LogLine::plain(take(carried, length)?)))
        }
        Event::LogLine(line) => Model::Line(Box::new(unpack_line(&line, carried)?)),
        Event::Gap(Gap { lines, reason }) => Model::Gap { lines, reason },
        Event::Container(container) => Model::Container(Box::new(unpack_container(container)?)),
        Event::SessionStarted(started) => Model::SessionStarted(Box::new(model::SessionStarted {
            image: started.image,
            client_address: started.client_address,
            client_version: started.client_version,
            auth_method: started.auth_method,
            key_fingerprint: started.key_fingerprint,
            reason: started.reason,
        })),
        Event::Pty(Pty { term, columns, rows }) => {
            Model::Pty { term, size: TerminalSize { columns, rows } }
        }
        Event::Resize(Size { columns, rows }) => {
            Model::Resize { size: TerminalSize { columns, rows } }
        }
        Event::Env(name) => Model::Env { name },
        Event::Exec(Carried { length, .. }) => {
            Model::Exec { command: take(carried, length)?.into() }
        }
        Event::Shell(()) => Model::Shell,
        Event::Subsystem(name) => Model::Subsystem { name },
        Event::Signal(name) => Model::Signal { name },
        Event::Exit(Exit { code, signal: None, .. }) => Model::Exit(ExitStatus::Code(code)),
        Event::Exit(Exit { signal: Some(name), core_dumped, .. }) => {
            Model::Exit(ExitStatus::Signal { name, core_dumped })
        }
        Event::SessionEnded(ended) => {
            if ended.nanos >= 1_000_000_000 {
                return Err(DecodeError::Damaged(
                    "a duration has more than a second of nanoseconds",
                ));
            }
            Model::SessionEnded {
                reason: ended.reason,
                aborted: ended.aborted,
                output_bytes: ended.output_bytes,
                duration: Duration::new(ended.seconds, ended.nanos),
            }
        }
        Event::Activity(activity) => Model::Activity {
            actor: match activity.user {
                None => Actor::Platform,
                Some(User { id, email }) => Actor::User { id: wire::parse_id(&id)?, email },
            },
            action: activity.action,
            target: Box::new(Target {
                kind: activity.target_kind,
                id: wire::parse_id::<()>(&activity.target)?.uuid(),
                handle: activity.target_handle,
            }),
            detail: activity.detail,
        },
    })
}
