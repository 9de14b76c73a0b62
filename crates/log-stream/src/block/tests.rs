use std::sync::Arc;

use model::{
    Actor, AppTag, ContainerAction, ContainerEvent, DatabaseTag, EnvironmentTag, Event, ExitStatus,
    LogLine, Origin, OutputStream, SessionStarted, SessionTag, Severity, Source, Target,
    TerminalSize, Timestamp,
};
use proptest::prelude::*;
use prost::Message as _;

use super::*;

fn environment() -> Id<Environment> {
    Id::from_uuid(Uuid::from_u128(7))
}

prop_compose! {
    fn origins()(
        producer: u128,
        source in prop::sample::select(&Source::ALL[..]),
        (handle, name) in ("[a-z]{1,63}", ".{0,20}"),
        (app, database, session) in any::<(bool, bool, bool)>(),
    ) -> Arc<Origin> {
        let id = Uuid::from_u128(producer);
        let handle = || handle.parse().unwrap();
        let tag =
            EnvironmentTag { id: environment(), handle: handle(), organization: Id::from_uuid(id) };
        Arc::new(Origin {
            producer: Id::from_uuid(id),
            source,
            environment: tag,
            app: app.then(|| AppTag { id: Id::from_uuid(id), handle: handle() }),
            database: database.then(|| DatabaseTag { id: Id::from_uuid(id), handle: handle() }),
            session: session.then(|| SessionTag {
                id: Id::from_uuid(id),
                user: Id::from_uuid(id),
                user_email: name.clone(),
                user_name: name.clone(),
            }),
        })
    }
}

fn events() -> impl Strategy<Value = Event> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..200);
    let text = || ".{0,20}".boxed();
    let size = || any::<(u32, u32)>().prop_map(|(columns, rows)| TerminalSize { columns, rows });
    let stream = prop::sample::select(&[OutputStream::Stdout, OutputStream::Stderr][..]);
    prop_oneof![
        stream.clone().prop_map(|stream| Event::Pause { stream }),
        (stream.clone(), any::<u64>(), bytes()).prop_map(|(stream, offset, bytes)| Event::Output {
            stream,
            offset,
            bytes: bytes.into()
        }),
        (any::<u64>(), bytes())
            .prop_map(|(offset, bytes)| Event::Input { offset, bytes: bytes.into() }),
        (
            bytes(),
            prop::collection::vec((".{0,20}", ".{0,20}"), 0..3),
            prop::option::of(prop::sample::select(&Severity::ALL[..])),
            prop::option::of(stream.clone()),
            any::<(Option<u64>, bool)>(),
        )
            .prop_map(|(text, fields, severity, stream, (sent_at, continued))| {
                Event::Line(Box::new(LogLine {
                    text: text.into(),
                    severity,
                    stream,
                    sent_at: sent_at.map(Timestamp::from_nanos),
                    continued,
                    fields: fields.iter().map(|(name, value)| (name, value)).collect(),
                }))
            }),
        (any::<u64>(), text()).prop_map(|(lines, reason)| Event::Gap { lines, reason }),
        (any::<Option<Option<u32>>>(), text(), text(), text()).prop_map(
            |(action, id, name, image)| {
                let action = match action {
                    None => ContainerAction::Started,
                    Some(None) => ContainerAction::OutOfMemory,
                    Some(Some(code)) => ContainerAction::Exited { code },
                };
                Event::Container(Box::new(ContainerEvent { action, id, name, image }))
            }
        ),
        (text(), text(), prop::option::of(text())).prop_map(|(one, other, reason)| {
            Event::SessionStarted(Box::new(SessionStarted {
                image: one.clone(),
                client_address: other.clone(),
                client_version: one.clone(),
                auth_method: other,
                key_fingerprint: one,
                reason,
            }))
        }),
        (text(), size()).prop_map(|(term, size)| Event::Pty { term, size }),
        size().prop_map(|size| Event::Resize { size }),
        text().prop_map(|name| Event::Env { name }),
        bytes().prop_map(|command| Event::Exec { command }),
        Just(Event::Shell),
        text().prop_map(|name| Event::Subsystem { name }),
        text().prop_map(|name| Event::Signal { name }),
        any::<u32>().prop_map(|code| Event::Exit(ExitStatus::Code(code))),
        (text(), any::<bool>()).prop_map(|(name, core_dumped)| {
            Event::Exit(ExitStatus::Signal { name, core_dumped })
        }),
        (text(), any::<bool>(), any::<u64>(), any::<u64>(), 0..1_000_000_000_u32).prop_map(
            |(reason, aborted, output_bytes, seconds, nanos)| Event::SessionEnded {
                reason,
                aborted,
                output_bytes,
                duration: Duration::new(seconds, nanos),
            }
        ),
        (prop::option::of(any::<u128>()), text(), text(), any::<u128>()).prop_map(
            |(user, one, other, target)| Event::Activity {
                actor: user.map_or(Actor::Platform, |id| Actor::User {
                    id: Id::from_uuid(Uuid::from_u128(id)),
                    email: one.clone(),
                }),
                action: one.clone(),
                target: Box::new(Target {
                    kind: one,
                    id: Uuid::from_u128(target),
                    handle: other.clone()
                }),
                detail: other,
            }
        ),
    ]
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    prop::collection::vec(origins(), 1..4).prop_flat_map(|origins| {
        let record = (prop::sample::select(origins), any::<u64>(), any::<u64>(), events())
            .prop_map(|(origin, seq, at, event)| Record {
                origin,
                seq,
                at: Timestamp::from_nanos(at),
                event,
            });
        prop::collection::vec(record, 1..20)
    })
}

