//! What every service needs once: configuration, its database, telemetry, health, HTTP, graceful shutdown, the readiness notification
//! to its supervisor; with the features `keeper` and `listener` also its part of an outbox.

pub mod cli;
pub mod config;
pub mod database;
mod error;
pub mod health;
pub mod http;
#[cfg(feature = "keeper")]
mod keeper;
#[cfg(feature = "listener")]
pub mod listener;
pub mod metrics;
#[cfg(feature = "keeper")]
pub mod publisher;
pub mod supervisor;
pub mod telemetry;

pub use error::Error;
