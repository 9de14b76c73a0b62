//! The guest's binary with a real program, outside any container, against an edge made here.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed, in its helpers, too"
)]

mod edge;
mod endings;
mod inputs;
mod outputs;
mod terminals;
