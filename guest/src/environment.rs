//! The program's environment: the image's variables, then the edge's, then what a login sets.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// What Docker gives to images that say nothing.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image's /etc/passwd may be anything; this much of it is read.
const MAX_ACCOUNTS: u64 = 1 << 20;

/// A variable that no program could be given.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the variable {0:?} cannot be set: a name has no '=' and neither name nor value a NUL byte"
)]
pub(crate) struct InvalidVariable(String);

/// Names to values.
pub(crate) type Variables = BTreeMap<OsString, OsString>;

/// A user as /etc/passwd describes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Account {
    name: Option<OsString>,
    home: Option<OsString>,
    shell: Option<OsString>,
}

impl Account {
    /// The account of the user that this process runs as; an image need not have one.
    pub(crate) fn current() -> Self {
        let mut accounts = Vec::new();
        if let Ok(file) = File::open("/etc/passwd")
            && file.take(MAX_ACCOUNTS).read_to_end(&mut accounts).is_err()
        {
            return Self::default();
        }
        Self::find(&accounts, rustix::process::getuid().as_raw()).unwrap_or_default()
    }

    /// The first with this user id: `name:password:uid:gid:comment:home:shell` (passwd(5)).
    fn find(accounts: &[u8], uid: u32) -> Option<Self> {
        let uid = uid.to_string();
        accounts.split(|byte| *byte == b'\n').find_map(|line| {
            let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
            match fields.as_slice() {
                [name, _, id, _, _, home, shell] if *id == uid.as_bytes() => Some(Self {
                    name: value(name),
                    home: value(home),
                    shell: value(shell).filter(|shell| !refuses_logins(shell)),
                }),
                _ => None,
            }
        })
    }
}

fn value(field: &[u8]) -> Option<OsString> {
    (!field.is_empty()).then(|| OsStr::from_bytes(field).to_owned())
}

/// Images give such shells to the users of their services. Who may open a session is decided
/// elsewhere, so here they would only be a shell that does not work.
fn refuses_logins(shell: &OsStr) -> bool {
    let name = Path::new(shell).file_name();
    name == Some(OsStr::new("nologin")) || name == Some(OsStr::new("false"))
}

/// Puts the environment together: `given` by the edge replaces `image`, a login's own variables
/// fill what is missing, and a terminal's name replaces all others.
pub(crate) fn build(
    image: Vec<(OsString, OsString)>,
    given: Vec<(String, Vec<u8>)>,
    account: &Account,
    term: Option<&str>,
) -> Result<Variables, InvalidVariable> {
    let mut variables: Variables = image.into_iter().collect();
    for (name, value) in given {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains(&0) {
            return Err(InvalidVariable(name));
        }
        variables.insert(name.into(), OsString::from_vec(value));
    }
    if let Some(term) = term.filter(|term| !term.is_empty() && !term.contains('\0')) {
        variables.insert("TERM".into(), term.into());
    }
    for (name, default) in [
        ("PATH", Some(PATH.into())),
        ("HOME", Some(account.home.clone().unwrap_or_else(|| "/".into()))),
        ("SHELL", Some(account.shell.clone().unwrap_or_else(|| "/bin/sh".into()))),
        ("USER", account.name.clone()),
        ("LOGNAME", account.name.clone()),
    ] {
        if let Some(default) = default {
            variables.entry(name.into()).or_insert(default);
        }
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNTS: &[u8] = b"root:x:0:0:root:/root:/bin/ash\nbroken:x\n\
        www:x:33:33::/var/www:/usr/sbin/nologin\nbare:x:34:34:::\n";

    fn get(variables: &Variables, name: &str) -> Option<String> {
        variables.get(OsStr::new(name)).map(|value| value.to_string_lossy().into_owned())
    }

    #[test]
    fn login_variables_fill_what_is_missing() {
        let account = Account::find(ACCOUNTS, 0).unwrap();
        let image = vec![("HOME".into(), "/app".into()), ("A".into(), "image".into())];
        let given = vec![("A".to_owned(), b"edge".to_vec())];
        let variables = build(image, given, &account, Some("vt100")).unwrap();
        for (name, value) in [
            ("A", "edge"),
            ("HOME", "/app"),
            ("SHELL", "/bin/ash"),
            ("USER", "root"),
            ("LOGNAME", "root"),
            ("TERM", "vt100"),
            ("PATH", PATH),
        ] {
            assert_eq!(get(&variables, name).as_deref(), Some(value), "{name}");
        }
    }

    #[test]
    fn user_without_an_account_gets_a_home_and_a_shell() {
        assert_eq!(Account::find(ACCOUNTS, 7), None);
        let variables = build(Vec::new(), Vec::new(), &Account::default(), None).unwrap();
        assert_eq!(get(&variables, "HOME").as_deref(), Some("/"));
        assert_eq!(get(&variables, "SHELL").as_deref(), Some("/bin/sh"));
        assert_eq!(get(&variables, "USER"), None);
        assert_eq!(get(&variables, "TERM"), None);
    }

    #[test]
    fn shell_that_refuses_logins_is_not_used() {
        assert_eq!(Account::find(ACCOUNTS, 33).unwrap().shell, None);
        assert_eq!(Account::find(ACCOUNTS, 34).unwrap().home, None);
    }

    #[test]
    fn variables_that_cannot_be_set_are_refused() {
        for (name, value) in [("", "a"), ("a=b", "c"), ("a\0", "c"), ("a", "b\0c")] {
            let given = vec![(name.to_owned(), value.as_bytes().to_vec())];
            build(Vec::new(), given, &Account::default(), None).unwrap_err();
        }
    }
}
