//! The in-flight batch: what is being settled, or is left of it and waits to be tried again.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, sleep_until};

use super::Failure;
use super::batch::{Settled, Work};
use super::bisect::Unsettled;
use crate::message::Message;

/// Messages, at least, among which one is looked for that can be applied, before what fails for no known reason is taken to be
/// the only one that does.
const WINDOW: usize = 100;
/// Messages, at most, among which one is looked for that can be applied, where a few keys fail for no known reason: one that is
/// applied shows that these keys are to blame, and not whatever they all depend on.
const FAR: usize = 10_000;
/// Keys, at most, that are a few. Each is tried again alone whenever the batch is.
const FEW: usize = 10;

/// What the task that settles a batch ends with.
pub(super) type Outcome = Result<Result<Settled, Box<Unsettled>>, JoinError>;

/// The in-flight batch.
pub(super) enum InFlight {
    Empty,
    Settling(Arc<Work>, JoinHandle<Result<Settled, Box<Unsettled>>>),
    Waiting {
        messages: Vec<Message>,
        /// When they are tried again.
        until: Instant,
        /// How many they may become then, with further ones that may show whether these are to blame.
        window: usize,
    },
}

impl InFlight {
    /// What is left over since `failure`, and is tried again after `until`.
    pub(super) fn waiting(messages: Vec<Message>, until: Instant, failure: &Failure) -> Self {
        let looks_far = matches!(failure, Failure::Unknown(_)) && is_of_few_keys(&messages);
        let window = if looks_far { FAR } else { WINDOW };
        Self::Waiting {
            messages,
            until,
            window,
        }
    }

    /// What is not settled yet.
    pub(super) fn messages(&self) -> &[Message] {
        match self {
            Self::Settling(work, _) => &work.messages,
            Self::Waiting { messages, .. } => messages,
            Self::Empty => &[],
        }
    }

    /// Resolves when the batch has been settled or has failed; with nothing, when it is time to try it again.
    pub(super) async fn settled(&mut self) -> Option<Outcome> {
        match self {
            Self::Settling(_, task) => Some(task.await),
            Self::Waiting { until, .. } => {
                sleep_until(*until).await;
                None
            }
            Self::Empty => std::future::pending().await,
        }
    }
}

/// Whether messages are of more keys than one, and of few. Each without a key counts as one.
fn is_of_few_keys(messages: &[Message]) -> bool {
    let mut keys = BTreeSet::new();
    let mut without = 0;
    for message in messages {
        match message.topic_key() {
            Some(key) => _ = keys.insert(key),
            None => without += 1,
        }
        if keys.len() + without > FEW {
            return false;
        }
    }
    keys.len() + without > 1
}
