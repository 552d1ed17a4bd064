//! Errors of the commands.

use std::num::NonZeroUsize;

use uuid::Uuid;

/// A command over dead letters that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database does not answer, or refuses.
    #[error(
        "the dead letters cannot be read: see that the database is up, that its role is one of `migrations/*/roles.sql`, and that `migrate`, which also grants the role what it needs, has been run"
    )]
    Database(#[from] sqlx::Error),
    /// The database did not confirm attempts of dead letters.
    #[error(
        "the database did not confirm {0} attempts: repeat the command, which attempts only the dead letters that are left"
    )]
    Redrive(usize),
    /// A dead letter could not be discarded.
    #[error(
        "the database did not confirm that dead letter {id} is discarded, and the others are unchanged: repeat the command"
    )]
    Discard {
        /// The dead letter's id.
        id: Uuid,
        /// What the database answered.
        source: sqlx::Error,
    },
    /// More dead letters match than may be discarded at once.
    #[error(
        "more dead letters match than --most {0}, and none is discarded, since the listener applies the rest of a key: raise --most, or select fewer"
    )]
    TooMany(NonZeroUsize),
    /// There is no terminal to confirm at.
    #[error("discarding {0} dead letters has to be confirmed: add --yes")]
    Unconfirmed(usize),
    /// Standard output cannot be written to, or standard input not be read.
    #[error("the answer cannot be written")]
    Output(#[from] std::io::Error),
}
