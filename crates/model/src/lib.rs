//! The nouns that every part of Spillway shares. No I/O, no async, no knowledge of any service.

mod event;
mod handle;
mod id;
mod log_line;
mod record;
mod role;
mod sealing;
mod secret;
mod severity;
mod timestamp;
pub mod validation;
mod words;

pub use event::{
    Actor, ContainerAction, ContainerEvent, Event, ExitStatus, OutputStream, SessionStarted,
    Target, TerminalSize,
};
pub use handle::{Handle, InvalidHandle};
pub use id::{
    Activity, ApiToken, App, Appender, Database, Drain, Edge, Environment, EphemeralSession, Id,
    LogSource, Organization, Producer, SshKey, User, Worker,
};
pub use log_line::{Fields, FieldsPacker, InvalidFields, LogLine};
pub use record::{AppTag, DatabaseTag, EnvironmentTag, Origin, Record, SessionTag, Source};
pub use role::{InvalidRole, Role};
pub use sealing::{InvalidKey, OpenError, OpeningKey, SealingKey};
pub use secret::Secret;
pub use severity::Severity;
pub use timestamp::Timestamp;
