//! What the intake asks a Docker daemon.
//!
//! Logs are read without bollard: its decoder panics at a frame in which Docker complains, bounds no frame, and
//! takes bytes of a terminal for frames.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{ContainerInspectResponse, EventMessage};
use bollard::query_parameters::{
    EventsOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http_body_util::Empty;
use hyper::body::{Body as _, Frame, Incoming};
use hyper::client::conn::http1::Connection;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use model::Timestamp;
use tokio::net::UnixStream;
use tokio::sync::OnceCell;

use super::frames::nanos;

/// One of these labels makes a container ours.
pub(super) const ENVIRONMENT_LABEL: &str = "spillway.environment";

const DEADLINE: Duration = Duration::from_secs(10);
/// Of an answer that is an error.
const ERROR_LIMIT: usize = 8 << 10;

/// A daemon did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum DaemonError {
    /// The address has another form.
    #[error("{0} is not a Docker host that can be used here: write unix:///path/to/docker.sock")]
    Address(String),
    /// It cannot be reached, or broke off.
    #[error("the Docker daemon cannot be reached: {0}")]
    Unreachable(String),
    /// It does not have that.
    #[error("the Docker daemon does not know the container")]
    Unknown,
    /// It answered with an error.
    #[error("the Docker daemon refused: {0}")]
    Refused(String),
    /// It does not answer.
    #[error("the Docker daemon does not answer within {DEADLINE:?}")]
    Silent,
}

/// A daemon at a unix socket.
#[derive(Debug)]
pub(super) struct Daemon {
    host: String,
    socket: String,
    client: OnceCell<(bollard::Docker, String)>,
}

/// What is known of a container.
#[derive(Debug, Clone)]
pub(super) struct Container {
    /// Its id.
    pub(super) id: String,
    /// Its name.
    pub(super) name: String,
    /// Its image, as whoever started it named it.
    pub(super) image: String,
    /// Its labels.
    pub(super) labels: HashMap<String, String>,
    /// Whether its output is a terminal.
    pub(super) has_terminal: bool,
    /// Which way its log is kept.
    pub(super) log_driver: String,
    /// Whether it runs.
    pub(super) is_running: bool,
    /// When it last started; 0: never.
    pub(super) started_at: u64,
    /// When it last ended; 0: never.
    pub(super) finished_at: u64,
    /// How, if it has.
    pub(super) exit_code: u32,
    /// Whether memory was what ended it.
    pub(super) is_out_of_memory: bool,
}

/// What happens to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It started.
    Started,
    /// It ended.
    Died {
        /// With this status.
        code: u32,
    },
    /// It has no memory left.
    OutOfMemory,
    /// It is gone.
    Destroyed,
}

/// Bytes of a log, as they come.
pub(super) struct LogBytes {
    body: Incoming,
    /// Moved on only when more is asked for: what is not read stays with the daemon, and what has come is had
    /// without waiting for another task.
    connection: Pin<Box<Connection<TokioIo<UnixStream>, Empty<Bytes>>>>,
    is_over: bool,
}

impl Daemon {
    /// At `unix:///path`; it need not answer yet.
    pub(super) fn new(host: &str) -> Result<Self, DaemonError> {
        let socket = host.strip_prefix("unix://").filter(|path| path.starts_with('/'));
        let socket = socket.ok_or_else(|| DaemonError::Address(host.to_owned()))?.to_owned();
        Ok(Self { host: host.to_owned(), socket, client: OnceCell::new() })
    }

    /// The client, and the daemon's name, by which its containers are remembered.
    async fn client(&self) -> Result<&(bollard::Docker, String), DaemonError> {
        self.client
            .get_or_try_init(|| async {
                let (seconds, version) = (DEADLINE.as_secs(), bollard::API_DEFAULT_VERSION);
                let client = bollard::Docker::connect_with_unix(&self.host, seconds, version)
                    .map_err(|error| DaemonError::Unreachable(error.to_string()))?;
                let client = within(client.negotiate_version()).await?;
                let info = within(client.info()).await?;
                // Copies of a machine's disk have the same id.
                let (id, name) = (info.id.unwrap_or_default(), info.name.unwrap_or_default());
                Ok((client, format!("{id} {name}")))
            })
            .await
    }

