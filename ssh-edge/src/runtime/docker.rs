//! Docker Engine.
//!
//! The engine must be on this machine: containers mount the edge's sockets.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Network, NetworkCreateRequest,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ListContainersOptionsBuilder, ListNetworksOptionsBuilder,
    RemoveContainerOptionsBuilder, StartContainerOptions,
};
use guest_protocol::{GUEST_PATH, SOCKET_PATH, TOKEN_VARIABLE};
use model::{EphemeralSession, Id};
use tokio::sync::OnceCell;

use super::{Container, ContainerRuntime, Owned, RuntimeError};

const EDGE_LABEL: &str = "dev.spillway.edge";
const SESSION_LABEL: &str = "dev.spillway.session";
const ENVIRONMENT_LABEL: &str = "dev.spillway.environment";
const NETWORK_LABEL: &str = "dev.spillway.network";

const QUESTION_DEADLINE: Duration = Duration::from_secs(10);
/// Starting takes a fifth of a second on a quiet machine; a cold disk or a queue of starts, more.
const START_DEADLINE: Duration = Duration::from_mins(1);

/// What maintenance needs: to change owners and modes of the app's files, and to become the app's
/// user. Without: raw packets, devices, chroot, file capabilities, low ports, the audit log.
const CAPABILITIES: [&str; 7] =
    ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID"];

/// Docker Engine at a unix socket.
#[derive(Debug)]
pub(crate) struct Docker {
    host: String,
    network: String,
    client: OnceCell<bollard::Docker>,
}

impl Docker {
    /// An engine at `host` (`unix:///path`), which need not answer yet, whose containers get this
    /// network: the name of a bridge that is made when missing, or `none`.
    #[must_use]
    pub(crate) fn new(host: String, network: String) -> Self {
        Self { host, network, client: OnceCell::new() }
    }

    async fn client(&self) -> Result<&bollard::Docker, RuntimeError> {
        self.client
            .get_or_try_init(|| async {
                let seconds = START_DEADLINE.as_secs();
                let version = bollard::API_DEFAULT_VERSION;
                let client = bollard::Docker::connect_with_unix(&self.host, seconds, version)
                    .map_err(|error| RuntimeError::Unreachable(error.to_string()))?;
                within(QUESTION_DEADLINE, client.negotiate_version()).await
            })
            .await
    }

    /// The id of the sessions' network, which is made if it is missing. Containers in it cannot
    /// reach one another.
    async fn network(&self, client: &bollard::Docker) -> Result<String, RuntimeError> {
        if self.network == "none" {
            return Ok(self.network.clone());
        }
        if let Some(id) = self.oldest_network(client).await? {
            return Ok(id);
        }
        let request = NetworkCreateRequest {
            name: self.network.clone(),
            driver: Some("bridge".to_owned()),
            options: Some(HashMap::from([(
                "com.docker.network.bridge.enable_icc".to_owned(),
                "false".to_owned(),
            )])),
            labels: Some(HashMap::from([(NETWORK_LABEL.to_owned(), "sessions".to_owned())])),
            ..NetworkCreateRequest::default()
        };
        let made = within(QUESTION_DEADLINE, client.create_network(request)).await?;
        Ok(self.oldest_network(client).await?.unwrap_or(made.id))
    }

    /// Names of networks are not unique, and two edges may make theirs at once. All use the oldest.
    async fn oldest_network(
        &self,
        client: &bollard::Docker,
    ) -> Result<Option<String>, RuntimeError> {
        let networks = self.networks(client).await?.into_iter();
        let oldest = networks.min_by_key(|network| (network.created.clone(), network.id.clone()));
        Ok(oldest.and_then(|network| network.id))
    }

    async fn networks(&self, client: &bollard::Docker) -> Result<Vec<Network>, RuntimeError> {
        let filters = HashMap::from([("name", vec![self.network.as_str()])]);
        let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
        let mut networks = within(QUESTION_DEADLINE, client.list_networks(Some(options))).await?;
        // The filter takes a part of a name.
        networks.retain(|network| network.name.as_deref() == Some(&self.network));
        Ok(networks)
    }

    async fn create_and_start(
        &self,
        client: &bollard::Docker,
        container: &Container,
    ) -> Result<(), RuntimeError> {
        let network = self.network(client).await?;
        let name = container_name(container.session);
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        let body = body(container, &network);
        within(START_DEADLINE, client.create_container(Some(options), body)).await?;
        within(START_DEADLINE, client.start_container(&name, None::<StartContainerOptions>)).await
    }

    /// Removes a container by its name or id.
    async fn remove_named(&self, name: &str) -> Result<(), RuntimeError> {
        let client = self.client().await?;
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let removal = async {
            match client.remove_container(name, Some(options)).await {
                // Gone, or the engine is removing it by itself.
                Err(Error::DockerResponseServerError { status_code: 404 | 409, .. }) => Ok(()),
                outcome => outcome,
            }
        };
        within(START_DEADLINE, removal).await
    }
}

