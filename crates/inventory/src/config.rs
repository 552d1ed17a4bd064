//! The Inventory Service's settings: `INVENTORY__SECTION__KEY`, or a TOML file.

use events::ReservationEvent;
use outbox::Event;
use outbox::connector::{self, Connector};
use serde::{Deserialize, Serialize};
use service::config::{Database, Http, Log, Owner};

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
    pub owner: Owner,
    /// How Kafka Connect reaches the database; for the command `connector` only.
    pub connector: connector::Settings,
    /// What is logged.
    pub log: Log,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            http: Http::at(8000),
            database: Database::local(5432, "inventory_db", "inventory_service"),
            owner: Owner::new("inventory_owner"),
            connector: connector::Settings::of_role("inventory_cdc"),
            log: Log::default(),
        }
    }
}

impl Config {
    /// The connector of the service's outbox.
    #[must_use]
    pub fn connector(&self) -> Connector {
        Connector {
            context: "inventory".to_owned(),
            address: (self.database.host.clone(), self.database.port),
            database: self.database.name.clone(),
            topics: vec![ReservationEvent::AGGREGATE_TYPE.to_owned()],
            settings: self.connector.clone(),
        }
    }
}
