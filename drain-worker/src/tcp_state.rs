//! What the kernel knows of a connection's other end: what its TCP has acknowledged, and how much
//! room it says it has.
//!
//! The system calls for it (`SIOCOUTQ`, `TCP_INFO`) have no safe binding; the kernel's socket diagnostics
//! tell the same (`sock_diag(7)`), of this process's own network namespace and without privileges.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const IPPROTO_TCP: u8 = 6;
const INET_DIAG_INFO: u16 = 2;
const ESTABLISHED: u8 = 1;
const HEADER: usize = 16;
/// Of `idiag_state` in the answer.
const STATE_AT: usize = HEADER + 1;
/// Of `idiag_rqueue`.
const UNREAD_AT: usize = HEADER + 4 + 48 + 4;
/// Of `idiag_wqueue` in the answer: after the header, 4 bytes, the socket's id, two more fields.
const UNSENT_AT: usize = HEADER + 4 + 48 + 8;
/// Of the attributes: after `struct inet_diag_msg`.
const ATTRIBUTES_AT: usize = HEADER + 72;
/// Of `tcpi_snd_wnd` in `struct tcp_info`.
const WINDOW_AT: usize = 228;

/// A connection as this side's kernel sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TcpState {
    /// Bytes written that the other end's TCP has not acknowledged.
    pub(crate) unacknowledged: u32,
    /// Bytes after the acknowledged ones for which the other end says it has room; Linux 5.4 and
    /// later.
    pub(crate) window: Option<u32>,
    /// Whether the other end has sent something that was not read here: its end, perhaps. What it
    /// acknowledges after that, its program may never look at.
    pub(crate) has_spoken: bool,
}

/// Asks the kernel about one connection.
#[derive(Debug)]
pub(crate) struct TcpWatch {
    socket: OwnedFd,
    request: Vec<u8>,
}

impl TcpWatch {
    /// Of the connection between these; None if the kernel cannot be asked.
    pub(crate) fn open(local: SocketAddr, peer: SocketAddr) -> Option<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(SOCK_DIAG)).ok()?;
        Some(Self { socket, request: request(local, peer) })
    }

    /// The state of the connection; None if the kernel does not tell.
    pub(crate) fn ask(&self) -> Option<TcpState> {
        let kernel = SocketAddrNetlink::new(0, 0);
        sendto(&self.socket, &self.request, SendFlags::empty(), &kernel).ok()?;
        // The kernel answers within the call above.
        let mut answer = [0_u8; 2048];
        let (length, _) = recv(&self.socket, &mut answer[..], RecvFlags::DONTWAIT).ok()?;
        let answer = answer.get(..length)?;
        if u16_at(answer, 4)? != SOCK_DIAG_BY_FAMILY {
            return None;
        }
        Some(TcpState {
            unacknowledged: u32_at(answer, UNSENT_AT)?,
            window: window(answer),
            has_spoken: answer.get(STATE_AT) != Some(&ESTABLISHED)
                || u32_at(answer, UNREAD_AT)? > 0,
        })
    }
}

fn window(answer: &[u8]) -> Option<u32> {
    let mut rest = answer.get(ATTRIBUTES_AT..)?;
    loop {
        // `struct nlattr`: length with these 4 bytes, kind; each is padded to 4 bytes.
        let length = usize::from(u16_at(rest, 0)?);
        let attribute = rest.get(4..length)?;
        if u16_at(rest, 2)? == INET_DIAG_INFO {
            return u32_at(attribute, WINDOW_AT);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2` of `linux/inet_diag.h`.
fn request(local: SocketAddr, peer: SocketAddr) -> Vec<u8> {
    let mut request = Vec::with_capacity(HEADER + 56);
    request.extend_from_slice(&72_u32.to_ne_bytes());
    request.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    request.extend_from_slice(&[0; 8]);
    let family = if local.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let extensions = 1 << (INET_DIAG_INFO - 1);
    request.extend_from_slice(&[family.as_raw().to_le_bytes()[0], IPPROTO_TCP, extensions, 0]);
    request.extend_from_slice(&u32::MAX.to_ne_bytes());
    request.extend_from_slice(&local.port().to_be_bytes());
    request.extend_from_slice(&peer.port().to_be_bytes());
    for address in [local.ip(), peer.ip()] {
        let mut bytes = [0; 16];
        match address {
            IpAddr::V4(v4) => bytes[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => bytes = v6.octets(),
        }
        request.extend_from_slice(&bytes);
    }
    request.extend_from_slice(&0_u32.to_ne_bytes());
    request.extend_from_slice(&[0xff; 8]);
    request
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn unread_bytes_are_told_until_the_peer_takes_them() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut receiver, _) = listener.accept().unwrap();
        let (local, peer) = (sender.local_addr().unwrap(), sender.peer_addr().unwrap());
        let watch = TcpWatch::open(local, peer).unwrap();
        let open = watch.ask().unwrap();
        assert_eq!(open.unacknowledged, 0);
        assert!((32 * 1024..1 << 20).contains(&open.window.unwrap()), "{open:?}");

        assert!(!open.has_spoken);
        sender.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while let Ok(length) = sender.write(&[0; 8192]) {
            sent += length;
        }
        let full = watch.ask().unwrap();
        assert!(full.unacknowledged > 0, "{full:?}");
        receiver.read_exact(&mut vec![0; sent]).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while watch.ask().unwrap().unacknowledged > 0 {
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        }
        receiver.shutdown(std::net::Shutdown::Write).unwrap();
        while !watch.ask().unwrap().has_spoken {
            assert!(std::time::Instant::now() < deadline);
        }
        // Where it is wrong, it is far from what a kernel begins with.
        assert!((32 * 1024..64 << 20).contains(&watch.ask().unwrap().window.unwrap()));
    }
}