/// The block as it comes back from storage.
fn stored(block: &Block) -> Block {
    let parts = (block.header_bytes().to_vec(), block.payload_bytes().to_vec());
    Block::from_parts(block.id(), parts.0, parts.1).unwrap()
}

/// The records of an altered block, unless it is found out.
fn read(id: Uuid, header: Vec<u8>, payload: Vec<u8>) -> Option<Vec<Record>> {
    Block::from_parts(id, header, payload).and_then(|block| block.records()).ok()
}

proptest! {
    #[test]
    fn any_records_come_back_as_they_were(records in records()) {
        let block = Block::encode(environment(), &records).unwrap();
        let stored = stored(&block);
        prop_assert_eq!(&stored, &block);
        prop_assert_eq!(stored.made_at(), block.made_at());
        prop_assert_eq!(stored.records().unwrap(), records);
    }

    #[test]
    fn cut_block_is_found_out(records in records(), cut: prop::sample::Index, of_header: bool) {
        let block = Block::encode(environment(), &records).unwrap();
        let (mut header, mut payload) = (block.header_bytes().to_vec(), block.payload_bytes().to_vec());
        let cut_part = if of_header { &mut header } else { &mut payload };
        cut_part.truncate(cut.index(cut_part.len()));
        prop_assert!(read(block.id(), header, payload).is_none());
    }

    #[test]
    fn flipped_bit_is_found_out_or_harmless(records in records(), place: prop::sample::Index) {
        let block = Block::encode(environment(), &records).unwrap();
        let mut header = block.header_bytes().to_vec();
        let mut payload = block.payload_bytes().to_vec();
        let bit = place.index((header.len() + payload.len()) * 8);
        let byte = header.iter_mut().chain(&mut payload).nth(bit / 8).unwrap();
        *byte ^= 1 << (bit % 8);
        // zstd ignores a bit of its header, and protobuf has more than one way to say a number.
        if let Some(read) = read(block.id(), header, payload) {
            prop_assert_eq!(read, records);
        }
    }

    #[test]
    fn random_bytes_are_not_a_block(header: Vec<u8>, payload: Vec<u8>, records in records()) {
        let block = Block::encode(environment(), &records).unwrap();
        prop_assert!(read(block.id(), header, block.payload_bytes().to_vec()).is_none());
        prop_assert!(read(block.id(), block.header_bytes().to_vec(), payload).is_none());
    }

    /// The checksum keeps random changes out of the unpacking; here they get in.
    #[test]
    fn altered_records_are_unpacked_without_panic(
        records in records(),
        changes in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..4),
    ) {
        let mut packed = packed(&records);
        for (place, byte) in changes {
            let place = place.index(packed.len());
            packed[place] = byte;
        }
        let expected = u32::try_from(records.len()).unwrap();
        if let Ok(read) = payload::unpack(&packed.into(), expected) {
            prop_assert_eq!(read.len(), records.len());
        }
    }
}

fn packed(records: &[Record]) -> Vec<u8> {
    let mut packed = Vec::new();
    payload::pack(records, &mut packed).unwrap();
    packed
}

fn origin() -> Arc<Origin> {
    Arc::new(Origin {
        producer: Id::from_uuid(Uuid::from_u128(1)),
        source: Source::EphemeralSession,
        environment: EnvironmentTag {
            id: environment(),
            handle: "production".parse().unwrap(),
            organization: Id::from_uuid(Uuid::from_u128(2)),
        },
        app: None,
        database: None,
        session: None,
    })
}

fn output(seq: u64, bytes: &[u8]) -> Record {
    let event =
        Event::Output { stream: OutputStream::Stdout, offset: 0, bytes: bytes.to_vec().into() };
    Record { origin: origin(), seq, at: Timestamp::from_nanos(1_000 + seq), event }
}

#[test]
fn header_tells_what_is_in_the_block() {
    let mut records = vec![output(5, b"ab"), output(6, b""), output(7, b"cde")];
    records[1].event = Event::Shell;
    let block = stored(&Block::encode(environment(), &records).unwrap());
    let header = block.header();
    assert_eq!(header.environment, environment());
    assert_eq!(header.sources, [Source::EphemeralSession]);
    assert_eq!((header.first_at.nanos(), header.last_at.nanos()), (1_005, 1_007));
    let span = ProducerSpan {
        producer: records[0].origin.producer,
        first_seq: 5,
        last_seq: 7,
        last_at: Timestamp::from_nanos(1_007),
        records: 3,
        output_bytes: 5,
        aborted: None,
    };
    assert_eq!(header.producers, [span]);
}

