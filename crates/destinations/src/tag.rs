//! What is said of a line besides its text.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is said of a line besides its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tag {
    /// The same each time the line is delivered.
    Id,
    /// When it was recorded, to the nanosecond.
    Time,
    /// `app`, `database`, `ephemeral_session` or `activity`.
    Source,
    /// The environment's handle.
    Environment,
    /// The environment's id.
    EnvironmentId,
    /// The app's handle.
    App,
    /// The app's id.
    AppId,
    /// The database's handle.
    Database,
    /// The database's id.
    DatabaseId,
    /// The ephemeral session's id.
    SessionId,
    /// The id of who is in the session.
    UserId,
    /// The e-mail address of who is in the session.
    UserEmail,
    /// The name of who is in the session.
    UserName,
    /// What happened.
    Event,
    /// Standard output or standard error.
    Stream,
    /// Where the line begins in the stream's bytes.
    Offset,
    /// How many of these bytes it stands for.
    Length,
    /// Its record's number.
    Seq,
    /// When the line was written, by its sender's clock.
    SentAt,
    /// What the sender said with the line, such as a host's name.
    Fields,
    /// Which drain sends it: eight digits, by which a line is known that comes back into its environment.
    Hop,
}

impl Tag {
    /// Its name, in every format.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Time => "time",
            Self::Source => "source",
            Self::Environment => "environment",
            Self::EnvironmentId => "environment_id",
            Self::App => "app",
            Self::AppId => "app_id",
            Self::Database => "database",
            Self::DatabaseId => "database_id",
            Self::SessionId => "session_id",
            Self::UserId => "user_id",
            Self::UserEmail => "user_email",
            Self::UserName => "user_name",
            Self::Event => "event",
            Self::Stream => "stream",
            Self::Offset => "offset",
            Self::Length => "length",
            Self::Seq => "seq",
            Self::SentAt => "sent_at",
            Self::Fields => "fields",
            Self::Hop => "hop",
        }
    }
}

/// Some tags; all, unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TagSet(u32);

impl TagSet {
    /// Those that were chosen, or all where nobody has.
    #[must_use]
    pub fn of(chosen: Option<&BTreeSet<Tag>>) -> Self {
        let bits = |tags: &BTreeSet<Tag>| tags.iter().fold(0, |bits, tag| bits | bit(*tag));
        chosen.map_or_else(Self::default, |tags| Self(bits(tags)))
    }

    /// Whether it is among them.
    #[must_use]
    pub const fn has(self, tag: Tag) -> bool {
        self.0 & bit(tag) != 0
    }
}

impl Default for TagSet {
    fn default() -> Self {
        Self(u32::MAX)
    }
}

const fn bit(tag: Tag) -> u32 {
    1 << tag as u32
}
