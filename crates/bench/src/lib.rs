//! Benchmarks. Each measures its alternatives alternately in one run, on a stack of its own, and prints ratios.

pub mod command;
pub mod consume;
pub mod flush;
mod measurement;
