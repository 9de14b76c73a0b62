//! The only door out of this process.
//!
//! A customer chooses where logs go, so a destination is hostile input. The address is vetted after
//! it is resolved, and that address is dialled: a second lookup could answer differently.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use tokio::net::TcpStream;
use tokio::time::timeout;

const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);
/// Short, so that a network that is whole again is soon tried again.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// More addresses than this are not tried: each may take its share of the deadline.
const MOST_ADDRESSES: usize = 4;

/// Where drains may send to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Egress {
    allowed: Vec<IpNet>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum EgressError {
    #[error("the name {host} cannot be resolved: {reason}")]
    Resolve { host: String, reason: String },
    #[error(
        "{host} has the address {address}, which is {why}: drains may send to public addresses \
         only, unless the operator opens a network with --drain-allow-network"
    )]
    Refused { host: String, address: IpAddr, why: &'static str },
    #[error("cannot connect to {attempts}")]
    Connect { attempts: String },
}

impl Egress {
    /// Public addresses, and the networks that the operator opens.
    pub(crate) const fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed }
    }

    /// The addresses of `host`, a name or an address, that may be dialled.
    pub(crate) async fn resolve(
        &self,
        host: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, EgressError> {
        let failed = |reason: String| EgressError::Resolve { host: host.to_owned(), reason };
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let addresses: Vec<SocketAddr> =
            timeout(RESOLVE_DEADLINE, tokio::net::lookup_host((literal.unwrap_or(host), port)))
                .await
                .map_err(|_| failed(format!("no answer within {RESOLVE_DEADLINE:?}")))?
                .map_err(|error| failed(error.to_string()))?
                .collect();
        let mut refused = None;
        let mut vetted = Vec::new();
        for address in addresses {
            match self.vet(address.ip()) {
                Ok(()) => vetted.push(address),
                Err(why) => refused = Some((address.ip(), why)),
            }
        }
        match refused {
            _ if !vetted.is_empty() => Ok(vetted),
            Some((address, why)) => {
                Err(EgressError::Refused { host: host.to_owned(), address, why })
            }
            None => Err(failed("it has no address".to_owned())),
        }
    }

    /// Connects to the first of vetted addresses that answers.
    pub(crate) async fn dial(addresses: &[SocketAddr]) -> Result<TcpStream, EgressError> {
        let tried = addresses.get(..MOST_ADDRESSES).unwrap_or(addresses);
        let share = CONNECT_DEADLINE / u32::try_from(tried.len().max(1)).unwrap_or(1);
        let mut attempts = Vec::new();
        for address in tried {
            #[allow(
                clippy::disallowed_methods,
                reason = "this is the door, and the address is vetted"
            )]
            let error = match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {share:?}"),
            };
            attempts.push(format!("{address}: {error}"));
        }
        Err(EgressError::Connect { attempts: attempts.join(", ") })
    }

    fn vet(&self, address: IpAddr) -> Result<(), &'static str> {
        let embedded = match address {
            IpAddr::V6(v6) => embedded_v4(v6).map(IpAddr::V4),
            IpAddr::V4(_) => None,
        };
        let effective = embedded.unwrap_or(address);
        if self.allowed.iter().any(|net| net.contains(&address) || net.contains(&effective)) {
            return Ok(());
        }
        match effective {
            IpAddr::V4(v4) => refusal_v4(v4),
            IpAddr::V6(v6) => refusal_v6(v6),
        }
        .map_or(Ok(()), Err)
    }
}

/// IANA's special-purpose addresses (RFC 6890 and its registry), and multicast.
fn refusal_v4(address: Ipv4Addr) -> Option<&'static str> {
    Some(match address.octets() {
        [0, ..] => "unspecified",
        [127, ..] => "loopback",
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => "private",
        [169, 254, 169, 254] => "a cloud's metadata service",
        [169, 254, ..] => "link-local",
        [100, 64..=127, ..] => "shared address space (CGNAT)",
        [192, 0, 0, _] | [192, 88, 99, _] => "reserved for protocols",
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => "for documentation",
        [198, 18..=19, ..] => "for benchmarks",
        [224..=239, ..] => "multicast",
        [240..=255, ..] => "reserved",
        _ => return None,
    })
}

fn refusal_v6(address: Ipv6Addr) -> Option<&'static str> {
    Some(match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => "unspecified",
        [0, 0, 0, 0, 0, 0, 0, 1] => "loopback",
        [0xfc00..=0xfdff, ..] => "private (unique local)",
        [0xfe80..=0xfebf, ..] => "link-local",
        [0xff00..=0xffff, ..] => "multicast",
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => "for documentation",
        [0x2001, 0..=0x1ff, ..] => "reserved for protocols",
        [0x2000..=0x3fff, ..] => return None,
        _ => "not a global unicast address",
    })
}

/// The IPv4 address to which packets for this one are translated: mapped and compatible (RFC 4291),
/// NAT64 (RFC 6052), 6to4 (RFC 3056).
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(address: &str) -> bool {
        Egress::default().vet(address.parse().unwrap()).is_err()
    }

    #[test]
    fn only_public_addresses_are_dialled() {
        for address in [
            "127.0.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "169.254.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
            "2001:db8::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001::1",
            "fec0::1",
            "100::1",
        ] {
            assert!(refused(address), "{address}");
        }
        for address in
            ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::101:101"]
        {
            assert!(!refused(address), "{address}");
        }
    }

    #[test]
    fn the_operator_opens_networks() {
        let egress = Egress::new(vec!["10.1.0.0/16".parse().unwrap()]);
        assert!(egress.vet("10.1.2.3".parse().unwrap()).is_ok());
        assert!(egress.vet("::ffff:10.1.2.3".parse().unwrap()).is_ok());
        assert!(egress.vet("10.2.2.3".parse().unwrap()).is_err());
    }

    #[tokio::test]
    async fn a_refusal_says_what_to_do() {
        let error = Egress::default().resolve("127.0.0.1", 443).await.unwrap_err().to_string();
        assert!(error.contains("127.0.0.1") && error.contains("loopback"), "{error}");
        assert!(error.contains("--drain-allow-network"), "{error}");
    }
}
