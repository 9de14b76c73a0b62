//! Spillway's REST API, and the authority that signs engineers' certificates.
//!
//! `http` parses requests and renders answers, `app` has one function per use case, `authz` says who
//! may do what. Calls go from `http` to `app` to `authz` and the store, never back.

mod app;
mod authz;
mod config;
mod http;
mod keys;
mod server;

pub use app::passwords::{HashError, hash_password};
pub use config::{Config, Connections, Settings};
pub use http::openapi::{DescriptionError, openapi_json, openapi_yaml};
pub use server::{Bound, RunError, StartError, bind};
