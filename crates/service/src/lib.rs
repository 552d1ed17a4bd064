//! What every service needs once: configuration, its database, telemetry, health, HTTP, an orderly end, a word to its supervisor.

pub mod cli;
pub mod config;
pub mod database;
pub mod health;
pub mod http;
pub mod metrics;
pub mod supervisor;
pub mod telemetry;
