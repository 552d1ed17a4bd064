//! Properties of the connector that an operator adds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::derived::derives;
use crate::property::{bears_secret, is_reference};

/// Further properties of a connector. None of them loses events, contradicts the specification, or shows a secret.
///
/// ```
/// use outbox::specification::{Properties, Reserved};
///
/// let set = |key: &str, value: &str| Properties::new([(key.to_owned(), value.to_owned())].into());
/// assert!(set("database.sslmode", "verify-full").is_ok());
/// assert_eq!(set("slot.name", "mine"), Err(Reserved::Derived("slot.name".to_owned())));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
pub struct Properties(BTreeMap<String, String>);

/// A property that an operator cannot set.
///
/// ```
/// use outbox::specification::{Properties, Reserved};
///
/// let trusting = [("offset.mismatch.strategy".to_owned(), "trust_slot".to_owned())];
/// let refused = Properties::new(trusting.into()).unwrap_err();
/// assert_eq!(refused, Reserved::LosesEvents("trust_slot".to_owned()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reserved {
    /// It follows from the specification.
    #[error("the connector's property {0} follows from the specification; remove it")]
    Derived(String),
    /// It makes Debezium trust the slot's position above its own: with a recreated slot it loses events without an error
    /// (measured with Debezium 3.7.0: all of them).
    #[error(
        "offset.mismatch.strategy={0} loses events without an error when the slot is recreated; remove it"
    )]
    LosesEvents(String),
    /// It is a secret, which Connect's REST API would show.
    #[error(
        "the connector's property {0} is a secret; refer to a config provider of Kafka Connect, such as ${{dir:/run/secrets:name}}"
    )]
    Secret(String),
}

impl Properties {
    /// Takes properties by their names in Debezium's or Kafka Connect's documentation.
    ///
    /// # Errors
    /// [`Reserved`]: the first property that cannot be set.
    pub fn new(properties: BTreeMap<String, String>) -> Result<Self, Reserved> {
        for (key, value) in &properties {
            if derives(key) {
                return Err(Reserved::Derived(key.clone()));
            }
            if key == "offset.mismatch.strategy"
                && !["no_validation", "trust_offset"].contains(&value.as_str())
            {
                return Err(Reserved::LosesEvents(value.clone()));
            }
            // The reference is a part of a JAAS configuration, not the whole.
            let refers = is_reference(value)
                || (key.ends_with("jaas.config") && value.contains("password=\"${"));
            if bears_secret(key) && !refers {
                return Err(Reserved::Secret(key.clone()));
            }
        }
        Ok(Self(properties))
    }

    /// Names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

impl TryFrom<BTreeMap<String, String>> for Properties {
    type Error = Reserved;

    fn try_from(properties: BTreeMap<String, String>) -> Result<Self, Reserved> {
        Self::new(properties)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
