//! What a log drain can be told, as the API takes it.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Name;
use crate::prompt::file_text;

#[derive(Debug, Subcommand)]
pub(crate) enum Create {
    /// Syslog (RFC 5424) over TLS (RFC 5425).
    Syslog {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        destination: SyslogDestination,
        #[command(flatten)]
        options: Options,
    },
    /// Batches of JSON by HTTPS POST.
    Https {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        destination: HttpsDestination,
        #[command(flatten)]
        options: Options,
    },
}

/// Where syslog goes.
#[derive(Debug, Args)]
pub(crate) struct SyslogDestination {
    /// The receiver's host name or address.
    #[arg(long, value_name = "HOST")]
    host: String,
    /// The receiver's port.
    #[arg(long, value_name = "PORT", default_value_t = 6514, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// The certificate authorities to trust, in PEM, instead of the system's.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<String>,
    /// The name that the receiver's certificate must have; default: the host.
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
}

/// Where HTTPS goes.
#[derive(Debug, Args)]
pub(crate) struct HttpsDestination {
    /// The receiver's address, https://...
    #[arg(long, value_name = "URL")]
    url: String,
    /// What a batch looks like.
    #[arg(long, default_value = "json-lines", value_parser = ["json-lines", "json-array"])]
    format: String,
    /// How a batch is compressed.
    #[arg(long, default_value = "gzip", value_parser = ["gzip", "none"])]
    compression: String,
    /// The certificate authorities to trust, in PEM, instead of the system's.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<String>,
    #[command(flatten)]
    headers: Headers,
}

/// Headers of every request; all are kept sealed.
#[derive(Debug, Args)]
pub(crate) struct Headers {
    /// A header of every request, 'NAME: VALUE'; may be repeated. Others on this machine can see
    /// the command line: for tokens, use --header-file.
    #[arg(long, value_name = "HEADER")]
    header: Vec<String>,
    /// A file of headers, one 'NAME: VALUE' on each line; - for standard input.
    #[arg(long, value_name = "FILE")]
    header_file: Option<String>,
}

/// What a drain of any kind can be told.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Whether it takes the logs of apps; a new drain does, unless told =false.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    apps: Option<bool>,
    /// Whether it takes the logs of databases; a new drain does, unless told =false.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    databases: Option<bool>,
    /// Whether it takes ephemeral sessions; a new drain does, unless told =false.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sessions: Option<bool>,
    /// What becomes of terminal control sequences in lines.
    #[arg(long, value_parser = ["keep", "strip"])]
    control_sequences: Option<String>,
    /// Which redraws of a line (progress bars) are sent: each, or the last.
    #[arg(long, value_parser = ["keep", "last"])]
    redraws: Option<String>,
}

/// What of a drain can be changed.
#[derive(Debug, Args)]
pub(crate) struct Changes {
    /// A new handle.
    #[arg(long = "handle", value_name = "HANDLE")]
    new_handle: Option<String>,
    /// The receiver's host name or address (syslog).
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// The receiver's port (syslog).
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// The name that the receiver's certificate must have (syslog); empty: the host.
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// The receiver's address (HTTPS).
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// What a batch looks like (HTTPS).
    #[arg(long, value_parser = ["json-lines", "json-array"])]
    format: Option<String>,
    /// How a batch is compressed (HTTPS).
    #[arg(long, value_parser = ["gzip", "none"])]
    compression: Option<String>,
    /// The certificate authorities to trust, in PEM; empty: the system's.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<String>,
    #[command(flatten)]
    headers: Headers,
    /// Send no headers of your own any more.
    #[arg(long, conflicts_with_all = ["header", "header_file"])]
    remove_headers: bool,
    #[command(flatten)]
    options: Options,
}

