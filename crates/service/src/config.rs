//! Configuration: documented defaults, then a TOML file, then the environment. An unknown key is an error.

mod database;
mod file;
mod http;
#[cfg(feature = "listener")]
mod kafka;
mod known;
mod load;
mod log;
mod problem;
mod role;
mod tls;

pub use database::Database;
pub use file::Files;
pub(crate) use file::secret;
pub use http::Http;
#[cfg(feature = "listener")]
pub use kafka::check as check_kafka;
pub use load::{Error, Unknown, load, to_toml};
pub use log::{Log, LogFormat};
pub use problem::{BadFilter, Problem};
pub use role::Role;
pub use tls::SslMode;

#[cfg(test)]
mod tests;
