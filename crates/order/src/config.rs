//! The Order Service's settings: `ORDER__SECTION__KEY`, or a TOML file.

use events::OrderEvent;
use outbox::keeper::Limits;
use outbox::listener;
use outbox::schema::Roles;
use outbox::specification::{Invalid, Settings, Specification};
use outbox::{Event, Retention};
use serde::{Deserialize, Serialize};
use service::config::{Database, Files, Http, Log, Problem, Role, check_kafka};
use service::publisher::Publisher;

/// The environment variables' prefix.
pub const PREFIX: &str = "ORDER";

/// All settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where clients reach the service: 127.0.0.1:9000.
    pub http: Http,
    /// `order_db` at 127.0.0.1:5433, as `order_service`.
    pub database: Database,
    /// `order_owner`; for the command `migrate` only.
    pub owner: Role,
    /// Topic `reservation`, from 127.0.0.1:29092.
    pub kafka: listener::Config,
    /// How Kafka Connect reaches the database; for the command `connector` only.
    pub connector: Settings,
    /// `order_keeper`, which watches the outbox and removes old rows.
    pub keeper: Role,
    /// How long rows and messages stay.
    pub retention: Retention,
    /// From where on readiness warns.
    pub warnings: Limits,
    /// Orders without an outcome.
    pub pending: Pending,
    /// Levels and form of the log.
    pub log: Log,
}

/// Orders without an outcome.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// Seconds after which readiness warns of them.
    pub warn_after_s: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            http: Http::at(9000),
            database: Database::local(5433, "order_db", "order_service"),
            owner: Role::new("order_owner"),
            kafka: listener::Config::new("127.0.0.1:29092", "order", "reservation"),
            connector: Settings::of_role("order_cdc"),
            keeper: Role::new("order_keeper"),
            retention: Retention::default(),
            warnings: Limits::default(),
            pending: Pending { warn_after_s: 60 },
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
        check_kafka(&self.kafka, files)?;
        self.log.check()
    }

    /// The outbox and its database, as the service and its commands connect to it.
    #[must_use]
    pub fn publisher(&self) -> Publisher<'_> {
        Publisher {
            context: "order",
            writers: &["order_service"],
            topics: &[OrderEvent::AGGREGATE_TYPE],
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

    /// The roles that use the library's tables; the service itself listens.
    ///
    /// # Errors
    /// As [`outbox`](Self::outbox).
    pub fn roles(&self) -> Result<Roles, Invalid> {
        Ok(Roles::from(&self.outbox()?).listener(self.database.user.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_original_demos_addresses_are_the_defaults() {
        let config = Config::default();
        assert_eq!(config.http.listen.to_string(), "127.0.0.1:9000");
        assert_eq!(
            (config.database.port, config.database.name.as_str()),
            (5433, "order_db")
        );
        assert_eq!(config.kafka.bootstrap_servers, "127.0.0.1:29092");
        assert_eq!(config.kafka.topics, ["reservation"]);
        assert_eq!(config.outbox().unwrap().topics, ["order"]);
    }
}
