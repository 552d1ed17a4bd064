//! The order context: takes orders, publishes them through its outbox, and learns their outcome.

pub mod db;
pub mod domain;
pub mod intake;
pub mod outcomes;
