//! Frames to bytes and back (pure).
use crate::{FromEdge, FromGuest};
/// Placeholder.
#[derive(Debug, thiserror::Error)]
#[error("bad frame")]
pub struct DecodeError;
/// Placeholder.
#[derive(Debug, Default)]
pub struct Decoder;
/// Placeholder.
pub fn encode_edge(_frame: &FromEdge, _into: &mut Vec<u8>) {}
/// Placeholder.
pub fn encode_guest(_frame: &FromGuest, _into: &mut Vec<u8>) {}
