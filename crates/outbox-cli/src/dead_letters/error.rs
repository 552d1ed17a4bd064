//! Errors of the commands.

use std::num::NonZeroUsize;

use uuid::Uuid;

/// A command over dead letters that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database does not answer, or refuses.
    #[error(
        "cannot read the dead letters: check that the database is up and that its role is one of `migrations/*/roles.sql`, then run `migrate`, which also grants the role what it needs"
    )]
    Database(#[from] sqlx::Error),
    /// The database did not confirm attempts of dead letters.
    #[error(
        "the database did not confirm {0} attempts: repeat the command, which attempts only the dead letters that are left"
    )]
    Redrive(usize),
    /// The database did not confirm the discard of a dead letter.
    #[error(
        "the database did not confirm the discard of dead letter {id}, and the others are unchanged: repeat the command"
    )]
    Discard {
        /// The dead letter's id.
        id: Uuid,
        /// What the database answered.
        source: sqlx::Error,
    },
    /// More dead letters match than `discard` takes at once.
    #[error(
        "more dead letters match than --most {0}; discarding none, since the listener would apply the rest of a key: raise --most, or select fewer"
    )]
    TooMany(NonZeroUsize),
    /// There is no terminal to confirm at.
    #[error("discarding {0} dead letters needs a confirmation: add --yes")]
    Unconfirmed(usize),
    /// Standard output does not take the command's answer.
    #[error("cannot write the answer to standard output")]
    Output(#[from] std::io::Error),
    /// Standard input does not give the operator's answer.
    #[error("cannot read the confirmation from standard input: add --yes")]
    Input(#[source] std::io::Error),
}
