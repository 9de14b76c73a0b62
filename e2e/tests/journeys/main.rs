//! Journeys through everything: the built programs with real peers, from the engineer's terminal
//! to the customer's log endpoints.

mod app_lines;
mod docker_run;
mod faults;
mod life_of_the_platform;
mod loops;
mod printed_examples;
mod verification;
mod whole_path;
