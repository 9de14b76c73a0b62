//! Who may have how many connections.
//!
//! A connection costs whoever makes it nothing, and it may be idle for days. So one address has a part of them at
//! most; and who has not said in time who he is, stays only while there are enough.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many there may be, and are. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    most: u32,
    most_of_address: u32,
    known_within: Duration,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    all: u32,
    by_address: HashMap<IpAddr, u32>,
}

/// That of a connection; given back with it.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Slots,
    address: IpAddr,
    known_by: Instant,
}

/// There is no slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    /// For anybody.
    #[error("there are as many as --intake-syslog-connections allows")]
    All,
    /// For this address.
    #[error("its address has as many as --intake-syslog-connections-of-address allows")]
    Address,
}

impl Slots {
    /// So many, and of one address; those who are not known within a time stay only while there are enough.
    pub(crate) fn new(most: u32, most_of_address: Option<u32>, known_within: Duration) -> Self {
        let most_of_address = most_of_address.unwrap_or(most.div_ceil(2));
        Self { most, most_of_address, known_within, taken: Arc::default() }
    }

    /// One for a connection from there.
    pub(crate) fn take(&self, from: IpAddr) -> Result<Slot, Full> {
        let address = network(from);
        let mut taken = self.lock();
        if taken.all >= self.most {
            return Err(Full::All);
        }
        let of_address = taken.by_address.entry(address).or_default();
        if *of_address >= self.most_of_address {
            return Err(Full::Address);
        }
        *of_address += 1;
        taken.all += 1;
        drop(taken);
        Ok(Slot { slots: self.clone(), address, known_by: Instant::now() + self.known_within })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Until when its connection has to say who it is, in case that slots are short then.
    pub(crate) const fn known_by(&self) -> Instant {
        self.known_by
    }

    /// Whether more than half of all are taken.
    pub(crate) fn are_short(&self) -> bool {
        self.slots.lock().all > self.slots.most / 2
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.lock();
        taken.all -= 1;
        if let Some(of_address) = taken.by_address.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

/// What counts as one address: of IPv6 a network of 64 bits, of which everybody has at least one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(slots: &Slots, address: &str) -> Result<Slot, Full> {
        slots.take(address.parse().unwrap())
    }

    #[test]
    fn one_address_has_half_of_all_and_leaves_the_rest_to_others() {
        let slots = Slots::new(4, None, Duration::ZERO);
        let first = take(&slots, "192.0.2.1").unwrap();
        let _second = take(&slots, "::ffff:192.0.2.1").unwrap();
        assert_eq!(take(&slots, "192.0.2.1").unwrap_err(), Full::Address);
        assert!(!first.are_short());
        let third = take(&slots, "2001:db8::1").unwrap();
        assert!(first.are_short());
        let _fourth = take(&slots, "2001:db8::2:1").unwrap();
        assert_eq!(take(&slots, "192.0.2.9").unwrap_err(), Full::All);
        drop(third);
        assert!(take(&slots, "192.0.2.1").is_err());
        assert!(take(&slots, "2001:db8::3").is_ok());
        drop(first);
        assert!(take(&slots, "192.0.2.1").is_ok());
        assert_eq!(slots.lock().all, 2);
        assert_eq!(slots.lock().by_address.len(), 2);
    }

    #[test]
    fn one_address_may_have_all_where_that_is_allowed() {
        let slots = Slots::new(2, Some(2), Duration::ZERO);
        let _both = [take(&slots, "::1").unwrap(), take(&slots, "::1").unwrap()];
        assert_eq!(take(&slots, "::1").unwrap_err(), Full::All);
    }
}
