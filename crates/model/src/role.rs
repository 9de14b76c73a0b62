//! Roles of a member in an organization.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a member may do in an organization; the api's `authz` has the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, and the organization itself.
    Owner,
    /// Everything but the organization itself.
    Admin,
    /// Opens sessions, sees apps, databases and drains; does not read others' sessions.
    Engineer,
    /// Reads sessions and their contents; changes nothing, opens no session.
    Auditor,
    /// Sees what exists; changes nothing, opens no session.
    Viewer,
}

/// The text names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a role is one of owner, admin, engineer, auditor, viewer")]
pub struct InvalidRole;

impl Role {
    /// Every role, strongest first.
    pub const ALL: [Self; 5] =
        [Self::Owner, Self::Admin, Self::Engineer, Self::Auditor, Self::Viewer];

    /// The role's name, as in tables, JSON and flags.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Engineer => "engineer",
            Self::Auditor => "auditor",
            Self::Viewer => "viewer",
        }
    }

    /// Whether this role may open an ephemeral session.
    #[must_use]
    pub const fn opens_sessions(self) -> bool {
        matches!(self, Self::Owner | Self::Admin | Self::Engineer)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = InvalidRole;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(InvalidRole)
    }
}

impl TryFrom<String> for Role {
    type Error = InvalidRole;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}
