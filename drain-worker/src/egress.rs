//! The only door out of this process.
//!
//! A customer chooses where logs go, so a destination is hostile input. The address is vetted after
//! it is resolved, and that address is dialled: a second lookup could answer differently.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, Shared};
use futures_util::{FutureExt as _, TryFutureExt as _};
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
    lookups: Lookups,
}

/// Lookups of names that go on. One of a name keeps a thread until the name server has answered, who may
/// take minutes; of the same name there is no second one beside it.
#[derive(Clone, Default)]
struct Lookups(Arc<Mutex<HashMap<(String, u16), Lookup>>>);

type Lookup = Shared<BoxFuture<'static, Result<Vec<SocketAddr>, String>>>;

impl Lookups {
    async fn look_up(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let name = (host.to_owned(), port);
        // Those that have ended, and that nobody has waited for until then, are of another time.
        self.going_on().retain(|_, lookup| lookup.clone().now_or_never().is_none());
        let lookup =
            self.going_on().entry(name.clone()).or_insert_with(|| new_lookup(&name)).clone();
        // Losing this leaves it to whoever asks next.
        let found = lookup.clone().await;
        let mut going_on = self.going_on();
        if going_on.get(&name).is_some_and(|one| one.ptr_eq(&lookup)) {
            going_on.remove(&name);
        }
        found
    }

    fn going_on(&self) -> MutexGuard<'_, HashMap<(String, u16), Lookup>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn new_lookup(name: &(String, u16)) -> Lookup {
    let (host, port) = name.clone();
    let found = async move { tokio::net::lookup_host((host, port)).await.map(Iterator::collect) };
    found.map_err(|error| error.to_string()).boxed().shared()
}

impl std::fmt::Debug for Lookups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} lookups", self.going_on().len())
    }
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
    pub(crate) fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed, lookups: Lookups::default() }
    }

    /// The addresses of `host`, a name or an address, that may be dialled.
    pub(crate) async fn resolve(
        &self,
        host: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, EgressError> {
        let failed = |reason: String| EgressError::Resolve { host: host.to_owned(), reason };
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let lookup = self.lookups.look_up(literal.unwrap_or(host), port);
        let addresses = timeout(RESOLVE_DEADLINE, lookup)
            .await
            .map_err(|_| failed(format!("no answer within {RESOLVE_DEADLINE:?}")))?
            .map_err(failed)?;
        self.vet_all(host, addresses)
    }

    /// Those of a name's addresses that may be dialled.
    fn vet_all(
        &self,
        host: &str,
        addresses: Vec<SocketAddr>,
    ) -> Result<Vec<SocketAddr>, EgressError> {
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
            None => {
                let reason = "it has no address".to_owned();
                Err(EgressError::Resolve { host: host.to_owned(), reason })
            }
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
        // Those of most clouds, and Azure's WireServer (learn.microsoft.com, "What is IP address 168.63.129.16?").
        [169, 254, 169, 254] | [168, 63, 129, 16] => "a cloud's metadata service",
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
            "168.63.129.16",
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
    async fn other_spellings_and_names_of_an_address_are_refused_as_it_is() {
        for host in [
            "localhost",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "0x7f.1",
            "0",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "2852039166",
            "10.1",
        ] {
            let resolved = Egress::default().resolve(host, 443).await;
            assert!(matches!(resolved, Err(EgressError::Refused { .. })), "{host}: {resolved:?}");
        }
    }

    #[test]
    fn of_a_name_s_addresses_only_those_that_are_public_are_dialled() {
        let address = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let public = address("1.1.1.1:443");
        let mixed = vec![address("127.0.0.1:443"), public, address("[fd00::1]:443")];
        let egress = Egress::default();
        assert_eq!(egress.vet_all("rebound.example.com", mixed.clone()).unwrap(), [public]);
        let private = mixed.into_iter().filter(|one| *one != public).collect();
        let error = egress.vet_all("rebound.example.com", private).unwrap_err();
        assert!(matches!(error, EgressError::Refused { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_name_that_is_being_looked_up_is_not_looked_up_beside() {
        let lookups = Lookups::default();
        let name = ("a.example.com".to_owned(), 443);
        let (answer, answered) = tokio::sync::oneshot::channel();
        let slow = answered.map_err(|_| String::new()).boxed().shared();
        lookups.going_on().insert(name.clone(), slow);
        let waits = async || lookups.look_up("a.example.com", 443).await;
        assert!(timeout(Duration::from_millis(20), waits()).await.is_err());
        assert_eq!(lookups.going_on().len(), 1);
        let found = vec![SocketAddr::from(([1, 1, 1, 1], 443))];
        let (waited, sent) = tokio::join!(waits(), async { answer.send(found.clone()) });
        assert_eq!((waited, sent), (Ok(found), Ok(())));
        assert!(lookups.going_on().is_empty());
    }

    #[tokio::test]
    async fn a_refusal_says_what_to_do() {
        let error = Egress::default().resolve("127.0.0.1", 443).await.unwrap_err().to_string();
        assert!(error.contains("127.0.0.1") && error.contains("loopback"), "{error}");
        assert!(error.contains("--drain-allow-network"), "{error}");
    }
}