#[async_trait]
impl ContainerRuntime for Docker {
    async fn has_image(&self, image: &str) -> Result<bool, RuntimeError> {
        if !is_reference(image) {
            return Ok(false);
        }
        let client = self.client().await?;
        let image = within(QUESTION_DEADLINE, found(client.inspect_image(image))).await?;
        Ok(image.is_some())
    }

    async fn start(&self, container: &Container) -> Result<(), RuntimeError> {
        let client = self.client().await?;
        match self.create_and_start(client, container).await {
            // Another edge that stops removes the network while nothing is in it.
            Err(RuntimeError::Refused(why)) if why.contains("network") => {
                self.remove(container.session).await?;
                self.create_and_start(client, container).await
            }
            outcome => outcome,
        }
    }

    async fn remove(&self, session: Id<EphemeralSession>) -> Result<(), RuntimeError> {
        self.remove_named(&container_name(session)).await
    }

    // An engine that dies while it removes a container may have taken its name already.
    async fn remove_owned(&self, owned: &Owned) -> Result<(), RuntimeError> {
        self.remove_named(&owned.id).await
    }

    async fn list(&self) -> Result<Vec<Owned>, RuntimeError> {
        let client = self.client().await?;
        let filters = HashMap::from([("label", vec![EDGE_LABEL, SESSION_LABEL])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let containers = within(QUESTION_DEADLINE, client.list_containers(Some(options))).await?;
        let owned = containers.into_iter().filter_map(|container| {
            let labels = container.labels?;
            let edge = labels.get(EDGE_LABEL)?.parse().ok()?;
            let session = labels.get(SESSION_LABEL)?.parse().ok()?;
            Some(Owned { id: container.id?, edge, session })
        });
        Ok(owned.collect())
    }

    async fn tidy(&self) {
        let Ok(client) = self.client().await else { return };
        for network in self.networks(client).await.unwrap_or_default() {
            let ours = network.labels.is_some_and(|labels| labels.contains_key(NETWORK_LABEL));
            if let (true, Some(id)) = (ours, network.id) {
                // Refused while another edge's session is in it, which is as it should be.
                drop(within(QUESTION_DEADLINE, client.remove_network(&id)).await);
            }
        }
    }
}

fn body(container: &Container, network: &str) -> ContainerCreateBody {
    let host_config = HostConfig {
        auto_remove: Some(true),
        binds: Some(vec![
            format!("{}:{SOCKET_PATH}", container.socket.display()),
            format!("{}:{GUEST_PATH}:ro", container.guest.display()),
        ]),
        cap_add: Some(CAPABILITIES.map(str::to_owned).to_vec()),
        cap_drop: Some(vec!["ALL".to_owned()]),
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        memory: Some(container.limits.memory_bytes),
        // The same as memory: no swap.
        memory_swap: Some(container.limits.memory_bytes),
        nano_cpus: Some(i64::from(container.limits.cpu_millis) * 1_000_000),
        network_mode: Some(network.to_owned()),
        pids_limit: Some(container.limits.pids.into()),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        ..HostConfig::default()
    };
    ContainerCreateBody {
        cmd: Some(Vec::new()),
        entrypoint: Some(vec![GUEST_PATH.to_owned()]),
        env: Some(vec![format!("{TOKEN_VARIABLE}={}", container.token.expose())]),
        healthcheck: Some(bollard::models::HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..Default::default()
        }),
        host_config: Some(host_config),
        hostname: Some(container.hostname.clone()),
        image: Some(container.image.clone()),
        labels: Some(HashMap::from([
            (EDGE_LABEL.to_owned(), container.edge.to_string()),
            (SESSION_LABEL.to_owned(), container.session.to_string()),
            (ENVIRONMENT_LABEL.to_owned(), container.environment.to_string()),
        ])),
        open_stdin: Some(false),
        tty: Some(false),
        ..ContainerCreateBody::default()
    }
}

fn container_name(session: Id<EphemeralSession>) -> String {
    format!("spillway-{session}")
}

/// Whether this can be an image's name. It becomes part of a path in the engine's API, and a tenant
/// has chosen it.
fn is_reference(image: &str) -> bool {
    (1..=512).contains(&image.len())
        && !image.contains("..")
        && !image.starts_with('/')
        && image.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte))
}

/// `None` for what the engine does not have.
async fn found<T>(question: impl Future<Output = Result<T, Error>>) -> Result<Option<T>, Error> {
    match question.await {
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
        answer => answer.map(Some),
    }
}

async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, RuntimeError> {
    match tokio::time::timeout(deadline, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(Error::DockerResponseServerError { message, .. })) => {
            Err(RuntimeError::Refused(message))
        }
        Ok(Err(error)) => Err(RuntimeError::Unreachable(error.to_string())),
        Err(_) => Err(RuntimeError::Silent(deadline)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_names_cannot_leave_their_place_in_a_path() {
        for good in ["busybox", "ghcr.io/acme/web:1.2", "acme/web@sha256:0123", "localhost:5000/a"]
        {
            assert!(is_reference(good), "{good}");
        }
        for bad in ["", "../containers", "a b", "a?b=c", "a#b", "a%2f", "/etc", &"x".repeat(513)] {
            assert!(!is_reference(bad), "{bad}");
        }
    }
}
