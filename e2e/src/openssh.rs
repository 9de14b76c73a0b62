//! OpenSSH's client and key generator.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use tokio::process::Command;

use crate::process;

const DEADLINE: Duration = Duration::from_secs(20);

/// A key pair in files, as `ssh-keygen` makes it.
#[derive(Debug, Clone)]
pub struct KeyPair {
    /// The private key's file.
    pub private: PathBuf,
    /// The public key's line.
    pub public: String,
}

impl KeyPair {
    /// Makes a key of this type (`ed25519`, `ecdsa`, `rsa`) in a new file.
    pub async fn generate(file: &Path, key_type: &str) -> Result<Self> {
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-N", "", "-C", "test", "-t", key_type, "-f"]).arg(file);
        process::succeed(command, DEADLINE).await?;
        let public = std::fs::read_to_string(file.with_extension("pub"))?;
        Ok(Self { private: file.to_owned(), public: public.trim().to_owned() })
    }
}

/// How to reach one SSH server on 127.0.0.1. It trusts host certificates of one authority and
/// nothing else, never asks, offers one key, and reads no configuration of machine or user.
#[derive(Debug, Clone)]
pub struct OpenSsh {
    port: u16,
    key: PathBuf,
    known_hosts: PathBuf,
    host: String,
}

impl OpenSsh {
    /// `host_authority` is the public key of the server's host CA, `host_principal` the name in
    /// its host certificate; `folder` gets the file of known hosts.
    pub fn new(
        port: u16,
        key: &Path,
        host_authority: &str,
        host_principal: &str,
        folder: &Path,
    ) -> Result<Self> {
        let known_hosts = folder.join(format!("known_hosts_{port}"));
        let line = format!("@cert-authority {host_principal} {}\n", host_authority.trim());
        std::fs::write(&known_hosts, line)?;
        let host = host_principal.to_owned();
        Ok(Self { port, key: key.to_owned(), known_hosts, host })
    }

    /// `ssh` with further options, to be followed by nothing or by the words of a command. With a
    /// [`crate::terminal::Terminal`] around it, it asks for a pty; `-T` and `-tt` choose.
    #[must_use]
    pub fn ssh(&self, user: &str, options: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command.args(["-F", "none", "-p", &self.port.to_string(), "-i"]).arg(&self.key);
        command.arg("-o").arg(format!("UserKnownHostsFile={}", self.known_hosts.display()));
        // The certificate names the server, not its address.
        command.arg("-o").arg(format!("HostKeyAlias={}", self.host));
        for option in [
            "GlobalKnownHostsFile=/dev/null",
            "StrictHostKeyChecking=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "BatchMode=yes",
            "ConnectTimeout=10",
            "LogLevel=ERROR",
        ] {
            command.args(["-o", option]);
        }
        command.args(options).args(["-l", user, "127.0.0.1"]);
        command
    }
}
