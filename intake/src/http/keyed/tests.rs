use std::collections::HashSet;

use model::{AppTag, EnvironmentTag, Handle};
use proptest::prelude::*;
use store::intake::{IntakeSource, TokenHash};

use super::*;

fn source() -> Source {
    let handle = || "web".parse::<Handle>().unwrap();
    let environment =
        EnvironmentTag { id: Id::generate(), handle: handle(), organization: Id::generate() };
    Source::new(IntakeSource {
        id: Id::generate(),
        handle: "s".to_owned(),
        environment,
        app: Some(AppTag { id: Id::generate(), handle: handle() }),
        database: None,
        engine: None,
        token: TokenHash { key: String::new(), hash: Vec::new() },
        previous_token: None,
        client_certificates: Vec::new(),
        quota: (None, None),
        environment_quota: (None, None),
        disabled: false,
    })
}

fn header(name: &'static str, key: &str) -> KeyHeader {
    KeyHeader { name, key: key.to_owned() }
}

#[test]
fn a_large_request_is_packed_the_same_again() {
    let (source, first) = (source(), Uuid::now_v7());
    let lines = || (0..10_000).map(|n| LogLine::plain(format!("{n:0400}"))).collect();
    let loops = Loops::default();
    let pack = || blocks(&loops, &source, first, lines()).collect::<Result<Vec<_>, _>>().unwrap();
    let (once, again) = (pack(), pack());
    assert_eq!(once, again);
    assert!(once.len() > 3);
    assert_eq!(once[0].id(), first);
    assert_eq!(once.iter().map(Block::id).collect::<HashSet<_>>().len(), once.len());
    assert!(once.iter().all(|block| block.made_at() == once[0].made_at()));
    let records: Vec<_> = once.iter().flat_map(|block| block.records().unwrap()).collect();
    assert_eq!(records.len(), 10_000);
    assert!((0..).zip(&records).all(|(seq, record)| record.seq == seq));
    assert!(records.iter().all(|record| record.origin.producer.uuid() == first));
}

#[test]
fn a_key_is_of_a_source_and_a_body_and_logplex_may_use_one_twice() {
    let key = |name, key, body: &[u8]| header(name, key).over(&[b"/logs", b"text/plain", body]);
    let (one, other) = (key(HEADERS[0], "k", b"a"), key(HEADERS[0], "k", b"b"));
    assert_eq!(one.hash, other.hash);
    assert_ne!(one.body_hash, other.body_hash);
    assert_ne!(one.hash, key(HEADERS[0], "l", b"a").hash);
    assert_eq!(key(LOGPLEX, "k", b"a"), key(LOGPLEX, "k", b"a"));
    assert_ne!(key(LOGPLEX, "k", b"a").hash, key(LOGPLEX, "k", b"b").hash);
}

proptest! {
    #[test]
    fn ids_of_blocks_are_of_the_same_time_and_version(number in any::<u64>()) {
        let first = Uuid::now_v7();
        let id = block_id(first, number);
        prop_assert_eq!(id.get_version_num(), 7);
        prop_assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
        prop_assert_eq!(millis(id), millis(first));
        prop_assert_eq!(id == first, number == 0);
    }
}
