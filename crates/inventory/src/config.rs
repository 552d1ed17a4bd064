//! The Inventory Service's settings: `INVENTORY__SECTION__KEY`, or a TOML file.

use events::ReservationEvent;
use outbox::keeper::Limits;
use outbox::schema::Roles;
use outbox::specification::{Invalid, Settings, Specification};
use outbox::{Event, Retention};
use serde::{Deserialize, Serialize};
use service::config::{Database, Files, Http, Log, Problem, Role};
use service::publisher::Publisher;

/// The environment variables' prefix.
pub const PREFIX: &str = "INVENTORY";

/// All settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where clients reach the service: 127.0.0.1:8000.
    pub http: Http,
    /// `inventory_db` at 127.0.0.1:5432, as `inventory_service`.
    pub database: Database,
    /// `inventory_owner`; for the command `migrate` only.
    pub owner: Role,
    /// How Kafka Connect reaches the database; for the command `connector` only.
    pub connector: Settings,
    /// `inventory_keeper`, which watches the outbox and removes old rows.
    pub keeper: Role,
    /// How long rows and messages stay.
    pub retention: Retention,
    /// From where on readiness warns.
    pub warnings: Limits,
    /// Levels and form of the log.
    pub log: Log,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            http: Http::at(8000),
            database: Database::local(5432, "inventory_db", "inventory_service"),
            owner: Role::new("inventory_owner"),
            connector: Settings::of_role("inventory_cdc"),
            keeper: Role::new("inventory_keeper"),
            retention: Retention::default(),
            warnings: Limits::default(),
            log: Log::default(),
        }
    }
}

impl Config {
    /// Checks all settings, and the files that they name if those are here, without connecting anywhere.
    ///
    /// # Errors
    /// The first [`Problem`].
    pub fn check(&self, files: Files) -> Result<(), Problem> {
        self.publisher().check(files)?;
        self.log.check()
    }

    /// The outbox and its database, as the service and its commands connect to it.
    #[must_use]
    pub fn publisher(&self) -> Publisher<'_> {
        Publisher {
            context: "inventory",
            writers: &["inventory_worker"],
            topics: &[ReservationEvent::AGGREGATE_TYPE],
            database: &self.database,
            owner: &self.owner,
            keeper: &self.keeper,
            retention: self.retention,
            connector: &self.connector,
        }
    }

    /// The service's outbox.
    ///
    /// # Errors
    /// [`Invalid`]: a setting of it that PostgreSQL, Kafka or Kafka Connect would not take.
    pub fn outbox(&self) -> Result<Specification, Invalid> {
        self.publisher().specification()
    }

    /// The roles that use the library's tables; the worker listens and appends.
    ///
    /// # Errors
    /// As [`outbox`](Self::outbox).
    pub fn roles(&self) -> Result<Roles, Invalid> {
        Ok(Roles::from(&self.outbox()?).listener("inventory_worker"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_original_demos_addresses_are_the_defaults() {
        let config = Config::default();
        assert_eq!(config.http.listen.to_string(), "127.0.0.1:8000");
        assert_eq!(
            (config.database.port, config.database.name.as_str()),
            (5432, "inventory_db")
        );
        assert_eq!(config.outbox().unwrap().topics, ["reservation"]);
    }
}
