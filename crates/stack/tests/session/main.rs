//! The program `stack` as a user runs it: `up`, `down`, `demo`. Each test has its own stack on free ports.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests fail by panicking and print their measurements"
)]

#[path = "../e2e/invariant.rs"]
mod invariant;
#[expect(dead_code, reason = "the tests of the flow use the rest")]
#[path = "../e2e/world.rs"]
mod world;

mod blackout;
mod home;
mod parts;
mod processes;
mod state;
mod supervision;
