//! The in-flight batch: being applied, or waiting for its next attempt.
//!
//! While it waits it may grow: newer messages are added at the next attempt, up to a window. They serve two ends. They show whether
//! a message that fails for an unknown reason is itself to blame, which takes another message that is applied. And they keep other
//! keys flowing while one key fails.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, sleep_until};

use super::batch::{Batch, Settled, Unsettled};
use super::partition::Key;
use super::stop::Blocker;
use crate::message::Message;

/// How many messages the in-flight batch grows to while it waits. The bisection looks among so many for one that it can apply,
/// before it isolates a single failing message.
const WINDOW: usize = 100;
/// The same where the messages of a few keys fail for an unknown reason: if any other message is applied, these keys are to blame
/// and not something that all messages depend on.
const WIDE_WINDOW: usize = 10_000;
/// The most keys that are a few; every attempt retries each of them alone.
const FEW_KEYS: usize = 10;

/// What the task that applies a batch returns once it is joined.
pub(super) type Joined = Result<Result<Settled, Box<Unsettled>>, JoinError>;

/// The in-flight batch.
pub(super) enum InFlight {
    Empty,
    Applying(Arc<Batch>, JoinHandle<Result<Settled, Box<Unsettled>>>),
    Waiting {
        /// The messages that are left.
        messages: Vec<Message>,
        /// When they are attempted again.
        until: Instant,
        /// How many messages the batch may then have, together with newer ones.
        window: usize,
    },
}

impl InFlight {
    /// Messages that are left, and attempted again after `until`.
    pub(super) fn waiting(messages: Vec<Message>, until: Instant, blocker: &Blocker) -> Self {
        let window = if blocker.is_unknown() && has_few_keys(&messages) {
            WIDE_WINDOW
        } else {
            WINDOW
        };
        Self::Waiting {
            messages,
            until,
            window,
        }
    }

    /// The messages that are not settled yet.
    pub(super) fn messages(&self) -> &[Message] {
        match self {
            Self::Applying(batch, _) => &batch.messages,
            Self::Waiting { messages, .. } => messages,
            Self::Empty => &[],
        }
    }

    /// Resolves with the outcome once the batch was applied, or with nothing once it is time for its next attempt.
    pub(super) async fn ended(&mut self) -> Option<Joined> {
        match self {
            Self::Applying(_, task) => Some(task.await),
            Self::Waiting { until, .. } => {
                sleep_until(*until).await;
                None
            }
            Self::Empty => std::future::pending().await,
        }
    }
}

/// Whether messages have more keys than one, and only a few. Each message without a key counts as a key.
fn has_few_keys(messages: &[Message]) -> bool {
    let mut keys = BTreeSet::new();
    let mut without = 0;
    for message in messages {
        match Key::of(message) {
            Some(key) => _ = keys.insert(key),
            None => without += 1,
        }
        if keys.len() + without > FEW_KEYS {
            return false;
        }
    }
    keys.len() + without > 1
}
