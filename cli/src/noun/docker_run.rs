//! The command line that runs a container whose log the intake of its Docker daemon follows.

use anyhow::Result;
use serde_json::{Value, json};

use super::Context;
use crate::printer::Printer;
use crate::select::{EnvironmentChoice, field};

/// `docker run` with the labels of an app or a database.
#[derive(Debug)]
pub(super) struct DockerRun {
    labels: [String; 3],
}

impl DockerRun {
    /// For an `app` or a `database` of an environment.
    pub(super) async fn new(
        environment: &EnvironmentChoice,
        context: &Context,
        kind: &str,
        handle: &str,
    ) -> Result<Self> {
        let environment = environment.find(&context.client).await?;
        let id = field(&environment, "organization_id");
        let me = context.client.get(&["me"]).await?.body;
        let memberships = me.get("memberships").and_then(Value::as_array);
        let of_it = |membership: &&Value| field(membership, "organization_id") == id;
        let organization = memberships.and_then(|all| all.iter().find(of_it));
        let organization = organization.map_or(id, |membership| field(membership, "handle"));
        Ok(Self {
            labels: [
                format!("spillway.organization={organization}"),
                format!("spillway.environment={}", field(&environment, "handle")),
                format!("spillway.{kind}={handle}"),
            ],
        })
    }

    /// Prints it with an image and a command: a line for a shell, or an array for programs.
    pub(super) fn print(self, printer: Printer, program: Vec<String>) -> Result<()> {
        let mut line: Vec<String> = ["docker", "run", "-d"].map(str::to_owned).into();
        line.extend(self.labels.into_iter().flat_map(|label| ["--label".to_owned(), label]));
        line.extend(program);
        if printer.is_json() {
            return printer.item(&json!(line));
        }
        let words: Vec<String> = line.iter().map(|word| quoted(word)).collect();
        printer.line(&words.join(" "))
    }
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:=@,+%".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_reads_words_as_they_are() {
        for (word, expected) in [
            ("ghcr.io/acme/web:1.2", "ghcr.io/acme/web:1.2"),
            ("", "''"),
            ("echo $HOME; it's", r"'echo $HOME; it'\''s'"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }
}
