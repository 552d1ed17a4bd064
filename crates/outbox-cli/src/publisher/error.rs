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
    /// The database is not as the outbox needs it, or does not answer.
    #[error(transparent)]
    Check(#[from] outbox::specification::Error),
    /// The database could not be accepted.
    #[error(
        "the database could not be accepted: run `migrate` first, which grants the keeper's role what it needs"
    )]
    Accept(#[source] DatabaseError),
    /// Standard output cannot be written to.
    #[error("the answer cannot be written to standard output")]
    Output(#[from] std::io::Error),
}
