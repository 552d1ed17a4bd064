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
    /// The keeper cannot accept the database.
    #[error(
        "the keeper cannot accept the database: run `migrate` first, which grants the keeper's role what it needs"
    )]
    Accept(#[source] DatabaseError),
    /// Standard output does not take the command's answer.
    #[error("cannot write the answer to standard output")]
    Output(#[from] std::io::Error),
}
