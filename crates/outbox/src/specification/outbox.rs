//! An outbox as a whole.

use super::settings::Settings;
use crate::retention::Retention;

/// An outbox and the way from it to Kafka.
///
/// ```
/// use outbox::Retention;
/// use outbox::specification::{Settings, Specification};
///
/// let specification = Specification {
///     context: "account".to_owned(),
///     address: ("127.0.0.1".to_owned(), 5432),
///     database: "account_db".to_owned(),
///     writers: vec!["account_service".to_owned()],
///     keeper: "account_keeper".to_owned(),
///     topics: vec!["account".to_owned()],
///     retention: Retention::default(),
///     settings: Settings::of_role("account_cdc"),
/// };
/// assert_eq!(specification.slot(), "account_outbox");
/// // `name` and `config`, as Kafka Connect's REST API takes them.
/// assert_eq!(specification.to_json()["config"]["slot.name"], "account_outbox");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Specification {
    /// The name of the bounded context, such as `order`. Connector, slot and Debezium's own topics are named after it, so two outboxes
    /// never share one; lower case letters, digits and `_`, as PostgreSQL wants a slot's name.
    pub context: String,
    /// The database's host and port, as the service reaches it.
    pub address: (String, u16),
    /// The database's name.
    pub database: String,
    /// The roles that append.
    pub writers: Vec<String>,
    /// The role that runs the keeper: it watches the slot and removes old rows.
    pub keeper: String,
    /// The topics that its events go to: the aggregate types that it publishes.
    pub topics: Vec<String>,
    /// How long rows and messages stay.
    pub retention: Retention,
    /// What an operator configures.
    pub settings: Settings,
}
