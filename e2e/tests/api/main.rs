//! The API on a real database. Every answer that any of these tests gets is checked against
//! openapi.yaml.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the lints spare test functions, and these serve them"
)]

mod activity;
mod contract;
mod database_roles;
mod lists;
mod log_drains;
mod log_sources;
mod logs;
mod notices;
mod operations;
mod secrets;
mod sessions;
mod sign_in;
mod world;