impl Create {
    /// The drain's name, and the API's request for it.
    pub(crate) fn body(self) -> Result<(Name, Value)> {
        let (name, kind, destination, headers, options) = match self {
            Self::Syslog { name, destination: to, options } => {
                let destination = json!({
                    "host": to.host,
                    "port": to.port,
                    "server_name": to.server_name,
                    "ca_certificates": ca_certificates(to.ca_file.as_deref())?,
                });
                (name, "syslog_tls_tcp", destination, Map::new(), options)
            }
            Self::Https { name, destination: to, options } => {
                let destination = json!({
                    "url": to.url,
                    "format": to.format.replace('-', "_"),
                    "compression": to.compression,
                    "ca_certificates": ca_certificates(to.ca_file.as_deref())?,
                });
                (name, "https_post", destination, to.headers.read()?, options)
            }
        };
        // A drain takes everything unless told otherwise: a log that is missed is missed for good.
        let mut body = json!({
            "handle": name.handle,
            "kind": kind,
            "destination": destination,
            "drain_apps": true,
            "drain_databases": true,
            "drain_ephemeral_sessions": true,
        });
        if !headers.is_empty() {
            insert(&mut body, "credentials", json!({ "headers": headers }));
        }
        options.insert_into(&mut body);
        Ok((name, body))
    }
}

impl Changes {
    /// The API's request. A destination is replaced whole, so it begins with the current one.
    pub(crate) fn body(self, current: &Value) -> Result<Value> {
        let mut destination = current.get("destination").cloned().unwrap_or_else(|| json!({}));
        let before = destination.clone();
        let empty_is_null = |text: String| if text.is_empty() { Value::Null } else { json!(text) };
        let certificates = match self.ca_file {
            Some(file) if file.is_empty() => Some(Value::Null),
            Some(file) => Some(json!(ca_certificates(Some(&file))?)),
            None => None,
        };
        let changes = [
            ("host", self.host.map(Value::from)),
            ("port", self.port.map(Value::from)),
            ("server_name", self.server_name.map(empty_is_null)),
            ("url", self.url.map(Value::from)),
            ("format", self.format.map(|format| json!(format.replace('-', "_")))),
            ("compression", self.compression.map(Value::from)),
            ("ca_certificates", certificates),
        ];
        for (name, value) in changes {
            let Some(value) = value else { continue };
            if before.get(name).is_none() {
                let kind = current.get("kind").and_then(Value::as_str).unwrap_or("this kind");
                bail!("a drain of the kind {kind} has no {}", name.replace('_', " "));
            }
            insert(&mut destination, name, value);
        }
        let mut body = json!({});
        if destination != before {
            insert(&mut body, "destination", destination);
        }
        if let Some(handle) = self.new_handle {
            insert(&mut body, "handle", json!(handle));
        }
        let headers = self.headers.read()?;
        if self.remove_headers {
            insert(&mut body, "credentials", Value::Null);
        } else if !headers.is_empty() {
            insert(&mut body, "credentials", json!({ "headers": headers }));
        }
        self.options.insert_into(&mut body);
        Ok(body)
    }
}

impl Options {
    fn insert_into(self, body: &mut Value) {
        let fields = [
            ("drain_apps", self.apps.map(Value::from)),
            ("drain_databases", self.databases.map(Value::from)),
            ("drain_ephemeral_sessions", self.sessions.map(Value::from)),
            ("control_sequences", self.control_sequences.map(Value::from)),
            ("redraws", self.redraws.map(Value::from)),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                insert(body, name, value);
            }
        }
    }
}

impl Headers {
    fn read(&self) -> Result<Map<String, Value>> {
        let file = self.header_file.as_deref().map(file_text).transpose()?.unwrap_or_default();
        let lines = file.lines().filter(|line| !line.trim().is_empty());
        let mut headers = Map::new();
        for line in self.header.iter().map(String::as_str).chain(lines) {
            // The line may hold a token, so the complaint does not show it.
            let Some((name, value)) = line.split_once(':') else {
                bail!("a header is not 'NAME: VALUE': it has no colon");
            };
            let name = name.trim();
            if headers.insert(name.to_owned(), json!(value.trim())).is_some() {
                bail!("the header {name} is given twice");
            }
        }
        Ok(headers)
    }
}

fn ca_certificates(file: Option<&str>) -> Result<Option<String>> {
    let Some(file) = file else { return Ok(None) };
    let text = file_text(file)?;
    if text.contains("PRIVATE KEY") {
        bail!("{file} holds a private key; give the certificate authority's certificate only");
    }
    if !text.contains("BEGIN CERTIFICATE") {
        bail!("{file} holds no certificate in PEM");
    }
    Ok(Some(text))
}

fn insert(object: &mut Value, name: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(name.to_owned(), value);
    }
}

#[cfg(test)]
mod tests;
