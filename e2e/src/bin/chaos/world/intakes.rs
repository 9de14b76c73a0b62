//! How logs get in: two intakes, the log sources, and what senders need to know of them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use e2e::certificates::ServerCertificate;
use e2e::services::free_port;
use http_body_util::Full;
use hyper::Request;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;
use tokio::process::Command;

use super::{PAIRS, World};
use crate::lines::Way;
use crate::senders::container;

/// The intakes' addresses and certificate, and the tokens of the log sources.
#[derive(Debug)]
pub(super) struct Intakes {
    http: [u16; PAIRS],
    syslog: [u16; PAIRS],
    authority: String,
    certificate: PathBuf,
    key: PathBuf,
    http_token: String,
    syslog_token: String,
    /// Why no container logs, if none does.
    pub(super) no_container: Option<String>,
}

impl Intakes {
    pub(super) fn new(certificate: &ServerCertificate, folder: &Path) -> Result<Self> {
        std::fs::create_dir(folder)?;
        let [_, chain, key] = certificate.write_to(folder)?;
        Ok(Self {
            http: [free_port()?, free_port()?],
            syslog: [free_port()?, free_port()?],
            authority: certificate.authority.clone(),
            certificate: chain,
            key,
            http_token: String::new(),
            syslog_token: String::new(),
            no_container: None,
        })
    }

    /// Where an intake takes HTTP.
    pub(super) fn http_port(&self, intake: usize) -> Option<u16> {
        self.http.get(intake).copied()
    }

    /// Tells an intake where to listen, and the first one whose containers to follow.
    pub(super) fn give(&self, command: &mut Command, intake: usize, docker_host: &str) {
        let port = |ports: &[u16; PAIRS]| ports.get(intake).copied().unwrap_or_default();
        command.args(["--intake-http-listen", &format!("127.0.0.1:{}", port(&self.http))]);
        command.args(["--intake-syslog-tls-listen", &format!("127.0.0.1:{}", port(&self.syslog))]);
        command.arg("--intake-syslog-tls-certificate").arg(&self.certificate);
        command.arg("--intake-syslog-tls-key").arg(&self.key);
        if intake == 0 && self.no_container.is_none() {
            command.args(["--intake-docker-host", docker_host]);
        }
    }
}

impl World {
    /// Makes the log sources, and starts the container that logs.
    pub(super) async fn create_sources(&mut self) -> Result<()> {
        for way in [Way::Http, Way::Syslog] {
            let name = ["source", "create", way.name()];
            let of = ["--environment", "production", "--app", "web"];
            let made = self.cli().json(&[&name[..], &of].concat()).await?;
            let token =
                made.get("token").and_then(Value::as_str).context("a source has a token")?;
            let kept = if way == Way::Http {
                &mut self.intakes.http_token
            } else {
                &mut self.intakes.syslog_token
            };
            token.clone_into(kept);
        }
        if self.intakes.no_container.is_none() {
            container::start(&*self.docker.lock().await).await?;
        }
        Ok(())
    }

    /// Why no container logs, if none does.
    pub(crate) fn no_container(&self) -> Option<&str> {
        self.intakes.no_container.as_deref()
    }

    /// Where an intake takes HTTP.
    pub(crate) fn http_address(&self, intake: usize) -> Result<SocketAddr> {
        let port = self.intakes.http_port(intake).context("there is such an intake")?;
        Ok((Ipv4Addr::LOCALHOST, port).into())
    }

    /// Where an intake takes syslog with TLS.
    pub(crate) fn syslog_address(&self, intake: usize) -> Result<SocketAddr> {
        let port = *self.intakes.syslog.get(intake).context("there is such an intake")?;
        Ok((Ipv4Addr::LOCALHOST, port).into())
    }

    /// A request with lines, under a key.
    pub(crate) fn http_request(&self, key: &str, body: Bytes) -> Result<Request<Full<Bytes>>> {
        let request = Request::post("/logs")
            .header("host", "localhost")
            .header("authorization", format!("Bearer {}", self.intakes.http_token))
            .header("content-type", "application/x-ndjson")
            .header("idempotency-key", key);
        Ok(request.body(Full::new(body))?)
    }

    /// The token of who sends syslog.
    pub(crate) fn syslog_token(&self) -> &str {
        &self.intakes.syslog_token
    }

    /// TLS that trusts the intakes.
    pub(crate) fn syslog_client(&self) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.intakes.authority.as_bytes())?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }
}
