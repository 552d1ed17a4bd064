//! The whole real stack on one machine: PostgreSQL, Kafka, Kafka Connect with Debezium and the three services, as
//! processes. It is the demo, and what the end-to-end tests run against.

pub mod command;
pub mod demo;
pub mod description;
pub mod foreground;
pub mod home;
pub mod instance;
pub mod kafka;
pub mod parts;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod services;
pub mod session;
pub mod stack;
mod status;
pub mod testing;
pub mod tls;
pub mod topic;

/// Tells whoever sits before the terminal; standard output is for results.
#[macro_export]
macro_rules! say {
    ($($what:tt)*) => {{
        eprintln!($($what)*);
    }};
}
