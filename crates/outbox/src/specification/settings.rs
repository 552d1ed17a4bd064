//! What an operator configures of an outbox.

use serde::{Deserialize, Serialize};

use super::properties::Properties;
use crate::property::is_reference;

/// The part of a specification that differs between deployments: a section of the service's configuration.
///
/// ```
/// use outbox::specification::{Settings, WireForm};
///
/// let settings = Settings {
///     host: Some("postgres.internal".to_owned()),
///     replication_factor: 3,
///     ..Settings::of_role("account_cdc")
/// };
/// assert_eq!(settings.wire_form, WireForm::Lean);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The database's host as Kafka Connect reaches it, if that is not the service's way.
    pub host: Option<String>,
    /// The database's port as Kafka Connect reaches it, if that is not the service's way.
    pub port: Option<u16>,
    /// Debezium's role. It has `LOGIN`, `REPLICATION` and the grants of [`Roles::cdc`](crate::schema::Roles::cdc), nothing else.
    pub user: String,
    /// The role's password.
    pub password: PasswordReference,
    /// Replicas of each topic: 1 on a single broker, 3 on a cluster.
    pub replication_factor: u16,
    /// How events look in Kafka.
    pub wire_form: WireForm,
    /// Whether Debezium writes within Kafka's transactions. Off by default: an inbox is needed either way, and each event then takes about
    /// twice as long (measured with Debezium 3.7.0). On needs a worker with `exactly.once.source.support=enabled`; such a worker uses
    /// transactions for each of its connectors, and a connector has no word against it.
    pub exactly_once: bool,
    /// Further properties of the connector, such as `database.sslmode`; [`Reserved`](super::Reserved) says which not.
    pub properties: Properties,
}

impl Settings {
    /// The defaults for Debezium's role `user`: one broker, lean messages, and the password from the file of the role's name under
    /// `/run/credentials`, by Kafka's `DirectoryConfigProvider` under the name `dir`.
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

/// How events look in Kafka. The listener reads both, so a change needs no pause.
///
/// ```
/// use outbox::specification::{Settings, WireForm};
///
/// // For consumers that expect the payload as text in an envelope.
/// let settings = Settings { wire_form: WireForm::Envelope, ..Settings::of_role("account_cdc") };
/// assert_eq!(serde_json::to_value(settings.wire_form)?, "envelope");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WireForm {
    /// The value is the payload itself; id and type are headers.
    Lean,
    /// The value is a JSON envelope with its schema; in it are the payload as text and the type. For consumers that expect the original
    /// demo's messages.
    Envelope,
}

/// A reference that Kafka Connect resolves by one of its config providers, such as `${dir:/run/secrets:cdc}`.
///
/// Connect's REST API shows a connector's configuration to every client, so this type takes no plain password.
///
/// ```
/// use outbox::specification::PasswordReference;
///
/// assert!(PasswordReference::parse("${dir:/run/secrets:account_cdc}").is_ok());
/// assert!(PasswordReference::parse("hunter2").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct PasswordReference(String);

/// The text is no reference to a config provider; it may be a password, so the error does not repeat it.
///
/// ```
/// use outbox::specification::PasswordReference;
///
/// let refused = PasswordReference::parse("hunter2").unwrap_err();
/// assert!(!refused.to_string().contains("hunter2"));
/// ```
#[derive(Debug, thiserror::Error)]
#[error(
    "the connector's password must be a reference to a config provider of Kafka Connect, such as ${{dir:/run/secrets:order_cdc}}"
)]
pub struct NoReference;

impl PasswordReference {
    /// Takes `${provider:path:key}`, or `${provider:key}`.
    ///
    /// # Errors
    /// [`NoReference`] for every other text; it does not repeat the text, which may be a password.
    pub fn parse(text: &str) -> Result<Self, NoReference> {
        if is_reference(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NoReference)
        }
    }

    /// The reference as Kafka Connect takes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
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
}
