//! The client of the API: requests, problems, pages.
//!
//! Invariant: tokens go to the API they came from, and never without TLS except on this machine.

use std::time::Duration;

use anyhow::{Context as _, Result};
use model::Secret;
use reqwest::header::{AUTHORIZATION, ETAG, HeaderMap, HeaderValue, IF_MATCH};
use reqwest::{Method, Response, StatusCode, redirect};
use serde_json::Value;
use url::{Host, Url};

mod authority;
mod events;
mod problem;

pub(crate) use authority::{Authority, credentials};
pub(crate) use events::Events;
pub(crate) use problem::Problem;

/// Longest answer that is read.
const ANSWER_LIMIT: usize = 64 * 1024 * 1024;
/// Most items that a list reads, over all its pages.
const ITEM_LIMIT: usize = 100_000;

/// Where the API is when nothing says otherwise: where `platform up` puts it.
pub(crate) const DEFAULT_API_URL: &str = "http://127.0.0.1:7710";

/// An answer of the API.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its JSON; null where there is none.
    pub(crate) body: Value,
    /// The version of the thing answered, for a change that must not overwrite another.
    pub(crate) etag: Option<HeaderValue>,
}

/// A connection to one API.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    authority: Authority,
}

impl Client {
    /// A client of the API at `url`; connects when first used.
    pub(crate) fn new(url: &str, allow_http: bool, authority: Authority) -> Result<Self> {
        let base = base_url(url, allow_http)?;
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .timeout(Duration::from_mins(1))
            .redirect(redirect::Policy::none())
            .user_agent(concat!("platform/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("cannot prepare HTTPS")?;
        Ok(Self { http, base, authority })
    }

    /// Reads one thing.
    pub(crate) async fn get(&self, path: &[&str]) -> Result<Answer> {
        self.request(Method::GET, path, &[], None, None).await
    }

    /// Reads a list, all pages of it, in order.
    pub(crate) async fn list(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut query = query.to_vec();
            query.push(("limit", "100"));
            if let Some(cursor) = &cursor {
                query.push(("cursor", cursor));
            }
            let mut page = self.request(Method::GET, path, &query, None, None).await?.body;
            match page.get_mut("items").map(Value::take) {
                Some(Value::Array(more)) => items.extend(more),
                _ => anyhow::bail!("{} answered a list without items", self.base),
            }
            cursor = page.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
            if cursor.is_none() || items.len() >= ITEM_LIMIT {
                return Ok(items);
            }
        }
    }

    /// Reads one thing, of which the query says more.
    pub(crate) async fn query(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Value> {
        Ok(self.request(Method::GET, path, query, None, None).await?.body)
    }

    /// Creates or starts something.
    pub(crate) async fn post(&self, path: &[&str], body: &Value) -> Result<Answer> {
        self.request(Method::POST, path, &[], Some(body), None).await
    }

    /// Changes a thing, if it is still the version that was read.
    pub(crate) async fn patch(
        &self,
        path: &[&str],
        body: &Value,
        etag: Option<HeaderValue>,
    ) -> Result<Answer> {
        self.request(Method::PATCH, path, &[], Some(body), etag).await
    }

    /// Deletes a thing.
    pub(crate) async fn delete(&self, path: &[&str]) -> Result<Answer> {
        self.request(Method::DELETE, path, &[], None, None).await
    }

    /// The API's address.
    pub(crate) const fn base(&self) -> &Url {
        &self.base
    }

    async fn request(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
        etag: Option<HeaderValue>,
    ) -> Result<Answer> {
        let mut headers = HeaderMap::new();
        if let Some(etag) = etag {
            headers.insert(IF_MATCH, etag);
        }
        let token = self.authority.access_token(self).await?;
        if let Some(token) = &token {
            headers.insert(AUTHORIZATION, bearer(token)?);
        }
        let sent = self.send(method.clone(), path, query, body, headers.clone()).await;
        match (sent, token) {
            // The token ended early: the API's key changed, or the clocks differ.
            (Err(error), Some(token)) if is_unauthorized(&error) => {
                match self.authority.replaced_token(self, &token).await? {
                    Some(token) => {
                        headers.insert(AUTHORIZATION, bearer(&token)?);
                        self.send(method, path, query, body, headers).await
                    }
                    None => Err(error),
                }
            }
            (sent, _) => sent,
        }
    }

    /// One request, with the headers as they are.
    async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
        headers: HeaderMap,
    ) -> Result<Answer> {
        let mut request = self.http.request(method, self.url(path, query)).headers(headers);
        if let Some(body) = body {
            request = request.json(body);
        }
        let unreachable = |error| self.unreachable(error);
        let mut response = request.send().await.map_err(unreachable)?;
        let (status, etag) = (response.status(), response.headers().get(ETAG).cloned());
        let bytes = self.bytes(&mut response).await?;
        if !status.is_success() {
            return Err(Problem::parse(status, &bytes).into());
        }
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).with_context(|| {
                format!("{} did not answer JSON; is it the API's address?", self.base)
            })?
        };
        Ok(Answer { body, etag })
    }
}

impl Client {
    fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// All of an answer.
    async fn bytes(&self, response: &mut Response) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(error))? {
            if bytes.len() + chunk.len() > ANSWER_LIMIT {
                anyhow::bail!("the API's answer is longer than {ANSWER_LIMIT} bytes");
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    fn unreachable(&self, error: reqwest::Error) -> anyhow::Error {
        // The layers in between say the same in other words.
        let error = anyhow::Error::from(error);
        anyhow::anyhow!("cannot reach the API at {}: {}", self.base, error.root_cause())
    }
}

fn bearer(token: &Secret<String>) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
        .ok()
        .context("the token holds characters that no token has")?;
    value.set_sensitive(true);
    Ok(value)
}

fn is_unauthorized(error: &anyhow::Error) -> bool {
    let problem = error.downcast_ref::<Problem>();
    problem.is_some_and(|problem| problem.status == StatusCode::UNAUTHORIZED)
}

fn base_url(text: &str, allow_http: bool) -> Result<Url> {
    let url = Url::parse(text).with_context(|| {
        format!("the API's address {text} is not a URL such as https://platform.example.com")
    })?;
    let local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => anyhow::bail!("the API's address {text} has no host"),
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if local || allow_http => Ok(url),
        "http" => anyhow::bail!(
            "{text} is not encrypted: passwords and tokens would cross the network as they are; \
             use https, or --allow-http if the network is yours"
        ),
        other => anyhow::bail!("the API's address {text} begins with {other}, not with https"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_need_tls_outside_of_this_machine() {
        for url in ["https://api.example.com", "http://127.0.0.1:7710", "http://[::1]:1"] {
            assert!(base_url(url, false).is_ok(), "{url}");
        }
        let error = base_url("http://api.example.com", false).unwrap_err().to_string();
        assert!(error.contains("--allow-http"), "{error}");
        assert!(base_url("http://api.example.com", true).is_ok());
        assert!(base_url("ftp://api.example.com", true).is_err());
        assert!(base_url("api.example.com", true).is_err());
    }
}
