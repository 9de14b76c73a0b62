//! Small batches over HTTP, one after the other, each under a key of its own and tried until it is acknowledged:
//! now at one intake, now at another.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rustix::net::sockopt::set_socket_linger;
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::lines::Way;
use crate::load::Load;
use crate::world::PAIRS;

/// How long an answer may take: less than faults last, so that another intake gets the same batch meanwhile.
const ANSWER: Duration = Duration::from_secs(3);
/// How long a batch may take with all its tries: longer than any fault.
const LONGEST: Duration = Duration::from_mins(3);
const BETWEEN: Duration = Duration::from_millis(80);
const AGAIN: Duration = Duration::from_millis(200);
const MOST_LINES: u64 = 30;

struct Sender {
    load: Arc<Load>,
    random: StdRng,
    cuts: watch::Receiver<u64>,
    peers: [Option<Peer>; PAIRS],
}

/// A connection to an intake; it is closed when dropped.
struct Peer {
    sender: SendRequest<Full<Bytes>>,
    /// The same socket: the connection has the other.
    socket: OwnedFd,
    _connection: JoinSet<()>,
}

pub(super) async fn send(load: Arc<Load>, stop: watch::Receiver<bool>) -> Result<()> {
    let random = StdRng::seed_from_u64(load.seed() ^ u64::from_be_bytes(*b"senders."));
    let cuts = load.senders.cuts.subscribe();
    let mut sender = Sender { load, random, cuts, peers: Default::default() };
    let mut next = 0;
    for number in 0_u64.. {
        if *stop.borrow() {
            break;
        }
        let count = sender.random.random_range(1..=MOST_LINES);
        let body: String = (next..next + count).map(json).collect();
        next += count;
        {
            let mut state = sender.load.senders.lock();
            state.http.batches += 1;
            state.http.lines = next;
        }
        sender.deliver(number, body.into(), next).await?;
        sleep(BETWEEN).await;
    }
    Ok(())
}

impl Sender {
    /// Tries until a batch is acknowledged.
    async fn deliver(&mut self, number: u64, body: Bytes, next: u64) -> Result<()> {
        let key = format!("{}-{number}", self.load.seed());
        let mut intake = self.random.random_range(0..PAIRS);
        let end = Instant::now() + LONGEST;
        while Instant::now() < end {
            // One that is to be cut is cut while it is on its way, or its answer is.
            let cut = if self.cuts.has_changed()? {
                self.cuts.mark_unchanged();
                Some(Duration::from_micros(self.random.random_range(0..8000)))
            } else {
                None
            };
            let request = self.load.world.http_request(&key, body.clone())?;
            let address = self.load.world.http_address(intake)?;
            let peer = self.peers.get_mut(intake).context("there is such an intake")?;
            let answer = post(peer, address, request, cut).await;
            self.load.senders.note(intake, answer.map(|status| status.as_u16()), next);
            match answer {
                Some(answer) if answer.is_success() => return Ok(()),
                None | Some(StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) => {}
                Some(answer) => bail!("http: batch {number} was answered {answer}"),
            }
            intake = (intake + 1) % PAIRS;
            sleep(AGAIN).await;
        }
        bail!("http: batch {number} was not acknowledged within {LONGEST:?}")
    }
}

fn json(number: u64) -> String {
    format!("{}\n", serde_json::json!({ "message": Way::Http.line(number), "level": "info" }))
}

/// The status of the answer, if there is one. A connection that is to be cut is reset after so long.
async fn post(
    peer: &mut Option<Peer>,
    address: SocketAddr,
    request: Request<Full<Bytes>>,
    cut: Option<Duration>,
) -> Option<StatusCode> {
    let mut used = match peer.take() {
        Some(peer) => peer,
        None => timeout(ANSWER, connect(address)).await.ok()?.ok()?,
    };
    let answered = timeout(cut.unwrap_or(ANSWER), async {
        used.sender.ready().await.ok()?;
        let answer = used.sender.send_request(request).await.ok()?;
        let status = answer.status();
        // Only what is read to its end is an answer.
        answer.into_body().collect().await.ok()?;
        Some(status)
    });
    let status = answered.await.ok().flatten();
    if cut.is_some() {
        // What is dropped then is reset.
        set_socket_linger(&used.socket, Some(Duration::ZERO)).ok();
        return status;
    }
    *peer = Some(used).filter(|_| status.is_some());
    status
}

async fn connect(address: SocketAddr) -> Result<Peer> {
    let stream = TcpSocket::new_v4()?.connect(address).await?;
    let socket = stream.as_fd().try_clone_to_owned()?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        // The sender of a request sees how it ended.
        drop(connection.await);
    });
    Ok(Peer { sender, socket, _connection: tasks })
}
