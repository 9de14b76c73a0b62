//! Who may do what: one table.
//!
//! Invariant: a [`Permit`] is made here only, after a look at the table. A use case asks for the
//! permit of its own operation, so it cannot be reached without that look.

use std::marker::PhantomData;

use model::{Id, Role, User};

/// The role does not allow the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the role {role} may not {operation}")]
pub(crate) struct Forbidden {
    role: Role,
    operation: &'static str,
}

/// Something that a member of an organization may want to do there.
pub(crate) trait Operation {
    /// What it is, after "may not".
    const WORDS: &'static str;
    /// Who may.
    const ROLES: &'static [Role];
}

macro_rules! operations {
    ($($name:ident: $words:literal, $($role:ident)+;)+) => {
        $(
            #[doc = concat!("May ", $words, ".")]
            #[derive(Debug)]
            pub(crate) enum $name {}
            impl Operation for $name {
                const WORDS: &'static str = $words;
                const ROLES: &'static [Role] = &[$(Role::$role),+];
            }
        )+
        #[cfg(test)]
        const TABLE: &[(&str, &[Role])] = &[$((stringify!($name), $name::ROLES)),+];
    };
}

operations! {
    ReadEnvironments:   "see environments",                   Owner Admin Engineer Auditor Viewer;
    ChangeEnvironments: "create, change or delete environments", Owner Admin;
    ReadApps:           "see apps",                           Owner Admin Engineer Auditor Viewer;
    ChangeApps:         "create, change or delete apps",      Owner Admin;
    ReadConfiguration:  "see the names of an app's variables", Owner Admin Engineer;
    ReadDatabases:      "see databases",                      Owner Admin Engineer Auditor Viewer;
    ChangeDatabases:    "create, change or delete databases", Owner Admin;
    ReadDrains:         "see log drains",                     Owner Admin Engineer Auditor Viewer;
    ChangeDrains:       "create, change, test or delete log drains", Owner Admin;
    ReadRejectedLines:  "see lines that endpoints refused",   Owner Admin Auditor;
    ReadLogSources:     "see log sources",                    Owner Admin Engineer Auditor Viewer;
    ChangeLogSources:   "create, change, rotate or delete log sources", Owner Admin;
    ReadLogs:           "see logs",                           Owner Admin Engineer Auditor;
    ReadSessionLogs:    "see what ephemeral sessions showed", Owner Admin Auditor;
    ReadActivity:       "see what was done",                  Owner Admin Engineer Auditor Viewer;
    OpenSessions:       "open ephemeral sessions",            Owner Admin Engineer;
    ReadOwnSessions:    "see ephemeral sessions",             Owner Admin Engineer Auditor;
    ReadAllSessions:    "see the ephemeral sessions of others", Owner Admin Auditor;
}

/// The proof that a user may do `O` to a thing, and the thing.
#[derive(Debug)]
pub(crate) struct Permit<O, T> {
    thing: T,
    user: Id<User>,
    role: Role,
    operation: PhantomData<O>,
}

impl<O: Operation, T> Permit<O, T> {
    /// Looks into the table.
    pub(crate) fn decide(user: Id<User>, role: Role, thing: T) -> Result<Self, Forbidden> {
        if O::ROLES.contains(&role) {
            Ok(Self { thing, user, role, operation: PhantomData })
        } else {
            Err(Forbidden { role, operation: O::WORDS })
        }
    }

    /// The thing.
    pub(crate) const fn thing(&self) -> &T {
        &self.thing
    }

    /// The thing, for keeps.
    pub(crate) fn into_thing(self) -> T {
        self.thing
    }

    /// Who may.
    pub(crate) const fn user(&self) -> Id<User> {
        self.user
    }

    /// Whether the same user may do something else to the same thing.
    pub(crate) fn also<P: Operation>(&self) -> bool {
        self.demand::<P>().is_ok()
    }

    /// The same, where it cannot be done without.
    pub(crate) fn demand<P: Operation>(&self) -> Result<(), Forbidden> {
        Permit::<P, _>::decide(self.user, self.role, ()).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(role: Role) -> Vec<&'static str> {
        TABLE.iter().filter(|(_, roles)| roles.contains(&role)).map(|(name, _)| *name).collect()
    }

    #[test]
    fn owner_and_admin_may_do_everything() {
        for role in [Role::Owner, Role::Admin] {
            assert_eq!(allowed(role).len(), TABLE.len());
        }
    }

    #[test]
    fn only_owner_and_admin_may_change_anything() {
        for role in [Role::Engineer, Role::Auditor, Role::Viewer] {
            assert!(allowed(role).iter().all(|name| !name.starts_with("Change")), "{role}");
        }
    }

    #[test]
    fn those_who_open_sessions_are_those_whom_the_edge_lets_in() {
        for role in Role::ALL {
            assert_eq!(OpenSessions::ROLES.contains(&role), role.opens_sessions(), "{role}");
        }
    }

    #[test]
    fn viewer_sees_no_session_and_engineer_only_own_ones() {
        assert!(!allowed(Role::Viewer).iter().any(|name| name.contains("Session")));
        assert!(allowed(Role::Engineer).contains(&"ReadOwnSessions"));
        assert!(!allowed(Role::Engineer).contains(&"ReadAllSessions"));
        assert!(!allowed(Role::Engineer).contains(&"ReadSessionLogs"));
        assert!(!allowed(Role::Viewer).contains(&"ReadLogs"));
    }

    #[test]
    fn a_permit_is_refused_with_the_role_and_the_operation() {
        let refused = Permit::<ChangeApps, _>::decide(Id::generate(), Role::Viewer, ());
        let words = refused.err().map(|refused| refused.to_string());
        assert_eq!(words.as_deref(), Some("the role viewer may not create, change or delete apps"));
    }
}
