//! A request from its head to its lines being durable: once for every endpoint.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::CONTENT_ENCODING;
use actix_web::web::{self, Payload};
use bytes::Bytes;
use model::LogLine;
use tokio::time::timeout;

use super::inflate::{Encoding, inflate};
use super::keyed::KeyHeader;
use super::lines::{Lines, Outcome, limit};
use super::memory::Held;
use super::{Refusal, Shared, auth, body, deliver};
use crate::formats::Reader;
use crate::sources::Source;

/// How long lines have to become durable, and everything else that waits for the database.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);
/// What is longer is not read in the server's own threads, which other requests wait for.
const SMALL: usize = 16 << 10;

/// How an endpoint reads a body.
pub(super) struct Batch<F> {
    decode: F,
    encoding: Option<Encoding>,
}

impl<F> Batch<F>
where
    F: FnOnce(&Bytes, &mut Lines) -> Result<(), Refusal> + Send + 'static,
{
    /// Compressed as the head says.
    pub(super) const fn of(decode: F) -> Self {
        Self { decode, encoding: None }
    }

    /// Compressed so, whatever the head says.
    pub(super) const fn compressed(encoding: Encoding, decode: F) -> Self {
        Self { decode, encoding: Some(encoding) }
    }
}

/// What was read of a body.
struct Read {
    body: Bytes,
    lines: Vec<LogLine>,
    outcome: Outcome,
    held: Held,
}

/// Takes a request's lines. When it returns them as accepted, they are durable.
pub(super) async fn take<F>(
    shared: &Shared,
    request: &HttpRequest,
    payload: Payload,
    batch: Batch<F>,
) -> Result<Outcome, Refusal>
where
    F: FnOnce(&Bytes, &mut Lines) -> Result<(), Refusal> + Send + 'static,
{
    let source = auth::source(shared, request).await?;
    let key = KeyHeader::of(request)?;
    let encoding = match batch.encoding {
        Some(encoding) => encoding,
        None => match request.headers().get(CONTENT_ENCODING) {
            Some(header) => Encoding::parse(header.to_str().map_err(|_| Refusal::Encoding)?)?,
            None => Encoding::Identity,
        },
    };
    let mut held = shared.memory.hold(source.id());
    let limit = shared.body_limit;
    let body = body::read(request, payload, limit, &mut held).await?;
    let is_small = encoding == Encoding::Identity && body.len() <= SMALL;
    let (quotas, of) = (shared.intake.quotas.clone(), source.clone());
    let work = move || {
        let body = inflate(body, encoding, limit, &mut held)?;
        quotas.take(&of, body.len()).map_err(|over| Refusal::OverQuota(over.0))?;
        read(&of, body, limit, held, batch.decode)
    };
    let read = if is_small { work()? } else { shared.decode(work).await? };
    let Read { body, lines, outcome, held } = read;
    if outcome.refused_count > 0 {
        shared.intake.counts.malformed(source.id(), outcome.refused_count);
    }
    if lines.is_empty() {
        return Ok(outcome);
    }
    let key = key.map(|key| key.with(request, &body));
    let intake = shared.intake.clone();
    let delivered = async move {
        let delivery = deliver::deliver(&intake, &source, key, lines, outcome, held);
        timeout(DEADLINE, delivery).await.unwrap_or(Err(Refusal::NotDurable))
    };
    shared.elsewhere(delivered).await?
}

fn read(
    source: &Source,
    body: Bytes,
    body_limit: usize,
    held: Held,
    decode: impl FnOnce(&Bytes, &mut Lines) -> Result<(), Refusal>,
) -> Result<Read, Refusal> {
    let mut lines = Lines::new(limit(body_limit), held);
    decode(&body, &mut lines)?;
    let (single, outcome, held) = lines.finish()?;
    let mut reader = Reader::new(source.engine());
    let mut lines = Vec::with_capacity(single.len());
    for line in single {
        reader.push(line, &mut lines);
    }
    reader.flush(&mut lines);
    Ok(Read { body, lines, outcome, held })
}

impl Shared {
    /// Does something in the intake's own runtime, also when nobody waits for it any more.
    pub(super) async fn elsewhere<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Refusal> {
        let task = {
            let _entered = self.runtime.enter();
            self.tasks.spawn(work)
        };
        // It has panicked, or the process ends.
        task.await.map_err(|_| Refusal::NotDurable)
    }

    /// Does something that takes time and memory, a few at a time.
    async fn decode<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let permit = timeout(DEADLINE, Arc::clone(&self.decoders).acquire_owned()).await;
        let permit = permit.map_err(|_| Refusal::Busy)?.map_err(|_| Refusal::Busy)?;
        let work = move || {
            let done = work();
            // Also when nobody waits for it any more, it counts until now.
            drop(permit);
            done
        };
        web::block(work).await.map_err(|_| Refusal::Busy)?
    }
}
