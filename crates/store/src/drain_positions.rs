//! How far drains have got, and how they are.
