//! The whole flow on the whole real stack.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests fail by panicking, and print what they measured"
)]

mod bounded;
mod contract;
mod crash;
mod faults;
mod hostile;
mod invariant;
mod letters;
mod observability;
mod outcome;
mod reconciler;
mod retention;
mod seed;
mod services;
mod throughput;
mod tls;
mod world;
