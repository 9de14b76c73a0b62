//! A network of its own, in which packets can be dropped without a word. Needs root.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::process::finish;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::process::Command;

/// A network namespace with one address, which this machine reaches. It goes when dropped.
pub(crate) struct FarNetwork {
    name: String,
    address: Ipv4Addr,
}

impl FarNetwork {
    pub(crate) async fn new() -> Result<Self> {
        let id = std::process::id();
        let name = format!("spillway-{id}");
        let [_, _, high, low] = id.to_be_bytes();
        // Four addresses for each process.
        let base = u32::from(Ipv4Addr::new(10, 0xc0 | high >> 6, high << 2 | low >> 6, low << 2));
        let [near, far] = [1, 2].map(|host| Ipv4Addr::from(base + host));
        let network = Self { name, address: far };
        let (name, link) = (&network.name, format!("sw{id}"));
        run(&["ip", "netns", "add", name]).await?;
        run(&["ip", "link", "add", &link, "type", "veth", "peer", "far", "netns", name]).await?;
        run(&["ip", "address", "add", &format!("{near}/30"), "dev", &link]).await?;
        run(&["ip", "link", "set", &link, "up"]).await?;
        run(&["ip", "-n", name, "address", "add", &format!("{far}/30"), "dev", "far"]).await?;
        run(&["ip", "-n", name, "link", "set", "far", "up"]).await?;
        Ok(network)
    }

    pub(crate) const fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// A socket that listens there, on a free port.
    pub(crate) fn listen(&self) -> Result<tokio::net::TcpListener> {
        let namespace = File::open(format!("/run/netns/{}", self.name))?;
        let address = self.address;
        // The namespace is the thread's; a socket stays in that in which it was made.
        let listener = std::thread::spawn(move || -> Result<TcpListener> {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(TcpListener::bind((address, 0))?)
        });
        let listener = listener.join().ok().context("the thread panicked")??;
        listener.set_nonblocking(true)?;
        Ok(tokio::net::TcpListener::from_std(listener)?)
    }

    /// Drops what comes from a port of this machine from now on.
    pub(crate) async fn drop_from(&self, port: u16) -> Result<()> {
        let port = port.to_string();
        let rule = ["-A", "INPUT", "-p", "tcp", "--sport", &port, "-j", "DROP"];
        run(&[&["ip", "netns", "exec", &self.name, "iptables"], rule.as_slice()].concat()).await
    }
}

impl Drop for FarNetwork {
    fn drop(&mut self) {
        // The link goes with it.
        drop(std::process::Command::new("ip").args(["netns", "delete", &self.name]).status());
    }
}

async fn run(words: &[&str]) -> Result<()> {
    let (program, arguments) = words.split_first().context("a command has a name")?;
    let mut command = Command::new(program);
    command.args(arguments).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let done = finish(command, Duration::from_secs(10)).await?;
    ensure!(done.status.success(), "{words:?}: {}", done.error_text());
    Ok(())
}
