//! The whole flow on the whole real stack.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests fail by panicking and print their measurements"
)]

mod bounded;
mod contract;
mod crash;
mod dead_letters;
mod faults;
mod flow;
mod hostile;
mod invariant;
mod observability;
mod original_demo;
mod outcome;
mod reconciler;
mod reread;
mod retention;
mod rolled_back;
mod services;
mod slot;
mod takeover;
mod throughput;
mod tls;
mod topics;
mod world;
