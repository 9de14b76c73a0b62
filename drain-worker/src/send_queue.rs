//! How many sent bytes the peer's TCP has not acknowledged.
//!
//! The system call for it (SIOCOUTQ) has no safe binding; the kernel's socket diagnostics tell the
//! same (`sock_diag(7)`), of this process's own network namespace and without privileges.

use std::net::{IpAddr, SocketAddr};

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const IPPROTO_TCP: u8 = 6;
const HEADER: usize = 16;
/// Of `idiag_wqueue` in the answer: after the header, 4 bytes, the socket's id, two more fields.
const UNSENT_AT: usize = HEADER + 4 + 48 + 8;

/// Unacknowledged bytes of the connection; None if the kernel does not tell.
pub(crate) fn unacknowledged(local: SocketAddr, peer: SocketAddr) -> Option<u32> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(SOCK_DIAG)).ok()?;
    let request = request(local, peer);
    sendto(&socket, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0)).ok()?;
    // The kernel answers within the call above.
    let mut answer = [0_u8; 1024];
    let (length, _) = recv(&socket, &mut answer[..], RecvFlags::DONTWAIT).ok()?;
    let answer = answer.get(..length)?;
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    if kind != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    Some(u32::from_ne_bytes(answer.get(UNSENT_AT..UNSENT_AT + 4)?.try_into().ok()?))
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2` of `linux/inet_diag.h`.
fn request(local: SocketAddr, peer: SocketAddr) -> Vec<u8> {
    let mut request = Vec::with_capacity(HEADER + 56);
    request.extend_from_slice(&72_u32.to_ne_bytes());
    request.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    request.extend_from_slice(&[0; 8]);
    let family = if local.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    request.extend_from_slice(&[family.as_raw().to_le_bytes()[0], IPPROTO_TCP, 0, 0]);
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
        assert_eq!(unacknowledged(local, peer), Some(0));

        sender.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while let Ok(length) = sender.write(&[0; 8192]) {
            sent += length;
        }
        assert!(unacknowledged(local, peer).unwrap() > 0);
        receiver.read_exact(&mut vec![0; sent]).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while unacknowledged(local, peer) != Some(0) {
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        }
    }
}
