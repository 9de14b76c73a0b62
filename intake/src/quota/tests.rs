use store::intake::IntakeSource;

use super::*;
use crate::fixture::{row, settings};

/// Sources of one environment.
fn sources<const N: usize>(own: i64, environment: (i64, i64)) -> [Source; N] {
    let id = Id::generate();
    std::array::from_fn(|_| {
        Source::new(IntakeSource {
            quota: (Some(own), Some(own)),
            environment_quota: (Some(environment.0), Some(environment.1)),
            ..row(id, "")
        })
    })
}

fn quotas() -> Quotas {
    Quotas::new(&settings(&[]), Counts::default())
}

#[test]
fn a_rate_and_a_burst_are_had_and_no_more() {
    let (quotas, now) = (quotas(), Instant::now());
    let [source] = sources(1000, (1_000_000, 1_000_000));
    let take = |bytes, seconds| {
        quotas.take_at(&source, bytes, now + Duration::from_secs_f64(seconds)).map_err(|it| it.0)
    };
    assert_eq!(take(1000, 0.0), Ok(()));
    assert_eq!(take(500, 0.0), Err(Duration::from_millis(500)));
    assert_eq!(take(500, 0.25), Err(Duration::from_millis(250)));
    assert_eq!(take(500, 0.5), Ok(()));
    assert_eq!(take(1_000_000, 0.5), Err(Duration::from_secs(1)), "it counts as the burst");
    assert_eq!(take(1_000_000, 60.0), Ok(()));
    assert_eq!(take(0, 60.0), Ok(()));
}

#[test]
fn who_is_refused_has_paid_nothing() {
    let (quotas, now) = (quotas(), Instant::now());
    let [flooding, other] = sources(1600, (1600, 1600));
    quotas.take_at(&flooding, 1600, now).unwrap();
    quotas.take_at(&other, 100, now).unwrap();
    for _ in 0..100 {
        let OverQuota(wait) = quotas.take_at(&other, 1500, now).unwrap_err();
        assert_eq!(wait, Duration::from_secs(1), "when the environment or its reserve has it");
    }
    // Its own bucket has 1500 at once, as nothing of it was lost.
    quotas.take_at(&other, 1500, now + Duration::from_secs(1)).unwrap();
}

#[test]
fn who_is_refused_by_its_own_quota_takes_nothing_of_its_environment_s() {
    let (quotas, now) = (quotas(), Instant::now());
    let environment = Id::generate();
    let [small, large] = [10, 1000].map(|own| {
        Source::new(IntakeSource {
            quota: (Some(own), Some(own)),
            environment_quota: (Some(1000), Some(1000)),
            ..row(environment, "")
        })
    });
    quotas.take_at(&small, 10, now).unwrap();
    for _ in 0..100 {
        quotas.take_at(&small, 10, now).unwrap_err();
    }
    quotas.take_at(&large, 990, now).unwrap();
}

#[test]
fn a_source_that_floods_does_not_keep_others_out() {
    let (quotas, start) = (quotas(), Instant::now());
    let [flooding, quiet] = sources(100_000, (16_000, 16_000));
    let mut flooded = 0;
    for tenth in 0..600 {
        let now = start + Duration::from_millis(100) * tenth;
        while quotas.take_at(&flooding, 100, now).is_ok() {
            flooded += 100;
        }
        quotas.take_at(&quiet, 90, now).unwrap();
    }
    // In a minute all together had the environment's rate and its burst, and what it may owe.
    let all = flooded + 600 * 90;
    assert!((900_000..=16_000 * 62).contains(&all), "{all}");
}

#[test]
fn full_buckets_are_forgotten_when_there_are_many() {
    let (quotas, now) = (quotas(), Instant::now());
    let [used] = sources(10, (1000, 1000));
    quotas.take_at(&used, 10, now).unwrap();
    for _ in 0..2 * KEPT {
        let [source] = sources(10, (1000, 1000));
        quotas.take_at(&source, 0, now).unwrap();
    }
    assert!(quotas.buckets.lock().unwrap().sources.len() <= KEPT + 1);
    quotas.take_at(&used, 10, now).unwrap_err();
}
