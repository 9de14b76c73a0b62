//! Typed identifiers: an app's id cannot be passed where an environment's is wanted.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        $($(#[$doc])* #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)] pub enum $name {})*
    };
}

kinds! {
    /// Names the kind of an organization's id.
    Organization,
    /// Names the kind of a user's id.
    User,
    /// Names the kind of a registered SSH key's id.
    SshKey,
    /// Names the kind of an API token's id.
    ApiToken,
    /// Names the kind of an environment's id.
    Environment,
    /// Names the kind of an app's id.
    App,
    /// Names the kind of a database's id.
    Database,
    /// Names the kind of a log drain's id.
    Drain,
    /// Names the kind of a log source's id.
    LogSource,
    /// Names the kind of an ephemeral session's id.
    EphemeralSession,
    /// Names the kind of an SSH edge process's id.
    Edge,
    /// Names the kind of a drain worker process's id.
    Worker,
    /// Names the kind of an activity's id.
    Activity,
    /// Names the kind of a record producer's id: a session, or an intake connection.
    Producer,
    /// Names the kind of an appender's id: one life of a process that appends to the stream.
    Appender,
}

/// An id of a `T`: a `UUIDv7`, so ids sort by the time they were made (RFC 9562, section 5.7).
pub struct Id<T>(Uuid, PhantomData<fn() -> T>);

impl<T> Id<T> {
    /// Makes a new id from the current time and randomness.
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::now_v7(), PhantomData)
    }

    /// Types an id that was read from storage.
    #[must_use]
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid, PhantomData)
    }

    /// The id as a plain UUID, for storage and wire formats.
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

impl Id<Drain> {
    /// The mark of what the drain sends, by which it is known where it comes back: the id's last eight digits.
    #[must_use]
    pub fn hop(self) -> String {
        let mut digits = self.0.simple().to_string();
        digits.drain(..24);
        digits
    }
}

impl Id<EphemeralSession> {
    /// A session produces its own records, under its own id.
    #[must_use]
    pub const fn producer(self) -> Id<Producer> {
        Id::from_uuid(self.0)
    }
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Id<T> {}
impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<T> Eq for Id<T> {}
impl<T> PartialOrd for Id<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Id<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}
impl<T> Hash for Id<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}
impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
impl<T> fmt::Display for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
impl<T> From<Uuid> for Id<T> {
    fn from(uuid: Uuid) -> Self {
        Self::from_uuid(uuid)
    }
}
impl<T> FromStr for Id<T> {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self::from_uuid)
    }
}
impl<T> Serialize for Id<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}
impl<'de, T> Deserialize<'de> for Id<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Uuid::deserialize(deserializer).map(Self::from_uuid)
    }
}
