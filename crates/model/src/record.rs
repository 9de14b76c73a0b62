//! A record: one thing that happened, and where it came from.

use std::fmt;
use std::sync::Arc;

use crate::{
    App, Database, Environment, EphemeralSession, Event, Handle, Id, Organization, Producer,
    Timestamp, User,
};

/// What kind of thing a record came from; a drain chooses among these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// An app's own output.
    App,
    /// A database's own output.
    Database,
    /// An engineer's ephemeral session.
    EphemeralSession,
    /// A change of settings, or another act of a user or of the platform.
    Activity,
}

impl Source {
    /// Every source.
    pub const ALL: [Self; 4] = [Self::App, Self::Database, Self::EphemeralSession, Self::Activity];

    /// The source's name, as delivered to endpoints.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Database => "database",
            Self::EphemeralSession => "ephemeral_session",
            Self::Activity => "activity",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The environment that a record belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EnvironmentTag {
    /// Its id.
    pub id: Id<Environment>,
    /// Its handle when the record was made.
    pub handle: Handle,
    /// The organization that owns it.
    pub organization: Id<Organization>,
}

/// The app that a record is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AppTag {
    /// Its id.
    pub id: Id<App>,
    /// Its handle when the record was made.
    pub handle: Handle,
}

/// The database that a record is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DatabaseTag {
    /// Its id.
    pub id: Id<Database>,
    /// Its handle when the record was made.
    pub handle: Handle,
}

/// The session, and the engineer in it, that a record is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionTag {
    /// The session's id.
    pub id: Id<EphemeralSession>,
    /// The engineer's id.
    pub user: Id<User>,
    /// The engineer's e-mail address when the session began.
    pub user_email: String,
    /// The engineer's name when the session began.
    pub user_name: String,
}

/// Where records come from: the metadata that all records of one producer share. A block writes
/// each once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Who numbers these records.
    pub producer: Id<Producer>,
    /// What kind of thing they came from.
    pub source: Source,
    /// The environment they belong to.
    pub environment: EnvironmentTag,
    /// The app they are about, if any.
    pub app: Option<AppTag>,
    /// The database they are about, if any.
    pub database: Option<DatabaseTag>,
    /// The session they are about, if any.
    pub session: Option<SessionTag>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it came from.
    pub origin: Arc<Origin>,
    /// Its number among its producer's records: from 0, without gaps.
    pub seq: u64,
    /// When it happened; never running backwards within a producer.
    pub at: Timestamp,
    /// What happened.
    pub event: Event,
}
