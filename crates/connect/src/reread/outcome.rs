//! How a re-read ends early, and how it leaves the connector.

use std::fmt;
use std::time::Duration;

use crate::client;
use crate::status::State;

/// Why an outbox is not read again to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Kafka Connect does not answer or refuses, or there is no such connector.
    #[error(transparent)]
    Connect(#[from] client::Error),
    /// It took too long. Another run may succeed.
    #[error(
        "connector {name} did not {what} within {within:?}; see its task's status, then run `{again}` again"
    )]
    Late {
        /// The connector.
        name: String,
        /// What it did not do.
        what: &'static str,
        /// How long it had.
        within: Duration,
        /// The command.
        again: String,
    },
    /// It is still reading. Another run would begin anew.
    #[error(
        "connector {name} did not read its table to the end within {within:?}, and goes on reading: follow it with `{status}`; another \
         `reread` would begin anew"
    )]
    Reading {
        /// The connector.
        name: String,
        /// How long it had.
        within: Duration,
        /// The command that shows its state.
        status: String,
    },
    /// It was paused or stopped again, perhaps because its file declares that.
    #[error(
        "connector {name} is {state}, and reads its outbox again once it is resumed: remove `state` from its file, or resume it by Kafka \
         Connect's API"
    )]
    Held {
        /// The connector.
        name: String,
        /// Its state.
        state: State,
    },
    /// A signal, Kafka Connect or the connector ended it before the connector was resumed.
    #[error("the re-read of connector {name} ended early; {left}")]
    Ended {
        /// The connector.
        name: String,
        /// How the connector is left.
        left: Left,
        /// Why; none for a signal.
        #[source]
        cause: Option<Box<Error>>,
    },
}

impl Error {
    /// Whether a signal ended it.
    #[must_use]
    pub fn is_interruption(&self) -> bool {
        matches!(self, Self::Ended { cause: None, .. })
    }
}

/// How a re-read that ended early leaves its connector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// As it was.
    Unchanged,
    /// Resumed, with its offsets.
    Resumed {
        /// The command that reads the outbox again.
        again: String,
    },
    /// Resumed; the answer to the deletion of its offsets is missing.
    MayRead {
        /// The command that reads the outbox again.
        again: String,
    },
    /// Resumed, without its offsets.
    Reads,
    /// Perhaps not resumed. The mark stays.
    Marked {
        /// The command that reads the outbox again.
        again: String,
    },
}

impl fmt::Display for Left {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unchanged => to.write_str("nothing was changed"),
            Self::Resumed { again } => write!(
                to,
                "the connector is resumed and does not read its outbox again: run `{again}`"
            ),
            Self::MayRead { again } => write!(
                to,
                "the connector is resumed and may not read its outbox again: run `{again}`"
            ),
            Self::Reads => to.write_str("the connector is resumed and reads its outbox again"),
            Self::Marked { again } => write!(
                to,
                "Kafka Connect has not confirmed that the connector is resumed: `connect reconcile` finishes the re-read, or run `{again}`"
            ),
        }
    }
}
