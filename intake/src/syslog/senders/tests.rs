use std::sync::Arc;

use service::Shutdown;

use super::*;
use crate::fixture::{database_row, intake, token};

/// Senders of so many PostgreSQL servers, none of whom has sent anything.
fn senders(count: u32, room: &Room) -> Senders {
    let rows = (0..count).map(|n| database_row(&token(n), "postgresql")).collect();
    let intake = intake(&Arc::default(), rows);
    let lookup = Lookup::of_connection(intake.clone(), None, Shutdown::new());
    Senders::new(intake, lookup, room.clone())
}

/// Takes a message of one of them.
async fn say(senders: &mut Senders, n: u32, text: &str) {
    let head = format!("<134>1 - - postgres 7 - [spillway@32473 token=\"{}\"] ", token(n));
    let bytes = Bytes::from(head + text);
    let piece = Piece { at: 0..bytes.len(), begins: true, continued: false };
    senders.take(piece, &mut Received::new(&bytes)).await;
}

fn texts(senders: &mut Senders) -> Vec<String> {
    let events = senders.with_events().flat_map(|sender| std::mem::take(&mut sender.events));
    let texts = events.map(|event| match event {
        Event::Line(line) => String::from_utf8(line.text.to_vec()).unwrap(),
        event => panic!("{event:?}"),
    });
    texts.collect()
}

#[tokio::test]
async fn what_waits_for_more_lines_takes_room_and_without_room_does_not_wait() {
    let room = Room::of_kib(100);
    let (mut one, mut other) = (senders(1, &room), senders(1, &room));
    let long = format!("\t{}", "x".repeat(50 << 10));
    for senders in [&mut one, &mut other] {
        say(senders, 0, "LOG:  statement: select").await;
        senders.settle();
        assert_eq!(texts(senders), Vec::<String>::new());
        say(senders, 0, &long).await;
        senders.settle();
    }
    assert_eq!(texts(&mut one), Vec::<String>::new());
    assert!(room.free_kib() < 50);
    assert_eq!(texts(&mut other), [format!("LOG:  statement: select\n{long}")]);
    assert_eq!(other.complete_at(), None);
    // What comes after is not lost, nor what waited.
    say(&mut other, 0, &long).await;
    other.settle();
    assert_eq!(texts(&mut other), std::slice::from_ref(&long));
    one.complete(true);
    one.settle();
    assert_eq!(texts(&mut one), [format!("LOG:  statement: select\n{long}")]);
    assert_eq!(room.free_kib(), 100);
}

#[tokio::test]
async fn what_waits_shares_no_memory_with_what_was_read() {
    let mut senders = senders(1, &Room::of_kib(100));
    let head = format!("<134>1 - - postgres 7 - [spillway@32473 token=\"{}\"] LOG:  b", token(0));
    let mut read = head.clone().into_bytes();
    read.resize(2 * LARGE, b'x');
    let read = Bytes::from(read);
    let piece = Piece { at: 0..head.len(), begins: true, continued: false };
    senders.take(piece, &mut Received::new(&read)).await;
    assert!(!read.is_unique());
    senders.settle();
    assert!(read.is_unique());
}

#[tokio::test]
async fn a_line_that_goes_on_and_on_is_complete_in_time() {
    let room = Room::of_kib(100);
    let mut senders = senders(1, &room);
    let began = Instant::now();
    say(&mut senders, 0, "LOG:  statement: select").await;
    let at = |senders: &Senders| senders.complete_at().unwrap() - began;
    assert!(at(&senders) < COMPLETE_AFTER * 2);
    // As if it had come before.
    for sender in &mut senders.all {
        sender.waiting_since = sender.waiting_since.and_then(|at| at.checked_sub(COMPLETE_WITHIN));
    }
    say(&mut senders, 0, "\t1").await;
    senders.complete(false);
    assert_eq!(texts(&mut senders), ["LOG:  statement: select\n\t1"]);
    // The next one has as long again.
    say(&mut senders, 0, "LOG:  a").await;
    say(&mut senders, 0, "LOG:  b").await;
    senders.complete(false);
    assert_eq!(texts(&mut senders), ["LOG:  a"]);
}

#[tokio::test]
async fn who_has_many_tokens_takes_room_and_without_room_they_are_forgotten() {
    let room = Room::of_kib(20);
    let mut senders = senders(60, &room);
    for n in 0..60 {
        say(&mut senders, n, "LOG:  a").await;
        senders.settle();
        let most = FREE + 20;
        assert!(senders.all.len() <= most + 1, "{}", senders.all.len());
        texts(&mut senders);
        senders.forget();
    }
    assert!(senders.are_known(), "although they are forgotten");
}

#[test]
fn a_token_in_what_could_not_be_read_is_masked() {
    let text = format!("<1> a {0}/b tokenless {0}x \u{20ac}{0}", token(1));
    let masked = String::from_utf8(without_tokens(text.clone().into()).to_vec()).unwrap();
    let stars = "*".repeat(32);
    assert_eq!(masked, format!("<1> a {stars}/b tokenless {0}x \u{20ac}{stars}", token(1)));
    let plain = Bytes::from_static(b"nothing to mask");
    assert_eq!(without_tokens(plain.clone()), plain);
}
