//! How a process of Spillway is configured, starts, reports and stops. It knows none of the
//! services.

pub mod config;
mod shutdown;
mod telemetry;

pub use shutdown::Shutdown;
pub use telemetry::{LogFormat, TelemetrySettings, install_crypto_provider, start_telemetry};
