//! The nouns that every part of Spillway shares. No I/O, no async, no knowledge of any service.

mod event;
mod handle;
mod id;
mod record;
mod role;
mod sealing;
mod secret;
mod timestamp;
pub mod validation;

pub use event::{Actor, Event, ExitStatus, OutputStream, SessionStarted, Target, TerminalSize};
pub use handle::{Handle, InvalidHandle};
pub use id::{
    Activity, ApiToken, App, Appender, Database, Drain, Edge, Environment, EphemeralSession, Id,
    Organization, Producer, SshKey, User, Worker,
};
pub use record::{AppTag, DatabaseTag, EnvironmentTag, Origin, Record, SessionTag, Source};
pub use role::{InvalidRole, Role};
pub use sealing::{InvalidKey, OpenError, OpeningKey, SealingKey};
pub use secret::Secret;
pub use timestamp::Timestamp;
