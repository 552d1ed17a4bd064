//! The order context: takes orders, publishes them through its outbox, and learns their outcome.

pub mod config;
pub mod db;
pub mod domain;
pub mod http;
pub mod intake;
pub mod outcomes;
pub mod pending;
mod serve;

pub use serve::serve;
