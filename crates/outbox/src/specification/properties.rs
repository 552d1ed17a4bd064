//! Properties of the connector that an operator adds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::decision::{DECISIONS, Verdict, allows};
use crate::property::{bears_secret, is_reference};

/// Further properties of a connector. None of them loses events, contradicts the specification, or shows a secret.
///
/// Which there are is a decision on each property that Debezium and Kafka Connect know, with its reason: `properties.txt` beside this file. A
/// name that it does not have is refused, since Debezium and Kafka Connect ignore most names that they do not know.
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
/// let set = |key: &str, value: &str| Properties::new([(key.to_owned(), value.to_owned())].into());
/// let refused = set("skip.messages.without.change", "true").unwrap_err();
/// assert!(matches!(refused, Reserved::Refused { .. }));
/// let refused = set("offset.mismatch.strategy", "trust_slot").unwrap_err();
/// assert!(matches!(refused, Reserved::Value { .. }));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reserved {
    /// It follows from the specification.
    #[error("the connector's property {0} follows from the specification; remove it")]
    Derived(String),
    /// It loses, alters or shows events, or does something else that the specification rules out.
    #[error("the connector's property {name} is refused; remove it ({reason})")]
    Refused {
        /// The property.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// Another value of it would be accepted.
    #[error("the connector's property {name} takes {values}, not {value:?} ({reason})")]
    Value {
        /// The property.
        name: String,
        /// The value that was given.
        value: String,
        /// The values that it may have: `a|b`, `1..10`.
        values: &'static str,
        /// Why no other.
        reason: &'static str,
    },
    /// Neither Debezium nor Kafka Connect knows it, or it is newer than the versions that the specification was measured with.
    #[error(
        "the connector's property {name} is unknown to Debezium 3.7 and Kafka Connect 4.3{}; correct its name, or remove it",
        similar(nearest)
    )]
    Unknown {
        /// The property.
        name: String,
        /// Known names that are similar.
        nearest: Vec<String>,
    },
    /// It is a secret, which Connect's REST API would show.
    #[error(
        "the connector's property {0} is a secret; refer to a config provider of Kafka Connect, such as ${{dir:/run/secrets:name}}"
    )]
    Secret(String),
    /// It is no secret, so Kafka Connect and Debezium show its value, the referred one too.
    #[error(
        "the connector's property {0} is no secret, so logs and metrics would show what its reference names; write the value itself"
    )]
    Reference(String),
}

fn similar(nearest: &[String]) -> String {
    match nearest {
        [] => String::new(),
        names => format!(" (similar: {})", names.join(", ")),
    }
}

impl Properties {
    /// Takes properties by their names in Debezium's or Kafka Connect's documentation.
    ///
    /// # Errors
    /// [`Reserved`]: the first property that cannot be set.
    pub fn new(properties: BTreeMap<String, String>) -> Result<Self, Reserved> {
        for (name, value) in &properties {
            check(name, value)?;
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

fn check(name: &str, value: &str) -> Result<(), Reserved> {
    let owned = || name.to_owned();
    let decision = DECISIONS.of(name).ok_or_else(|| Reserved::Unknown {
        name: owned(),
        nearest: DECISIONS.nearest(name),
    })?;
    let reason = decision.reason;
    let values = match decision.verdict {
        Verdict::Ours => return Err(Reserved::Derived(owned())),
        Verdict::Refused => {
            return Err(Reserved::Refused {
                name: owned(),
                reason,
            });
        }
        Verdict::Free(values) => values,
    };
    if bears_secret(name) {
        // The reference is a part of a JAAS configuration, not the whole.
        let refers = is_reference(value)
            || (name.ends_with("jaas.config") && value.contains("password=\"${"));
        return if refers {
            Ok(())
        } else {
            Err(Reserved::Secret(owned()))
        };
    }
    if value.contains("${") {
        return Err(Reserved::Reference(owned()));
    }
    if allows(values, value) {
        Ok(())
    } else {
        Err(Reserved::Value {
            name: owned(),
            value: value.to_owned(),
            values,
            reason,
        })
    }
}

impl TryFrom<BTreeMap<String, String>> for Properties {
    type Error = Reserved;

    fn try_from(properties: BTreeMap<String, String>) -> Result<Self, Reserved> {
        Self::new(properties)
    }
}

#[cfg(test)]
mod tests;