    /// What its containers are remembered by.
    pub(super) async fn name(&self) -> Result<&str, DaemonError> {
        Ok(&self.client().await?.1)
    }

    /// The ids of the containers that have our label, running or not.
    pub(super) async fn containers(&self) -> Result<Vec<String>, DaemonError> {
        let (client, _) = self.client().await?;
        let filters = HashMap::from([("label", vec![ENVIRONMENT_LABEL])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let found = within(client.list_containers(Some(options))).await?;
        Ok(found.into_iter().filter_map(|container| container.id).collect())
    }

    /// A container.
    pub(super) async fn container(&self, id: &str) -> Result<Container, DaemonError> {
        let (client, _) = self.client().await?;
        let found = client.inspect_container(id, None::<InspectContainerOptions>);
        Ok(Container::from(within(found).await?))
    }

    /// What happens to containers that have our label, since a time and from now on.
    pub(super) async fn changes(
        &self,
        since: Timestamp,
    ) -> Result<impl Stream<Item = Result<(String, u64, Change), DaemonError>>, DaemonError> {
        let (client, _) = self.client().await?;
        let events = ["start", "die", "oom", "destroy"];
        let filters = HashMap::from([
            ("type", vec!["container"]),
            ("label", vec![ENVIRONMENT_LABEL]),
            ("event", events.to_vec()),
        ]);
        let options = EventsOptionsBuilder::default().since(&seconds(since)).filters(&filters);
        let events = client.events(Some(options.build()));
        Ok(events.filter_map(async |event| match event {
            Ok(event) => change(event).map(Ok),
            Err(error) => Some(Err(DaemonError::from(error))),
        }))
    }

    /// Whether the daemon leaves out lines when a log is rotated while it is followed: before version 23 it does
    /// where its driver is `local`.
    pub(super) async fn leaves_out(&self, container: &Container) -> Result<bool, DaemonError> {
        let version = self.client().await?.0.client_version();
        let is_old = (version.major_version, version.minor_version) < (1, 42);
        Ok(is_old && container.log_driver == "local")
    }

    /// A container's log since a time: up to its end now, or as it goes on.
    pub(super) async fn log(
        &self,
        id: &str,
        since: Option<Timestamp>,
        follows: bool,
    ) -> Result<LogBytes, DaemonError> {
        let (client, _) = self.client().await?;
        let version = client.client_version();
        let path = format!(
            "/v{}.{}/containers/{id}/logs?stdout=1&stderr=1&timestamps=1&follow={}&since={}",
            version.major_version,
            version.minor_version,
            u8::from(follows),
            since.map_or_else(|| "0".to_owned(), seconds),
        );
        let request = Request::get(path).header("host", "docker").body(Empty::<Bytes>::new());
        let request = request.map_err(|error| DaemonError::Refused(error.to_string()))?;
        let answer = async {
            let socket = UnixStream::connect(&self.socket).await;
            let socket = socket.map_err(|error| DaemonError::Unreachable(error.to_string()))?;
            let handshake = hyper::client::conn::http1::Builder::new()
                .max_buf_size(64 << 10)
                .handshake(TokioIo::new(socket));
            let (mut sender, connection) = handshake.await?;
            let mut connection = Box::pin(connection);
            // Losing the connection is losing the answer.
            let answer = tokio::select! {
                answer = sender.send_request(request) => answer?,
                ended = &mut connection => {
                    ended?;
                    return Err(DaemonError::Unreachable("it has closed the connection".to_owned()));
                }
            };
            Ok::<_, DaemonError>((answer, connection))
        };
        let answer = tokio::time::timeout(DEADLINE, answer).await;
        let (answer, connection) = answer.map_err(|_| DaemonError::Silent)??;
        let status = answer.status();
        let mut bytes = LogBytes { body: answer.into_body(), connection, is_over: false };
        if status == StatusCode::OK {
            return Ok(bytes);
        }
        let mut text = Vec::new();
        while text.len() < ERROR_LIMIT
            && let Ok(Some(more)) = bytes.next_within(DEADLINE).await
        {
            text.extend_from_slice(&more);
        }
        text.truncate(ERROR_LIMIT);
        match status {
            // Conflict: the container is being removed.
            StatusCode::NOT_FOUND | StatusCode::CONFLICT => Err(DaemonError::Unknown),
            _ => Err(DaemonError::Refused(String::from_utf8_lossy(&text).trim().to_owned())),
        }
    }
}

impl LogBytes {
    /// The next bytes; None at the end. Losing this future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, DaemonError> {
        poll_fn(|context| {
            let mut is_moved = false;
            loop {
                match Pin::new(&mut self.body).poll_frame(context) {
                    Poll::Ready(frame) => match frame.transpose()?.map(Frame::into_data) {
                        None => return Poll::Ready(Ok(None)),
                        Some(Ok(bytes)) => return Poll::Ready(Ok(Some(bytes))),
                        Some(Err(_trailers)) => {}
                    },
                    Poll::Pending if is_moved => return Poll::Pending,
                    Poll::Pending => {
                        // Its end, or its failure, is that of the body, too.
                        is_moved = true;
                        if !self.is_over {
                            self.is_over = self.connection.as_mut().poll(context).is_ready();
                        }
                    }
                }
            }
        })
        .await
    }

    /// The same where the end is known to come.
    pub(super) async fn next_within(
        &mut self,
        deadline: Duration,
    ) -> Result<Option<Bytes>, DaemonError> {
        let next = tokio::time::timeout(deadline, self.next()).await;
        next.map_err(|_| DaemonError::Silent)?
    }
}

impl From<ContainerInspectResponse> for Container {
    fn from(found: ContainerInspectResponse) -> Self {
        let (config, state) = (found.config.unwrap_or_default(), found.state.unwrap_or_default());
        let host = found.host_config.unwrap_or_default();
        let at = |text: Option<String>| text.and_then(|text| nanos(&text)).unwrap_or(0);
        Self {
            id: found.id.unwrap_or_default(),
            name: found.name.unwrap_or_default().trim_start_matches('/').to_owned(),
            image: config.image.unwrap_or_default(),
            labels: config.labels.unwrap_or_default(),
            has_terminal: config.tty.unwrap_or_default(),
            log_driver: host.log_config.and_then(|config| config.typ).unwrap_or_default(),
            is_running: state.running.unwrap_or_default(),
            started_at: at(state.started_at),
            finished_at: at(state.finished_at),
            exit_code: code(state.exit_code),
            is_out_of_memory: state.oom_killed.unwrap_or_default(),
        }
    }
}

fn change(event: EventMessage) -> Option<(String, u64, Change)> {
    let at = u64::try_from(event.time_nano?).ok()?;
    let actor = event.actor?;
    let change = match event.action?.as_str() {
        "start" => Change::Started,
        "die" => {
            let status = actor.attributes.as_ref().and_then(|said| said.get("exitCode"));
            Change::Died { code: code(status.and_then(|status| status.parse().ok())) }
        }
        "oom" => Change::OutOfMemory,
        "destroy" => Change::Destroyed,
        _ => return None,
    };
    Some((actor.id?, at, change))
}

/// A status as Docker tells it; on some systems it may be below 0.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "as the kernel cuts it")]
fn code(status: Option<i64>) -> u32 {
    status.unwrap_or_default() as u32
}

/// As Docker takes a time: seconds since the Unix epoch, with nine digits after the point.
fn seconds(at: Timestamp) -> String {
    format!("{}.{:09}", at.nanos() / 1_000_000_000, at.nanos() % 1_000_000_000)
}

async fn within<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, DaemonError> {
    let answer = tokio::time::timeout(DEADLINE, call).await;
    Ok(answer.map_err(|_| DaemonError::Silent)??)
}

impl From<Error> for DaemonError {
    fn from(error: Error) -> Self {
        match error {
            Error::DockerResponseServerError { status_code: 404, .. } => Self::Unknown,
            Error::DockerResponseServerError { message, .. } => Self::Refused(message),
            error => Self::Unreachable(error.to_string()),
        }
    }
}

impl From<hyper::Error> for DaemonError {
    fn from(error: hyper::Error) -> Self {
        Self::Unreachable(error.to_string())
    }
}
