//! The whole real stack as processes on one machine: PostgreSQL, Kafka, Kafka Connect with Debezium and the three
//! services. The demo and the end-to-end tests run on it.

pub mod background;
mod child;
pub mod command;
pub mod context;
pub mod demo;
pub mod description;
mod digest;
pub mod folder;
pub mod foreground;
pub mod home;
pub mod instance;
pub mod kafka;
pub mod parts;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod program;
mod replace;
mod secret;
pub mod services;
pub mod session;
pub mod stack;
mod status;
mod terminal;
pub mod testing;
pub mod tls;
pub mod topic;
pub mod unprivileged;
