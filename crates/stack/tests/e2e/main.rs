//! The whole flow on the whole real stack.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests fail by panicking, and print what they measured"
)]

mod bounded;
mod contract;
mod crash;
mod dead_letters;
mod faults;
mod hostile;
mod invariant;
mod observability;
mod original_demo;
mod outcome;
mod reconciler;
mod retention;
mod rolled_back;
mod services;
mod throughput;
mod tls;
mod world;
