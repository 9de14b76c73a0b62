//! Addresses whose connections keep failing to sign in.
//!
//! A connection fails once, however many keys it offers, so an agent with many keys is no attack.
//! The table is bounded; when it is full, the least guilty give way.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const FORGIVEN_EVERY: Duration = Duration::from_secs(6);
const MAX_ADDRESSES: usize = 10_000;

/// Counts failures by address.
#[derive(Debug)]
pub(crate) struct Lockout {
    max_failures: f64,
    failures: Mutex<HashMap<IpAddr, Failures>>,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: f64,
    at: Instant,
}

impl Failures {
    fn now(self, now: Instant) -> f64 {
        let forgiven = now.duration_since(self.at).as_secs_f64() / FORGIVEN_EVERY.as_secs_f64();
        (self.count - forgiven).max(0.0)
    }
}

impl Lockout {
    pub(crate) fn new(max_failures: u32) -> Self {
        Self { max_failures: max_failures.into(), failures: Mutex::default() }
    }

    pub(crate) fn is_locked(&self, address: IpAddr, now: Instant) -> bool {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.get(&network(address)).is_some_and(|f| f.now(now) > self.max_failures - 1.0)
    }

    pub(crate) fn failed(&self, address: IpAddr, now: Instant) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let address = network(address);
        if failures.len() >= MAX_ADDRESSES && !failures.contains_key(&address) {
            failures.retain(|_, f| f.now(now) > 0.0);
            let least = failures.iter().min_by(|a, b| a.1.now(now).total_cmp(&b.1.now(now)));
            if let Some(least) = least.map(|(address, _)| *address)
                && failures.len() >= MAX_ADDRESSES
            {
                failures.remove(&least);
            }
        }
        let entry = failures.entry(address).or_insert(Failures { count: 0.0, at: now });
        *entry = Failures { count: entry.now(now) + 1.0, at: now };
    }
}

/// One customer's IPv6 addresses are a network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_failures_lock_one_address_for_a_while() {
        let (lockout, start) = (Lockout::new(3), Instant::now());
        let guilty: IpAddr = [192, 0, 2, 1].into();
        for _ in 0..3 {
            assert!(!lockout.is_locked(guilty, start));
            lockout.failed(guilty, start);
        }
        assert!(lockout.is_locked(guilty, start));
        assert!(!lockout.is_locked([192, 0, 2, 2].into(), start));
        assert!(!lockout.is_locked(guilty, start + FORGIVEN_EVERY));
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one() {
        let (lockout, start) = (Lockout::new(1), Instant::now());
        lockout.failed("2001:db8::1".parse().expect("an address"), start);
        assert!(lockout.is_locked("2001:db8::2".parse().expect("an address"), start));
        assert!(!lockout.is_locked("2001:db8:0:1::1".parse().expect("an address"), start));
    }

    #[test]
    fn table_is_bounded() {
        let (lockout, start) = (Lockout::new(1), Instant::now());
        for number in 0..MAX_ADDRESSES + 100 {
            let bits = u32::try_from(number).expect("small");
            lockout.failed(IpAddr::V4(bits.into()), start);
        }
        assert_eq!(lockout.failures.lock().expect("not poisoned").len(), MAX_ADDRESSES);
    }
}
