//! The section `database`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::file::{self, Files};
use super::problem::Problem;
use super::role::Role;
use super::tls::SslMode;

/// A service's database, and the role that the service connects as.
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
    /// Whether connections use TLS, and how the server proves itself.
    pub sslmode: SslMode,
    /// The file with further trusted authorities of the server's certificate, in PEM; those that this machine trusts are
    /// trusted too.
    pub sslrootcert: Option<PathBuf>,
    /// The file with the client's certificate and those up to its authority, in PEM.
    pub sslcert: Option<PathBuf>,
    /// The file with that certificate's key, in PEM, not encrypted.
    pub sslkey: Option<PathBuf>,
    /// Connections at the same time. More than about 8 are slower.
    pub max_connections: u32,
    /// How long a statement may take, in milliseconds.
    pub statement_timeout_ms: u64,
    /// How long a statement may wait for a lock, in milliseconds.
    pub lock_timeout_ms: u64,
    /// How long a transaction may be idle, in milliseconds: a frozen process holds its locks no longer.
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

impl Database {
    /// Checks the settings, without connecting.
    ///
    /// # Errors
    /// The first [`Problem`].
    pub fn check(&self, files: Files) -> Result<(), Problem> {
        if files == Files::Elsewhere {
            return self.contradicts();
        }
        file::password("database.password_file", self.password_file.as_deref())?;
        self.check_tls()
    }

    fn contradicts(&self) -> Result<(), Problem> {
        let contradiction = |setting, why| Err(Problem::Contradiction { setting, why });
        if self.sslrootcert.is_some() && !self.sslmode.verifies() {
            return contradiction(
                "database.sslrootcert",
                "has no effect: set database.sslmode to verify-full, or leave it out",
            );
        }
        if self.sslmode == SslMode::VerifyCa && self.sslrootcert.is_none() {
            return contradiction(
                "database.sslmode",
                "is verify-ca, which needs database.sslrootcert, since any public authority would do without it: set it",
            );
        }
        if self.sslcert.is_some() != self.sslkey.is_some() {
            return contradiction(
                "database.sslcert",
                "and database.sslkey need each other: set both, or neither",
            );
        }
        if self.sslcert.is_some() && self.sslmode == SslMode::Disable {
            return contradiction(
                "database.sslcert",
                "has no effect: set database.sslmode to another mode than disable, or leave it out",
            );
        }
        Ok(())
    }

    pub(crate) fn check_tls(&self) -> Result<(), Problem> {
        self.contradicts()?;
        let certificate = ("certificate in PEM", "-----BEGIN CERTIFICATE-----");
        for (setting, path, (what, mark)) in [
            ("database.sslrootcert", &self.sslrootcert, certificate),
            ("database.sslcert", &self.sslcert, certificate),
            (
                "database.sslkey",
                &self.sslkey,
                ("key in PEM that is not encrypted", " PRIVATE KEY-----"),
            ),
        ] {
            file::pem(setting, path.as_deref(), what, mark)?;
        }
        Ok(())
    }
}
