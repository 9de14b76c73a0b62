//! `platform key`.

use anyhow::{Result, bail};
use clap::Subcommand;
use russh::keys::PublicKey;
use serde_json::{Value, json};

use super::Context;
use crate::printer::Column;
use crate::prompt::file_text;
use crate::select::field;

const COLUMNS: &[Column] = &[
    ("NAME", "/name"),
    ("FINGERPRINT", "/fingerprint"),
    ("CREATED", "/created_at"),
    ("LAST USED", "/last_used_at"),
    ("ID", "/id"),
];

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List your SSH keys.
    List,
    /// Register a public key, to sign in with plain `ssh APP.ENVIRONMENT@EDGE`.
    Add {
        /// The public key's file, such as `~/.ssh/id_ed25519.pub`; - for standard input.
        file: String,
        /// A name to know it by; default: the key's comment.
        #[arg(long)]
        name: Option<String>,
    },
    /// Remove a key.
    Remove {
        /// Its name, fingerprint or id.
        key: String,
    },
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let Context { client, printer } = context;
        match self {
            Self::List => printer.list(&client.list(&["me", "ssh-keys"], &[]).await?, COLUMNS),
            Self::Add { file, name } => {
                let text = file_text(&file)?;
                let (public_key, comment) = public_key(&text, &file)?;
                let name = name.or(comment).unwrap_or_else(|| "key".to_owned());
                let body = json!({ "name": name, "public_key": public_key });
                let answer = client.post(&["me", "ssh-keys"], &body).await?;
                let fingerprint = field(&answer.body, "fingerprint");
                printer.done(&answer.body, &format!("Registered the key {name} ({fingerprint})."))
            }
            Self::Remove { key } => {
                let keys = client.list(&["me", "ssh-keys"], &[]).await?;
                let found = only_match(&keys, &key, "key", &["name", "fingerprint", "id"])?;
                let answer = client.delete(&["me", "ssh-keys", field(found, "id")]).await?;
                printer.done(&answer.body, &format!("Removed the key {key}."))
            }
        }
    }
}

/// The key's line, and its comment. A private key, given by mistake, is not sent anywhere.
fn public_key(text: &str, file: &str) -> Result<(String, Option<String>)> {
    if text.contains("PRIVATE KEY") {
        bail!("{file} holds a private key, which must stay where it is; give its .pub file");
    }
    let Ok(key) = PublicKey::from_openssh(text.trim()) else {
        bail!("{file} holds no OpenSSH public key (a line such as: ssh-ed25519 AAAA... comment)");
    };
    let comment = key.comment().to_string();
    Ok((key.to_openssh()?, (!comment.is_empty()).then_some(comment)))
}

/// The one item of which one of `fields` is `wanted`.
pub(crate) fn only_match<'a>(
    items: &'a [Value],
    wanted: &str,
    noun: &str,
    fields: &[&str],
) -> Result<&'a Value> {
    let matches = |item: &&Value| fields.iter().any(|name| field(item, name) == wanted);
    let mut found = items.iter().filter(matches);
    match (found.next(), found.next()) {
        (Some(item), None) => Ok(item),
        (None, _) => bail!("you have no {noun} {wanted}"),
        (Some(_), Some(_)) => bail!("several of your {noun}s are named {wanted}; give the id"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_key_given_by_mistake_is_not_sent() {
        let text = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----\n";
        let error = public_key(text, "id_ed25519").unwrap_err().to_string();
        assert!(error.contains("private key"), "{error}");
    }

    #[test]
    fn comment_of_a_key_is_its_name() {
        let line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqt ada@home\n";
        assert_eq!(public_key(line, "f").unwrap().1.as_deref(), Some("ada@home"));
        assert!(public_key("nonsense", "f").is_err());
    }
}
