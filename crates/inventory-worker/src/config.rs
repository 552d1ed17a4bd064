//! The Inventory Worker's settings: `INVENTORY_WORKER__SECTION__KEY`, or a TOML file.

use outbox::listener;
use serde::{Deserialize, Serialize};
use service::config::{Database, Files, Http, Log, Problem, check_kafka};

/// The environment variables' prefix.
pub const PREFIX: &str = "INVENTORY_WORKER";

/// All settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Health and metrics: 127.0.0.1:8001.
    pub http: Http,
    /// `inventory_db` at 127.0.0.1:5432, as `inventory_worker`.
    pub database: Database,
    /// Topic `order`, from 127.0.0.1:29092.
    pub kafka: listener::Config,
    /// Levels and form of the log.
    pub log: Log,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            http: Http::at(8001),
            database: Database::local(5432, "inventory_db", "inventory_worker"),
            kafka: listener::Config::new("127.0.0.1:29092", "inventory-worker", "order"),
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
        self.database.check(files)?;
        check_kafka(&self.kafka, files)?;
        self.log.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_original_demos_addresses_are_the_defaults() {
        let config = Config::default();
        assert_eq!(config.http.listen.to_string(), "127.0.0.1:8001");
        assert_eq!(
            (config.database.port, config.database.name.as_str()),
            (5432, "inventory_db")
        );
        assert_eq!(config.kafka.bootstrap_servers, "127.0.0.1:29092");
        assert_eq!(config.kafka.topics, ["order"]);
    }
}
