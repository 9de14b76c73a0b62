//! The protobuf messages of headers and origins, and how ids, sources and origins become messages.
//!
//! Tags are for ever: a tag that is given up is not used again. A new kind of event is a new tag,
//! which an older reader reports as unknown; any other change raises [`VERSION`].

use model::{
    AppTag, DatabaseTag, EnvironmentTag, Handle, Id, Origin as ModelOrigin, SessionTag, Source,
};
use uuid::Uuid;

use super::DecodeError;

/// The version of header and payload.
pub(super) const VERSION: u32 = 1;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Header {
    #[prost(uint32, tag = "1")]
    pub(super) version: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) environment: Vec<u8>,
    #[prost(uint32, tag = "3")]
    pub(super) records: u32,
    #[prost(fixed64, tag = "4")]
    pub(super) first_at: u64,
    #[prost(fixed64, tag = "5")]
    pub(super) last_at: u64,
    #[prost(uint32, repeated, tag = "6")]
    pub(super) sources: Vec<u32>,
    #[prost(message, repeated, tag = "7")]
    pub(super) producers: Vec<ProducerSpan>,
    #[prost(uint64, tag = "8")]
    pub(super) uncompressed_bytes: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ProducerSpan {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) producer: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub(super) first_seq: u64,
    #[prost(uint64, tag = "3")]
    pub(super) last_seq: u64,
    #[prost(fixed64, tag = "4")]
    pub(super) last_at: u64,
    #[prost(uint32, tag = "5")]
    pub(super) records: u32,
    #[prost(uint64, tag = "6")]
    pub(super) output_bytes: u64,
    #[prost(bool, optional, tag = "7")]
    pub(super) aborted: Option<bool>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Origin {
    #[prost(bytes = "vec", tag = "1")]
    producer: Vec<u8>,
    #[prost(uint32, tag = "2")]
    source: u32,
    #[prost(message, optional, tag = "3")]
    environment: Option<Named>,
    #[prost(bytes = "vec", tag = "4")]
    organization: Vec<u8>,
    #[prost(message, optional, tag = "5")]
    app: Option<Named>,
    #[prost(message, optional, tag = "6")]
    database: Option<Named>,
    #[prost(message, optional, tag = "7")]
    session: Option<Session>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Named {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(string, tag = "2")]
    handle: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Session {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    user: Vec<u8>,
    #[prost(string, tag = "3")]
    user_email: String,
    #[prost(string, tag = "4")]
    user_name: String,
}

pub(super) fn id<T>(id: Id<T>) -> Vec<u8> {
    id.uuid().as_bytes().to_vec()
}

pub(super) fn parse_id<T>(bytes: &[u8]) -> Result<Id<T>, DecodeError> {
    let uuid = Uuid::from_slice(bytes).map_err(|_| DecodeError::Damaged("an id is not a UUID"))?;
    Ok(Id::from_uuid(uuid))
}

pub(super) const fn source(source: Source) -> u32 {
    match source {
        Source::App => 1,
        Source::Database => 2,
        Source::EphemeralSession => 3,
        Source::Activity => 4,
    }
}

pub(super) fn parse_source(number: u32) -> Result<Source, DecodeError> {
    let known = Source::ALL.into_iter().find(|known| source(*known) == number);
    known.ok_or(DecodeError::UnknownKind("origin"))
}

pub(super) fn origin(origin: &ModelOrigin) -> Origin {
    Origin {
        producer: id(origin.producer),
        source: source(origin.source),
        environment: Some(named(origin.environment.id, &origin.environment.handle)),
        organization: id(origin.environment.organization),
        app: origin.app.as_ref().map(|app| named(app.id, &app.handle)),
        database: origin.database.as_ref().map(|database| named(database.id, &database.handle)),
        session: origin.session.as_ref().map(|session| Session {
            id: id(session.id),
            user: id(session.user),
            user_email: session.user_email.clone(),
            user_name: session.user_name.clone(),
        }),
    }
}

pub(super) fn parse_origin(origin: Origin) -> Result<ModelOrigin, DecodeError> {
    let environment =
        origin.environment.ok_or(DecodeError::Damaged("an origin has no environment"))?;
    let (environment, handle) = parse_named(environment)?;
    Ok(ModelOrigin {
        producer: parse_id(&origin.producer)?,
        source: parse_source(origin.source)?,
        environment: EnvironmentTag {
            id: environment,
            handle,
            organization: parse_id(&origin.organization)?,
        },
        app: match origin.app {
            Some(app) => parse_named(app).map(|(id, handle)| Some(AppTag { id, handle }))?,
            None => None,
        },
        database: match origin.database {
            Some(tag) => parse_named(tag).map(|(id, handle)| Some(DatabaseTag { id, handle }))?,
            None => None,
        },
        session: match origin.session {
            Some(session) => Some(SessionTag {
                id: parse_id(&session.id)?,
                user: parse_id(&session.user)?,
                user_email: session.user_email,
                user_name: session.user_name,
            }),
            None => None,
        },
    })
}

fn named<T>(tag: Id<T>, handle: &Handle) -> Named {
    Named { id: id(tag), handle: handle.as_str().to_owned() }
}

fn parse_named<T>(named: Named) -> Result<(Id<T>, Handle), DecodeError> {
    let handle = Handle::try_from(named.handle);
    let handle = handle.map_err(|_| DecodeError::Damaged("a handle breaks the rules"))?;
    Ok((parse_id(&named.id)?, handle))
}
