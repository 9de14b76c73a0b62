//! A network namespace of the run's own for the receivers, so that packets to them can be dropped.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::process;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::os::fd::AsFd as _;
use tokio::process::Command;

const DEADLINE: Duration = Duration::from_secs(10);

/// Where receivers listen.
#[derive(Debug)]
pub(crate) enum Network {
    /// At the other end of a pair of virtual links; it goes when dropped.
    Namespace { name: String, link: String, address: Ipv4Addr },
    /// On loopback, with the reason.
    Loopback(String),
}

impl Network {
    /// A namespace, or loopback where none can be made.
    pub(crate) async fn create() -> Self {
        match Self::namespace().await {
            Ok(network) => network,
            Err(error) => Self::Loopback(format!("{error:#}")),
        }
    }

    async fn namespace() -> Result<Self> {
        anyhow::ensure!(rustix::process::geteuid().is_root(), "only root makes network namespaces");
        let id = std::process::id();
        let (name, link) = (format!("spillway-chaos-{id}"), format!("chaos{id}"));
        // Of the networks for benchmarks (RFC 2544), which nobody routes: one of four addresses.
        let [high, low] =
            u16::try_from(id % 16384).unwrap_or_default().saturating_mul(4).to_be_bytes();
        let (ours, theirs) = ([198, 18, high, low + 1], [198, 18, high, low + 2]);
        let address = Ipv4Addr::from(theirs);
        // From here on, dropping removes what there is.
        let made = Self::Namespace { name: name.clone(), link: link.clone(), address };
        ip(&format!("netns add {name}")).await?;
        ip(&format!("link add {link} type veth peer name eth0 netns {name}")).await?;
        ip(&format!("addr add {}/30 dev {link}", Ipv4Addr::from(ours))).await?;
        ip(&format!("link set {link} up")).await?;
        ip(&format!("-n {name} addr add {address}/30 dev eth0")).await?;
        ip(&format!("-n {name} link set eth0 up")).await?;
        ip(&format!("-n {name} link set lo up")).await?;
        Ok(made)
    }

    /// The receivers' address.
    pub(crate) const fn address(&self) -> Ipv4Addr {
        match self {
            Self::Namespace { address, .. } => *address,
            Self::Loopback(_) => Ipv4Addr::LOCALHOST,
        }
    }

    /// A listener on a free port.
    pub(crate) fn listen(&self) -> Result<TcpListener> {
        let address = (self.address(), 0);
        let listener = match self {
            Self::Namespace { name, .. } => {
                let namespace = std::fs::File::open(format!("/run/netns/{name}"))?;
                // A thread of its own moves, and takes nothing with it but the socket.
                let made = std::thread::spawn(move || -> Result<TcpListener> {
                    let kind = Some(LinkNameSpaceType::Network);
                    move_into_link_name_space(namespace.as_fd(), kind)?;
                    Ok(TcpListener::bind(address)?)
                });
                made.join().map_err(|_| anyhow::anyhow!("the thread failed"))??
            }
            Self::Loopback(_) => TcpListener::bind(address)?,
        };
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    /// Drops every packet to and from the receivers, or no longer.
    pub(crate) async fn drop_packets(&self, dropping: bool) -> Result<()> {
        let Self::Namespace { name, .. } = self else { return Ok(()) };
        let change = if dropping { "-I" } else { "-D" };
        for chain in ["INPUT", "OUTPUT"] {
            let rule = ["netns", "exec", name, "iptables", "-w", change, chain, "-j", "DROP"];
            let mut command = Command::new("ip");
            command.args(rule).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
            process::succeed(command, DEADLINE).await?;
        }
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Self::Namespace { name, link, .. } = self {
            for arguments in [["link", "del", link], ["netns", "del", name]] {
                let mut command = std::process::Command::new("ip");
                // What was not made yet cannot be removed.
                drop(command.args(arguments).stderr(std::process::Stdio::null()).status());
            }
        }
    }
}

async fn ip(arguments: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(arguments.split(' ')).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    process::succeed(command, DEADLINE).await.with_context(|| format!("ip {arguments}"))?;
    Ok(())
}
