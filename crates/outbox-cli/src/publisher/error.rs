//! Errors of the commands.

use sqlx::Error as DatabaseError;

/// The error of a function that the service brings.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A command of a publisher that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The service could not connect.
    #[error(transparent)]
    Connect(BoxError),
    /// A migration failed; those before it stay applied.
    #[error("the migrations of database {database} failed")]
    Migrate {
        /// The database's name.
        database: String,
        /// What the migrations answered.
        source: BoxError,
    },
    /// Database or Kafka are not as the outbox needs them, or do not answer.
    #[error(transparent)]
    Check(#[from] outbox::specification::Error),
    /// Kafka does not answer, or refuses a change of topics.
    #[cfg(feature = "topics")]
    #[error("the topics are not applied")]
    Topics(#[source] outbox::specification::TopicsError),
    /// Nothing says where Kafka is.
    #[cfg(feature = "topics")]
    #[error("the service's settings do not say where Kafka is; name its address: --kafka ADDRESS")]
    NoKafka,
    /// The file of Kafka's properties cannot be read.
    #[cfg(feature = "topics")]
    #[error("cannot read {} of --kafka-properties", path.display())]
    Properties {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The keeper cannot accept the database.
    #[error(
        "the keeper cannot accept the database: run `migrate` first, which grants the keeper's role what it needs"
    )]
    Accept(#[source] DatabaseError),
    /// Standard output does not take the command's answer.
    #[error("cannot write the answer to standard output")]
    Output(#[from] std::io::Error),
}
