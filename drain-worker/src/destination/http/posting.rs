//! An endpoint whose 2xx is its word that it has a batch.
//!
//! Large batches of several sources are divided where the endpoint is quicker with several requests at a
//! time. The next batch waits for all of them, so no line overtakes another of its source.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use destinations::Compression;
use futures_util::future::join_all;
use hyper::Uri;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use url::Url;

use super::packer::{encoding, pack};
use super::{HttpClient, HttpConfigError, Post, Taken, note, uri, without_nul};
use crate::batch::{Batch, BatchLimits, Lane};
use crate::concurrency::{Concurrency, Pace};
use crate::destination::{Destination, Failure, Remedy};
use crate::trace::Trace;

/// See the module.
pub(crate) struct Posting<P> {
    requests: Requests<P>,
    /// One, or as many as there are requests at a time.
    clients: Vec<HttpClient>,
    /// How batches are divided; None where each is one request.
    divided: Option<(Pace, BatchLimits)>,
    taken: Taken,
}

/// How batches become requests.
struct Requests<P> {
    uri: Uri,
    content_type: HeaderValue,
    compression: Compression,
    kind: P,
}

/// What came of requests that were sent one after the other.
struct Sent {
    /// The batches that were not taken.
    left: Lane,
    failure: Option<Failure>,
    slowest: Duration,
}

impl<P: Post> Posting<P> {
    pub(crate) fn new(
        client: HttpClient,
        url: &Url,
        content_type: &'static str,
        compression: Compression,
        kind: P,
    ) -> Result<Self, HttpConfigError> {
        let content_type = HeaderValue::from_static(content_type);
        let requests = Requests { uri: uri(url)?, content_type, compression, kind };
        Ok(Self { requests, clients: vec![client], divided: None, taken: Taken::default() })
    }

    /// As many as there are lanes; those that are not needed are kept while batches are divided. Answers whether
    /// there were as many before.
    fn have_clients(&mut self, count: usize) -> bool {
        if count == 1 {
            self.clients.truncate(1);
        }
        let had = self.clients.len();
        if let Some(first) = self.clients.first() {
            let more: Vec<_> = (had..count).map(|_| first.another()).collect();
            self.clients.extend(more);
        }
        had >= count
    }
}

impl<P: Post> Requests<P> {
    async fn post(
        &self,
        client: &mut HttpClient,
        batch: &Batch,
        trace: &mut Trace,
    ) -> Result<(), Failure> {
        // What is not compressed is not kept until the answer.
        let body = pack(self.compression, &self.kind.body(batch))?;
        let mut headers: HeaderMap = self
            .kind
            .headers(batch, &body)
            .into_iter()
            .filter_map(|(name, value)| {
                Some((HeaderName::from_static(name), HeaderValue::try_from(value).ok()?))
            })
            .collect();
        headers.insert(CONTENT_TYPE, self.content_type.clone());
        if let Some(encoding) = encoding(self.compression) {
            headers.insert(CONTENT_ENCODING, encoding);
        }
        let answer = client.post(&self.uri, &headers, body, trace).await;
        if std::mem::take(&mut trace.sent_again) {
            trace.repeated += batch.lines();
        }
        let answer = answer?;
        let started = Instant::now();
        let outcome = self.kind.classify(client, &answer, batch);
        note(trace, &answer, started, &outcome);
        outcome
    }

    /// Posts until one is not taken, here or beside.
    async fn post_all(
        &self,
        client: &mut HttpClient,
        mut left: Lane,
        failed: &AtomicBool,
        trace: &mut Trace,
    ) -> Sent {
        let (mut failure, mut slowest) = (None, Duration::ZERO);
        while let Some(batch) = left.front()
            && !failed.load(Ordering::Relaxed)
        {
            let begun = Instant::now();
            let posted = self.post(client, batch, trace).await;
            slowest = slowest.max(begun.elapsed());
            if let Err(error) = posted {
                failed.store(true, Ordering::Relaxed);
                failure = Some(error);
                break;
            }
            left.pop_front();
        }
        Sent { left, failure, slowest }
    }
}

#[async_trait]
impl<P: Post> Destination for Posting<P> {
    fn divide(&mut self, limits: BatchLimits) -> Option<Concurrency> {
        let pace = Pace::default();
        let concurrency = pace.concurrency().clone();
        self.divided = Some((pace, limits));
        Some(concurrency)
    }

    async fn send(&mut self, batch: &Batch, trace: &mut Trace) -> Result<(), Failure> {
        let lanes = match &self.divided {
            Some((pace, limits)) => batch.divide(pace.concurrency().get(), *limits),
            None => vec![Lane::from([batch.clone()])],
        };
        let count = lanes.len();
        let were_connected = self.have_clients(count);
        // What is told of is the first one.
        let mut others: Vec<_> = (1..count).map(|_| Trace::default()).collect();
        let traces = std::iter::once(&mut *trace).chain(&mut others);
        let requests = &self.requests;
        let sending = lanes.into_iter().zip(&mut self.clients).zip(traces);
        let failed = AtomicBool::new(false);
        let sending =
            sending.map(|((lane, client), trace)| requests.post_all(client, lane, &failed, trace));
        let mut sent = join_all(sending).await;
        trace.repeated += others.iter().map(|trace| trace.repeated).sum::<usize>();
        let slowest = sent.iter().map(|sent| sent.slowest).max().unwrap_or_default();
        sent.retain(|sent| !sent.left.is_empty());
        // The one to wait for the longest is sent again first.
        sent.sort_by_key(|sent| Reverse(sent.failure.as_ref().map(wait)));
        let failures = sent.iter().filter_map(|sent| sent.failure.as_ref());
        let pushes_back = failures.map(|failure| &failure.remedy).any(pushes_back);
        if let Some((pace, _)) = &mut self.divided {
            let now = pace.concurrency().get();
            if pushes_back {
                pace.pushed_back();
            } else if sent.is_empty()
                && were_connected
                && count == now
                && batch.is_enough_for(now + 1)
            {
                pace.all_taken(slowest);
            }
        }
        let Some(mut failure) = sent.first_mut().and_then(|sent| sent.failure.take()) else {
            self.taken.add();
            return Ok(());
        };
        let left: Vec<_> = sent.into_iter().flat_map(|sent| sent.left).collect();
        // Else it is the batch itself.
        if left.len() > 1 || left.iter().any(|left| left.lines() < batch.lines()) {
            failure.left = Some(left);
        }
        Err(failure)
    }

    async fn confirmed(&mut self, _pressed: bool) -> Result<usize, Failure> {
        Ok(self.taken.next().await)
    }

    fn rejected(&self, line: &[u8]) -> Value {
        without_nul(self.requests.kind.rejected(line))
    }
}

/// How long to wait after a failure.
const fn wait(failure: &Failure) -> Duration {
    match failure.remedy {
        Remedy::Park => Duration::MAX,
        Remedy::Retry(Some(after)) => after,
        _ => Duration::ZERO,
    }
}

const fn pushes_back(remedy: &Remedy) -> bool {
    matches!(remedy, Remedy::Retry(_) | Remedy::Reconnect)
}
