//! The addresses, folders and credentials of a running stack, in a file that other processes read.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::ports::Ports;
use crate::replace::{Readers, replace};
use crate::tls::Certificates;

/// A running stack.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Description {
    /// The Order Service's URL.
    pub order_url: String,
    /// The Inventory Service's URL.
    pub inventory_url: String,
    /// The URL of the Inventory Worker's health and metrics.
    pub worker_url: String,
    /// The URL of Kafka Connect's REST interface.
    pub connect_url: String,
    /// Kafka's address for clients.
    pub kafka: String,
    /// Kafka's address for clients over TLS, which log in as [`KAFKA_CLIENT`](crate::kafka::KAFKA_CLIENT); only an
    /// ephemeral stack has one.
    pub kafka_tls: Option<String>,
    /// The order context's database.
    pub order_db: Database,
    /// The inventory context's database.
    pub inventory_db: Database,
    /// Every port.
    pub ports: Ports,
    /// The folder of the services' binaries.
    pub binaries: PathBuf,
    /// The folder of the declared connectors, one file each.
    pub connectors: PathBuf,
    /// The folder of the logs, one per part.
    pub logs: PathBuf,
    /// The file that holds this description. It is rewritten whenever a part is restarted.
    pub file: PathBuf,
    /// The process id of each running part.
    pub pids: BTreeMap<String, u32>,
}

/// A database and the passwords of its roles.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Database {
    /// The server's host.
    pub host: String,
    /// The server's port.
    pub port: u16,
    /// The database's name.
    pub name: String,
    /// The folder of the passwords, one file per role.
    pub secrets: PathBuf,
    /// The folder of the server's [certificates](Database::certificates), if it has any.
    pub tls: Option<PathBuf>,
}

impl Database {
    /// The options to connect as `role`.
    ///
    /// # Panics
    /// If the role has no password file. The stack writes one for each role.
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
            // On loopback, as every part of the stack connects.
            .ssl_mode(PgSslMode::Disable)
    }

    /// The server's certificates.
    ///
    /// # Panics
    /// If it has none. Only an ephemeral stack has certificates.
    #[must_use]
    pub fn certificates(&self) -> Certificates {
        let Some(folder) = &self.tls else {
            panic!("only an ephemeral stack has certificates");
        };
        Certificates::within(folder)
    }

    /// The options to connect as the server's superuser.
    #[must_use]
    pub fn superuser(&self) -> PgConnectOptions {
        self.options("postgres")
    }
}

impl Description {
    /// Reads the file that [`Description::write`] writes.
    ///
    /// # Errors
    /// If the file is missing or broken.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{} is not the description of a stack", path.display()))
    }

    /// Replaces its file: a reader sees the old contents or the new ones.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self) -> Result<()> {
        replace(
            &self.file,
            &serde_json::to_vec_pretty(self)?,
            Readers::Everyone,
        )
    }

    /// The addresses, formatted for a terminal.
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
