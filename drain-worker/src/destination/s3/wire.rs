//! Between `object_store`, which makes and signs requests, and the drain's own client, which sends them:
//! through the egress, and with the drain's authorities.
//!
//! Invariant: `object_store` opens no connection, and sends nothing twice: that is the pipeline's to do.

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use tokio::sync::{mpsc, oneshot};

/// A request, and where its answer goes.
pub(super) struct Exchange {
    pub(super) request: HttpRequest,
    pub(super) reply: Reply,
}

/// Who waits for an answer.
pub(super) struct Reply(oneshot::Sender<Result<HttpResponse, HttpError>>);

/// Why there is no answer; what happened is told by who has sent the request.
#[derive(Debug, thiserror::Error)]
#[error("there is no answer")]
struct NoAnswer;

/// Where `object_store` hands its requests over.
#[derive(Debug, Clone)]
pub(super) struct Wire(mpsc::Sender<Exchange>);

/// A wire and its other end.
pub(super) fn open() -> (Wire, mpsc::Receiver<Exchange>) {
    let (requests, queue) = mpsc::channel(1);
    (Wire(requests), queue)
}

impl Reply {
    /// Hands the answer back, or that there is none.
    pub(super) fn answer(self, answer: Option<HttpResponse>) {
        // Who asked may have given up.
        drop(self.0.send(answer.ok_or_else(no_answer)));
    }
}

impl HttpConnector for Wire {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Wire {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (reply, answered) = oneshot::channel();
        let exchange = Exchange { request, reply: Reply(reply) };
        self.0.send(exchange).await.map_err(|_| no_answer())?;
        answered.await.map_err(|_| no_answer())?
    }
}

/// Of a kind that is not tried again.
fn no_answer() -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, NoAnswer)
}
