//! Server-sent events (WHATWG HTML, section 9.2), as far as the API sends them.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use reqwest::Response;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};
use serde_json::Value;

use super::{ANSWER_LIMIT, Client, Problem, bearer, is_unauthorized};

/// The API sends something every 15 s.
const SILENCE: Duration = Duration::from_secs(45);
/// Until the API ends it by itself, which it does when the sign-in ends.
const LONGEST: Duration = Duration::from_hours(24);

/// Events as they come.
#[derive(Debug)]
pub(crate) struct Events {
    response: Response,
    buffer: Vec<u8>,
    /// Where to look for the next event's end: what is before has none.
    searched: usize,
}

/// An event.
#[derive(Debug)]
pub(crate) struct Event {
    /// What another request goes on from.
    pub(crate) id: Option<String>,
    /// What it tells, if anything.
    pub(crate) data: Option<Value>,
}

impl Client {
    /// Follows what comes after the event with this id.
    pub(crate) async fn events(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        last_event_id: &str,
    ) -> Result<Events> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        headers.insert("last-event-id", HeaderValue::from_str(last_event_id)?);
        let token = self.authority.access_token(self).await?;
        if let Some(token) = &token {
            headers.insert(AUTHORIZATION, bearer(token)?);
        }
        let opened = self.open_events(path, query, headers.clone()).await;
        match (opened, token) {
            // As for any other request.
            (Err(error), Some(token)) if is_unauthorized(&error) => {
                match self.authority.replaced_token(self, &token).await? {
                    Some(token) => {
                        headers.insert(AUTHORIZATION, bearer(&token)?);
                        self.open_events(path, query, headers).await
                    }
                    None => Err(error),
                }
            }
            (opened, _) => opened,
        }
    }

    async fn open_events(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        headers: HeaderMap,
    ) -> Result<Events> {
        let request = self.http.get(self.url(path, query)).headers(headers).timeout(LONGEST);
        let answer = tokio::time::timeout(SILENCE, request.send()).await;
        let answer = answer.with_context(|| format!("the API at {} is silent", self.base))?;
        let mut response = answer.map_err(|error| self.unreachable(error))?;
        if !response.status().is_success() {
            let status = response.status();
            return Err(Problem::parse(status, &self.bytes(&mut response).await?).into());
        }
        Ok(Events { response, buffer: Vec::new(), searched: 0 })
    }
}

impl Events {
    /// The next event; None at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            let rest = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = rest.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = self.buffer.drain(..self.searched + at + 2).collect();
                self.searched = 0;
                return parse(&event).map(Some);
            }
            self.searched = self.buffer.len().saturating_sub(1);
            let chunk = tokio::time::timeout(SILENCE, self.response.chunk()).await;
            let Some(chunk) = chunk.context("the API is silent")?? else { return Ok(None) };
            if self.buffer.len() + chunk.len() > ANSWER_LIMIT {
                bail!("the API sent an event of more than {ANSWER_LIMIT} bytes");
            }
            self.buffer.extend_from_slice(&chunk);
        }
    }
}

fn parse(event: &[u8]) -> Result<Event> {
    let text = std::str::from_utf8(event).context("the API sent what is no text")?;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let data = field("data: ").map(serde_json::from_str).transpose();
    Ok(Event {
        id: field("id: ").map(str::to_owned),
        data: data.context("the API sent an event that is no JSON")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_an_id_and_mostly_data() {
        let event = parse(b": nothing new\nid: abc\n\n").expect("an event");
        assert_eq!((event.id.as_deref(), event.data), (Some("abc"), None));
        let event = parse(b"id: d\ndata: {\"message\":\"a: \\n\"}\n\n").expect("an event");
        assert_eq!(event.data, Some(serde_json::json!({ "message": "a: \n" })));
        assert!(parse(b"data: {\n\n").is_err());
        assert!(parse(b"data: \xff\n\n").is_err());
    }
}
