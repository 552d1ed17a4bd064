//! Configuration: documented defaults, then a TOML file, then the environment. Unknown keys are refused.

mod check;
mod known;
mod load;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::postgres::PgSslMode;

pub(crate) use check::secret;
pub use check::{Files, Problem};
pub use load::{Error, Unknown, load, to_toml};

/// The HTTP listener.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Address and port to listen at.
    pub listen: SocketAddr,
    /// The largest body that is read, in bytes.
    pub body_limit: usize,
    /// How long a client may take to send a request's headers, in milliseconds.
    pub header_timeout_ms: u64,
    /// How long a request may take, its body included, and then as long again until its answer is read, in
    /// milliseconds.
    pub request_timeout_ms: u64,
    /// Connections at the same time; for a further one, the one that has been idle or slow longest is closed.
    pub max_connections: usize,
    /// Requests at work at the same time; one more is answered 503 at once. Health is always answered.
    pub max_requests: usize,
}

impl Http {
    /// The defaults, at a loopback port.
    #[must_use]
    pub fn at(port: u16) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], port)),
            body_limit: 64 * 1024,
            header_timeout_ms: 5_000,
            request_timeout_ms: 15_000,
            max_connections: 1024,
            max_requests: 512,
        }
    }

    pub(crate) fn header_timeout(&self) -> Duration {
        Duration::from_millis(self.header_timeout_ms)
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }
}

/// A service's database, and the role that it uses there.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// The server's host.
    pub host: String,
    /// The server's port.
    pub port: u16,
    /// The database's name.
    pub name: String,
    /// The role.
    pub user: String,
    /// The file that holds the role's password; a trailing newline does not count.
    pub password_file: Option<PathBuf>,
    /// Whether connections are encrypted, and who must be at the other end.
    pub sslmode: SslMode,
    /// The file with the authorities that may have signed the server's certificate, in PEM; they are trusted beside those
    /// that this machine trusts.
    pub sslrootcert: Option<PathBuf>,
    /// The file with the certificate that is shown to the server, and those up to its authority, in PEM.
    pub sslcert: Option<PathBuf>,
    /// The file with that certificate's key, in PEM, not encrypted.
    pub sslkey: Option<PathBuf>,
    /// Connections at the same time. More than about 8 are slower.
    pub max_connections: u32,
    /// How long a statement may take, in milliseconds.
    pub statement_timeout_ms: u64,
    /// How long a statement may wait for a lock, in milliseconds.
    pub lock_timeout_ms: u64,
    /// How long a transaction may rest, in milliseconds: a frozen process holds its locks no longer.
    pub idle_in_transaction_timeout_ms: u64,
}

impl Database {
    /// The defaults, for a database on this machine.
    #[must_use]
    pub fn local(port: u16, name: &str, user: &str) -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port,
            name: name.to_owned(),
            user: user.to_owned(),
            password_file: None,
            sslmode: SslMode::Prefer,
            sslrootcert: None,
            sslcert: None,
            sslkey: None,
            max_connections: 8,
            statement_timeout_ms: 10_000,
            lock_timeout_ms: 5_000,
            idle_in_transaction_timeout_ms: 10_000,
        }
    }
}

impl Database {
    /// The same database, through one connection of another role.
    #[must_use]
    pub fn as_role(&self, role: &Role) -> Self {
        Self {
            user: role.user.clone(),
            password_file: role.password_file.clone(),
            max_connections: 1,
            ..self.clone()
        }
    }
}

/// How connections to PostgreSQL are encrypted, in libpq's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// Never.
    Disable,
    /// If the server offers it; whoever answers is taken for the server.
    Prefer,
    /// Always; whoever answers is taken for the server.
    Require,
    /// Always, and the server's certificate must come from a trusted authority, whatever name it holds. An authority
    /// that this machine trusts will do as well as `sslrootcert`, so prefer [`SslMode::VerifyFull`].
    VerifyCa,
    /// Always, and the server's certificate must come from a trusted authority and hold the server's host.
    VerifyFull,
}

impl SslMode {
    fn verifies(self) -> bool {
        matches!(self, Self::VerifyCa | Self::VerifyFull)
    }
}

impl From<SslMode> for PgSslMode {
    fn from(mode: SslMode) -> Self {
        match mode {
            SslMode::Disable => Self::Disable,
            SslMode::Prefer => Self::Prefer,
            SslMode::Require => Self::Require,
            SslMode::VerifyCa => Self::VerifyCa,
            SslMode::VerifyFull => Self::VerifyFull,
        }
    }
}

/// A further role of a service's database, for one of its works: its owner's or its keeper's.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// The role.
    pub user: String,
    /// The file that holds the role's password; a trailing newline does not count.
    pub password_file: Option<PathBuf>,
}

impl Role {
    /// A role without a password.
    #[must_use]
    pub fn new(user: &str) -> Self {
        Self {
            user: user.to_owned(),
            password_file: None,
        }
    }
}

/// What is logged, to standard error.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Levels, as in `info,sqlx=warn`.
    pub filter: String,
    /// The lines' form.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

/// The form of a log's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
