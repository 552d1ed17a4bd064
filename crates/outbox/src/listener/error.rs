//! Why a listener cannot start, or cannot go on.
//!
//! There are few reasons to stop: a configuration that can never work, and an error that librdkafka calls fatal. After any other
//! error the listener tries again; [`Progress`](super::Progress) shows it.

use std::path::PathBuf;

/// Why a [`Listener`](super::Listener) cannot start, or cannot go on.
///
/// The listener finds a configuration that cannot work before it connects anywhere:
///
/// ```
/// use outbox::listener::{Config, Error};
///
/// let mut config = Config::new("127.0.0.1:9092", "payments", "payment");
/// config.properties.insert("enable.auto.commit".to_owned(), "true".to_owned());
/// assert!(matches!(config.check(), Err(Error::Reserved(_))));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// librdkafka refused the configuration.
    #[error("librdkafka refuses the consumer's configuration; correct its properties")]
    Config(#[source] rdkafka::error::KafkaError),
    /// The listener sets this property itself: with another value it would skip messages.
    #[error("the listener sets the property {0} itself; remove it from the configuration")]
    Reserved(String),
    /// librdkafka does not know the property, or refuses its value.
    #[error("librdkafka refuses the property {property}: {reason}")]
    Property {
        /// The property's name.
        property: String,
        /// librdkafka's reason.
        reason: String,
    },
    /// The property's value is a secret, which belongs in a file.
    #[error(
        "the property {0} is a secret: write it into a file, and set property_files.{0} to the file's path"
    )]
    Secret(String),
    /// The property has both a value and a file.
    #[error("the property {0} is set in both properties and property_files; remove one of them")]
    Twice(String),
    /// The listener cannot read the file that a property names.
    #[error(
        "cannot read the file {path} of the property {property}; correct its path or its permissions"
    )]
    PropertyFile {
        /// The property's name.
        property: String,
        /// The file's path.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The listener's name does not fit its column.
    #[error("the listener's name must have 1 to 63 characters: {0:?}")]
    Name(String),
    /// librdkafka reports an error that this consumer cannot recover from.
    #[error("the Kafka consumer failed for good; restart the listener")]
    Fatal(#[source] rdkafka::error::KafkaError),
}
