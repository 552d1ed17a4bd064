//! What there is to know about a running stack, as a file that others read.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::ports::Ports;
use crate::tls::Certificates;

/// A running stack.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Description {
    /// Where the Order Service is.
    pub order_url: String,
    /// Where the Inventory Service is.
    pub inventory_url: String,
    /// Where the Inventory Worker shows its health.
    pub worker_url: String,
    /// Where Kafka Connect is.
    pub connect_url: String,
    /// Kafka's address for clients.
    pub kafka: String,
    /// Kafka's address for clients over TLS that log in as [`KAFKA_CLIENT`](crate::kafka::KAFKA_CLIENT); for tests only.
    pub kafka_tls: Option<String>,
    /// The order context's database.
    pub order_db: Database,
    /// The inventory context's database.
    pub inventory_db: Database,
    /// All ports.
    pub ports: Ports,
    /// The folder of the services' binaries.
    pub binaries: PathBuf,
    /// The folder that declares the connectors, one file each.
    pub connectors: PathBuf,
    /// The folder of the logs, one a part.
    pub logs: PathBuf,
    /// The file that this is written in, anew whenever a part has been started again.
    pub file: PathBuf,
    /// The process of each part that runs.
    pub pids: BTreeMap<String, u32>,
}

/// A database, and the folder with its roles' passwords.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Database {
    /// The server's host.
    pub host: String,
    /// The server's port.
    pub port: u16,
    /// The database's name.
    pub name: String,
    /// The folder with one file a role.
    pub secrets: PathBuf,
    /// The folder with the server's [certificates](Database::certificates), if it has some.
    pub tls: Option<PathBuf>,
}

impl Database {
    /// How to connect as `role`.
    ///
    /// # Panics
    /// If the role has no password file: the stack made one for each role.
    #[must_use]
    pub fn options(&self, role: &str) -> PgConnectOptions {
        let path = self.secrets.join(role);
        let password =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        PgConnectOptions::new_without_pgpass()
            .host(&self.host)
            .port(self.port)
            .database(&self.name)
            .username(role)
            .password(&password)
            // On loopback, as all parts of the stack do it.
            .ssl_mode(PgSslMode::Disable)
    }

    /// The server's certificates.
    ///
    /// # Panics
    /// If it has none: only those for tests do.
    #[must_use]
    pub fn certificates(&self) -> Certificates {
        let Some(folder) = &self.tls else {
            panic!("only the servers of tests have certificates");
        };
        Certificates::within(folder)
    }

    /// How to connect as the cluster's superuser.
    #[must_use]
    pub fn superuser(&self) -> PgConnectOptions {
        self.options("postgres")
    }
}

impl Description {
    /// Reads what [`Description::write`] has written.
    ///
    /// # Errors
    /// If the file is missing or broken.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{} is no description of a stack", path.display()))
    }

    /// Writes its file as a whole: a reader sees the old one or the new one.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self) -> Result<()> {
        let fresh = self.file.with_extension("new");
        fs::write(&fresh, serde_json::to_vec_pretty(self)?)
            .and_then(|()| fs::rename(&fresh, &self.file))
            .with_context(|| format!("cannot write {}", self.file.display()))
    }

    /// The addresses, for people.
    #[must_use]
    pub fn addresses(&self) -> String {
        let Self {
            order_url,
            inventory_url,
            worker_url,
            connect_url,
            kafka,
            order_db,
            inventory_db,
            logs,
            ..
        } = self;
        let database = |db: &Database| {
            format!(
                "{}:{}/{}  (passwords in {})",
                db.host,
                db.port,
                db.name,
                db.secrets.display()
            )
        };
        format!(
            "  Order Service      {order_url}\n  Inventory Service  {inventory_url}\n  Inventory Worker   {worker_url}  (health)\n  \
             Kafka Connect      {connect_url}\n  Kafka              {kafka}\n  order database     {}\n  \
             inventory database {}\n  logs               {}",
            database(order_db),
            database(inventory_db),
            logs.display()
        )
    }
}
