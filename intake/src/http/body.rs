//! A request's body, as it came.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web::Payload;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout_at};

use super::Refusal;
use super::memory::Held;

/// How long a body may take.
const BODY_TIME: Duration = Duration::from_mins(1);
/// How long nothing of it may come.
const PAUSE: Duration = Duration::from_secs(15);

/// Reads all of it.
pub(super) async fn read(
    request: &HttpRequest,
    mut payload: Payload,
    limit: usize,
    held: &mut Held,
) -> Result<Bytes, Refusal> {
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    if announced.and_then(|length| length.parse().ok()).is_some_and(|length: usize| length > limit)
    {
        return Err(Refusal::TooLarge(limit));
    }
    let until = Instant::now() + BODY_TIME;
    let mut body = BytesMut::new();
    loop {
        let next = timeout_at(until.min(Instant::now() + PAUSE), payload.next()).await;
        let Some(piece) = next.map_err(|_| Refusal::TooSlow)? else { break };
        let piece = piece.map_err(|_| Refusal::CutOff)?;
        if body.len() + piece.len() > limit {
            return Err(Refusal::TooLarge(limit));
        }
        held.grow(piece.len())?;
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}
