//! SSH edge processes and their heartbeats.
