//! Configuration: documented defaults, then a TOML file, then the environment. Unknown keys are refused.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting is unknown or of the wrong type; the text names its key and where it was set.
    #[error("the configuration is refused: {0}")]
    Refused(Box<figment::Error>),
    /// The file named on the command line is not there.
    #[error("there is no configuration file {0}")]
    NoFile(PathBuf),
}

/// Reads a service's settings: its defaults, then `file`, then variables `PREFIX__SECTION__KEY`.
///
/// # Errors
/// [`Error`].
pub fn load<T>(prefix: &str, file: Option<&Path>) -> Result<T, Error>
where
    T: Default + Serialize + DeserializeOwned,
{
    let mut figment = Figment::from(Serialized::defaults(T::default()));
    if let Some(path) = file {
        if !path.is_file() {
            return Err(Error::NoFile(path.to_owned()));
        }
        figment = figment.merge(Toml::file_exact(path));
    }
    figment
        .merge(Env::prefixed(&format!("{prefix}__")).split("__"))
        .extract()
        .map_err(|error| Error::Refused(Box::new(error)))
}

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
    /// How long a request may take, its body included, in milliseconds.
    pub request_timeout_ms: u64,
    /// Connections at the same time; a further one waits.
    pub max_connections: usize,
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
            max_connections: 8,
            statement_timeout_ms: 10_000,
            lock_timeout_ms: 5_000,
            idle_in_transaction_timeout_ms: 10_000,
        }
    }
}

/// The role that owns a database's tables: for migrations only.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// The role.
    pub user: String,
    /// The file that holds the role's password; a trailing newline does not count.
    pub password_file: Option<PathBuf>,
}

impl Owner {
    /// An owner without a password.
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

#[cfg(test)]
#[expect(
    clippy::result_large_err,
    reason = "figment's Jail asks for its own error"
)]
mod tests {
    use figment::Jail;

    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        http: Http,
        database: Database,
    }

    impl Default for Settings {
        fn default() -> Self {
            Self {
                http: Http::at(9000),
                database: Database::local(5433, "order_db", "order_service"),
            }
        }
    }

    fn load(file: Option<&str>) -> Result<Settings, Error> {
        super::load("ORDER", file.map(Path::new))
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
        Jail::expect_with(|jail| {
            jail.create_file("order.toml", "[database]\nport = 1\nhost = \"db\"")?;
            jail.set_env("ORDER__DATABASE__PORT", "2");
            jail.set_env("ORDERS__DATABASE__PORT", "3");
            let settings = load(Some("order.toml")).unwrap();
            assert_eq!(settings.database.port, 2);
            assert_eq!(settings.database.host, "db");
            assert_eq!(settings.http.listen.port(), 9000);
            Ok(())
        });
    }

    #[test]
    fn an_unknown_key_is_refused_wherever_it_stands() {
        Jail::expect_with(|jail| {
            jail.create_file("order.toml", "[database]\nprot = 1")?;
            let refused = load(Some("order.toml")).unwrap_err().to_string();
            assert!(
                refused.contains("prot") && refused.contains("order.toml"),
                "{refused}"
            );
            jail.set_env("ORDER__HTTP__LISTNE", "127.0.0.1:1");
            let refused = load(None).unwrap_err().to_string();
            assert!(refused.contains("listne"), "{refused}");
            Ok(())
        });
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let refused = load(Some("/nowhere/order.toml")).unwrap_err();
        assert!(matches!(refused, Error::NoFile(_)));
    }
}
