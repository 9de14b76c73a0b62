//! How often sign-in may be tried.
//!
//! Invariant: memory is bounded whatever callers make up. Keys are hashed with a secret of this
//! process into a fixed number of slots; two keys may share a slot, and nobody can aim for that.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};

use crate::app::AppError;

/// The limits of one process.
pub(crate) struct RateLimits {
    by_email: Limit,
    by_address: Limit,
}

struct Limit {
    slots: DefaultKeyedRateLimiter<u16>,
    hasher: RandomState,
}

impl RateLimits {
    /// Allows so many tries per minute.
    pub(crate) fn new(per_email: NonZeroU32, per_address: NonZeroU32) -> Self {
        Self { by_email: Limit::new(per_email), by_address: Limit::new(per_address) }
    }

    /// Counts a try to sign in as this user.
    pub(crate) fn try_email(&self, email: &str) -> Result<(), AppError> {
        self.by_email.take(&email.to_lowercase())
    }

    /// Counts a try from this network address.
    pub(crate) fn try_address(&self, address: IpAddr) -> Result<(), AppError> {
        match address.to_canonical() {
            IpAddr::V4(address) => self.by_address.take(&address),
            // Whoever has one address has its whole /64.
            IpAddr::V6(address) => self.by_address.take(&(u128::from(address) >> 64)),
        }
    }
}

impl Limit {
    fn new(per_minute: NonZeroU32) -> Self {
        Self {
            slots: DefaultKeyedRateLimiter::keyed(Quota::per_minute(per_minute)),
            hasher: RandomState::new(),
        }
    }

    fn take(&self, key: &impl Hash) -> Result<(), AppError> {
        #[allow(clippy::cast_possible_truncation, reason = "the low bits are the slot")]
        let slot = self.hasher.hash_one(key) as u16;
        self.slots.check_key(&slot).map_err(|refused| {
            let wait = refused.wait_time_from(DefaultClock::default().now());
            AppError::TooMany { retry_after: wait.max(Duration::from_secs(1)) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one() {
        let per_minute = NonZeroU32::new(1).expect("not 0");
        let limits = RateLimits::new(per_minute, per_minute);
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert!(limits.try_address(address("2001:db8::1")).is_ok());
        assert!(limits.try_address(address("2001:db8::2")).is_err());
    }

    #[test]
    fn e_mail_address_counts_whatever_its_case() {
        let per_minute = NonZeroU32::new(1).expect("not 0");
        let limits = RateLimits::new(per_minute, per_minute);
        assert!(limits.try_email("a@example.com").is_ok());
        assert!(limits.try_email("A@Example.com").is_err());
    }
}