#[test]
fn header_tells_a_session_that_has_ended_and_need_not() {
    let mut records = vec![output(0, b"bye"), output(1, b"")];
    records[1].event = Event::SessionEnded {
        reason: "over".to_owned(),
        aborted: true,
        output_bytes: 3,
        duration: Duration::ZERO,
    };
    let block = stored(&Block::encode(environment(), &records).unwrap());
    assert_eq!(block.header().producers[0].aborted, Some(true));

    // As an earlier version wrote it.
    let mut silent = block.header().clone();
    silent.producers[0].aborted = None;
    let old = Block::from_parts(block.id(), silent.pack(), block.payload_bytes().to_vec());
    assert_eq!(old.unwrap().records().unwrap(), records);
    let mut wrong = block.header().clone();
    wrong.producers[0].aborted = Some(false);
    let wrong = Block::from_parts(block.id(), wrong.pack(), block.payload_bytes().to_vec());
    assert!(matches!(wrong.unwrap().records(), Err(DecodeError::Damaged(_))));
}

#[test]
fn equal_origins_are_written_once() {
    let many: Vec<Record> = (0..1_000).map(|seq| output(seq, b"")).collect();
    let packed = packed(&many);
    // A record without bytes, gaps or a new time: length, time, event, length.
    assert!(packed.len() < 200 + many.len() * 6, "{}", packed.len());
}

#[test]
fn records_of_another_environment_are_refused() {
    let outcome = Block::encode(Id::from_uuid(Uuid::nil()), &[output(0, b"")]);
    assert!(matches!(outcome, Err(EncodeError::OtherEnvironment { .. })));
    assert!(matches!(Block::encode(environment(), &[]), Err(EncodeError::Empty)));
}

#[test]
fn block_may_be_packed_again_under_its_id() {
    let id = Uuid::now_v7();
    let records = [output(0, b"x")];
    let block = Block::encode_as(id, environment(), &records).unwrap();
    assert_eq!(block.id(), id);
    assert_eq!(stored(&block).records().unwrap(), records);
    assert_eq!(Block::encode_as(id, environment(), &records).unwrap(), block);
    let outcome = Block::encode_as(Uuid::new_v4(), environment(), &records);
    assert!(matches!(outcome, Err(EncodeError::NotVersion7)));
}

#[test]
fn more_than_a_block_holds_is_refused() {
    let many = vec![output(0, b""); MAX_RECORDS + 1];
    assert!(matches!(Block::encode(environment(), &many), Err(EncodeError::TooLarge)));
    let much = vec![output(0, &vec![0; MAX_UNCOMPRESSED / 2]); 2];
    assert!(matches!(Block::encode(environment(), &much), Err(EncodeError::TooLarge)));
}

#[test]
fn unknown_versions_and_kinds_are_told_apart_from_damage() {
    let records = [output(0, b"x")];
    let block = Block::encode(environment(), &records).unwrap();
    // Field 1, the version, comes first.
    let mut header = block.header_bytes().to_vec();
    assert_eq!(header[..2], [8, 1]);
    header[1] = 2;
    let error = Header::parse(&header).unwrap_err();
    assert!(matches!(error, DecodeError::UnknownVersion(2)));

    // No bytes apart, one origin, and a record of three bytes: field 31, of no length.
    let mut packed = vec![0, 1];
    wire::origin(&origin()).encode_length_delimited(&mut packed).unwrap();
    packed.extend([3, 0xfa, 0x01, 0]);
    let error = payload::unpack(&packed.into(), 1).unwrap_err();
    assert!(matches!(error, DecodeError::UnknownKind("event")), "{error}");
}

#[test]
fn small_payload_that_claims_to_be_large_is_refused() {
    let bomb = zstd::bulk::compress(&vec![0; MAX_UNCOMPRESSED + 1], 1).unwrap();
    let mut block = Block::encode(environment(), &[output(0, b"x")]).unwrap();
    block.header.uncompressed_bytes = MAX_UNCOMPRESSED + 1;
    let outcome = Block::from_parts(block.id(), block.header.pack(), bomb.clone());
    assert!(matches!(outcome, Err(DecodeError::TooLarge(_))));
    block.header.uncompressed_bytes = 100;
    let block = Block::from_parts(block.id(), block.header.pack(), bomb).unwrap();
    assert!(block.records().is_err());

    // Many empty messages: no more of them are made than the header says.
    let mut packed = vec![0, 1, 0];
    packed.extend(vec![0; 1 << 20]);
    assert!(payload::unpack(&packed.into(), 1).is_err());
}
