//! One typed description of an outbox: its roles, its slot, its topics, its form on the wire.
//!
//! It yields the connector's configuration ([`Specification::to_json`]) and is held against a migrated database
//! ([`Specification::check`]), so that table, grants, publication and connector cannot drift apart.

mod check;
mod connector;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use check::{Drift, Error};

use crate::Retention;
use crate::property::bears_secret;

/// An outbox and the way from it to Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Specification {
    /// The context's name, such as `order`: it names connector, slot and Debezium's own topics.
    pub context: String,
    /// The database's host and port, as the service reaches it.
    pub address: (String, u16),
    /// The database's name.
    pub database: String,
    /// The roles that append.
    pub writers: Vec<String>,
    /// The role that watches the outbox and removes old rows.
    pub keeper: String,
    /// The topics that its events go to: the aggregate types that it publishes.
    pub topics: Vec<String>,
    /// How long rows and messages stay.
    pub retention: Retention,
    /// What is configured.
    pub settings: Settings,
}

/// What of an outbox is configured: a section of its service's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The database's host, where it is another one for Kafka Connect.
    pub host: Option<String>,
    /// The database's port, where it is another one for Kafka Connect.
    pub port: Option<u16>,
    /// Debezium's role: LOGIN, REPLICATION and the grants of the migrations, nothing else.
    pub user: String,
    /// The role's password.
    pub password: PasswordReference,
    /// Replicas of each topic: 1 with a single broker, else 3.
    pub replication_factor: u16,
    /// How events look in Kafka.
    pub wire_form: WireForm,
    /// Kafka's transactions around what Debezium writes. Off: the inbox is needed either way, and each event takes
    /// about twice as long (measured with Debezium 3.7.0).
    pub exactly_once: bool,
    /// Further properties of the connector, such as `database.sslmode`.
    pub properties: Properties,
}

impl Settings {
    /// The defaults for a role: its password comes from the file of its name, with the provider `dir`.
    #[must_use]
    pub fn of_role(user: &str) -> Self {
        Self {
            host: None,
            port: None,
            user: user.to_owned(),
            password: PasswordReference(format!("${{dir:/run/credentials:{user}}}")),
            replication_factor: 1,
            wire_form: WireForm::Lean,
            exactly_once: false,
            properties: Properties::default(),
        }
    }
}

/// How events look in Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WireForm {
    /// The value is the payload itself; id and type are headers.
    Lean,
    /// The value is a JSON envelope with schema, the payload in it as text, beside the type: for consumers that know
    /// nothing else.
    Envelope,
}

/// Further properties of a connector, none of which loses events or contradicts the specification.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
pub struct Properties(BTreeMap<String, String>);

/// A property that cannot be set by hand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reserved {
    /// It follows from the specification.
    #[error("the connector's property {0} follows from the specification; it cannot be set")]
    Derived(String),
    /// With it Debezium trusts the slot's position above its own: after the slot was made again, events are lost in
    /// silence (measured with Debezium 3.7.0: all of them).
    #[error(
        "offset.mismatch.strategy={0} loses events in silence when a slot is made again; leave it out"
    )]
    LosesEvents(String),
    /// It is a secret, which whoever may read Connect's REST API would see.
    #[error(
        "the connector's property {0} is a secret; it must refer to a config provider of Kafka Connect, as in ${{dir:/run/secrets:name}}"
    )]
    Secret(String),
}

impl Properties {
    /// Takes what neither loses events nor contradicts the specification.
    ///
    /// # Errors
    /// The first property that does.
    pub fn new(properties: BTreeMap<String, String>) -> Result<Self, Reserved> {
        for (key, value) in &properties {
            if connector::derives(key) {
                return Err(Reserved::Derived(key.clone()));
            }
            if key == "offset.mismatch.strategy"
                && !["no_validation", "trust_offset"].contains(&value.as_str())
            {
                return Err(Reserved::LosesEvents(value.clone()));
            }
            // A JAAS configuration has its reference in its midst.
            let refers = PasswordReference::parse(value).is_ok()
                || (key.ends_with("jaas.config") && value.contains("password=\"${"));
            if bears_secret(key) && !refers {
                return Err(Reserved::Secret(key.clone()));
            }
        }
        Ok(Self(properties))
    }
}

impl TryFrom<BTreeMap<String, String>> for Properties {
    type Error = Reserved;

    fn try_from(properties: BTreeMap<String, String>) -> Result<Self, Reserved> {
        Self::new(properties)
    }
}

/// A reference that Kafka Connect resolves by one of its config providers, such as `${dir:/run/secrets:cdc}`.
/// A plain password would be shown to whoever may read Connect's REST API, so it is no such reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct PasswordReference(String);

/// The text is a password, or anything else that no config provider resolves.
#[derive(Debug, thiserror::Error)]
#[error(
    "the connector's password must be a reference to a config provider of Kafka Connect, as in ${{dir:/run/secrets:order_cdc}}"
)]
pub struct NoReference;

impl PasswordReference {
    /// Takes `${provider:path:key}`.
    ///
    /// # Errors
    /// [`NoReference`] for everything else; the text is not repeated, since it may be a password.
    pub fn parse(text: &str) -> Result<Self, NoReference> {
        let inside = text
            .strip_prefix("${")
            .and_then(|rest| rest.strip_suffix('}'));
        match inside.map(|inside| inside.split(':').collect::<Vec<_>>()) {
            Some(parts) if parts.len() >= 2 && parts.iter().all(|part| !part.is_empty()) => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(NoReference),
        }
    }
}

impl TryFrom<String> for PasswordReference {
    type Error = NoReference;

    fn try_from(text: String) -> Result<Self, NoReference> {
        Self::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_no_reference() {
        assert!(PasswordReference::parse("${dir:/run/secrets:order_cdc}").is_ok());
        for text in ["hunter2", "", "${}", "${dir}", "${dir:}", "${:hunter2}"] {
            let refused = PasswordReference::parse(text).unwrap_err().to_string();
            assert!(!refused.contains("hunter2"));
        }
    }

    #[test]
    fn what_loses_events_is_refused() {
        let set =
            |key: &str, value: &str| Properties::new([(key.to_owned(), value.to_owned())].into());
        for strategy in ["trust_slot", "trust_greater_lsn", "whatever"] {
            let refused = set("offset.mismatch.strategy", strategy);
            assert_eq!(refused, Err(Reserved::LosesEvents(strategy.to_owned())));
        }
        for key in [
            "errors.tolerance",
            "snapshot.mode",
            "slot.name",
            "database.password",
            "exactly.once.support",
        ] {
            assert_eq!(set(key, "x"), Err(Reserved::Derived(key.to_owned())));
        }
        let secret = "producer.override.ssl.key.password";
        assert_eq!(set(secret, "x"), Err(Reserved::Secret(secret.to_owned())));
        assert!(set(secret, "${dir:/run/secrets:kafka}").is_ok());
        assert!(set("database.sslmode", "verify-full").is_ok());
        assert!(set("offset.mismatch.strategy", "trust_offset").is_ok());
    }
}
