//! Tests of drains, asked by the api and answered by a worker.
