use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use model::Id;
use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};

use super::*;
use crate::fixture::{Kept, intake, row, token};
use crate::syslog::slots::Slots;

const SHORTLY: Duration = Duration::from_millis(100);

/// A connection's client, and what becomes durable of it.
fn connect(slots: &Slots, shutdown: &Shutdown) -> (DuplexStream, Arc<Kept>) {
    let kept = Arc::new(Kept::default());
    let intake = intake(&kept, vec![row(Id::generate(), &token(1))]);
    let lookup = Lookup::of_connection(intake.clone(), None, shutdown.clone());
    let slot = slots.take(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
    let connection = Connection::new(intake, shutdown.clone(), lookup, slot, Room::new());
    let (client, server) = duplex(1 << 10);
    shutdown.spawn(connection.run(server));
    (client, kept)
}

async fn is_open(client: &mut DuplexStream, time: Duration) -> bool {
    timeout(time, client.read_u8()).await.is_err()
}

async fn is_closed(client: &mut DuplexStream) {
    timeout(ASK_EVERY * 5, client.read_u8()).await.expect("it is not closed").unwrap_err();
}

#[tokio::test]
async fn who_does_not_say_who_he_is_stays_while_there_are_enough_slots() {
    let (slots, shutdown) = (Slots::new(4, Some(4), SHORTLY), Shutdown::new());
    let (mut silent, _) = connect(&slots, &shutdown);
    let (mut known, kept) = connect(&slots, &shutdown);
    let message = format!("<134>1 - h {} - - - line\n", token(1));
    known.write_all(message.as_bytes()).await.unwrap();
    assert!(is_open(&mut silent, SHORTLY * 3).await, "half of the slots are free");
    let (mut third, _) = connect(&slots, &shutdown);
    third.write_all(b"<134>1 - ").await.unwrap();
    // As soon as one has left, there are enough for the other.
    tokio::select! {
        () = is_closed(&mut silent) => {}
        () = is_closed(&mut third) => {}
    }
    assert!(is_open(&mut known, SHORTLY * 3).await);
    assert_eq!(kept.records().len(), 1);
    shutdown.request();
}
