//! Why a batch was not applied, as a handler says it.

use uuid::Uuid;

use super::sqlstate::{self, Class};

/// Any error, boxed; `?` and `into` make one of any error, and of a text.
///
/// ```
/// use outbox::listener::{BoxError, Failure};
///
/// let reason: BoxError = "the pricing service does not answer".into();
/// assert!(matches!(Failure::Transient(reason), Failure::Transient(_)));
/// ```
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a batch was not applied. Its transaction is rolled back in every case, and no message is skipped.
///
/// `?` on a [`sqlx::Error`] chooses the variant by the SQLSTATE:
///
/// ```
/// use outbox::listener::{Failure, Refusal};
///
/// let timed_out: Failure = sqlx::Error::PoolTimedOut.into();
/// assert!(matches!(timed_out, Failure::Transient(_)));
///
/// // A handler that knows which events it refuses names them; the rest of the batch is applied.
/// let id = uuid::Uuid::now_v7();
/// let refused = Failure::Refused(vec![Refusal::poison(id, "a negative amount")]);
/// assert!(refused.to_string().contains("a negative amount"));
/// ```
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A retry can succeed: a lost connection, a deadlock, a time-out, a missing grant, a missing table. The listener retries the
    /// batch with back-off for as long as it takes.
    #[error("transient: {0}")]
    Transient(#[source] BoxError),
    /// The handler names the events that it refuses. The listener runs the batch again at once without them, and writes them as
    /// dead letters in the same transaction.
    #[error("{} event(s) refused, the first: {}", .0.len(), .0.first().map_or_else(String::new, ToString::to_string))]
    Refused(Vec<Refusal>),
    /// An event can never be applied, and the error does not name it: its data violate a constraint (SQLSTATE classes 22 and 23),
    /// or the handler panicked. The listener bisects the batch until the event stands alone, and writes it as a dead letter.
    #[error("poison: {0}")]
    Poison(#[source] BoxError),
    /// Any other error. The listener bisects the batch until the event stands alone, and retries that one with back-off. After
    /// five attempts it becomes a dead letter, provided that other events were applied meanwhile, or that the messages
    /// behind it fill the batch. Otherwise it is retried; messages of its key wait, others wait for 2 s at most.
    #[error("unknown: {0}")]
    Unknown(#[source] BoxError),
}

/// An event that the handler refuses.
///
/// ```
/// use outbox::listener::{Refusal, RefusalKind};
///
/// // The row that it refers to is not visible yet: the listener retries it by itself.
/// let refusal = Refusal::deferred(uuid::Uuid::now_v7(), "there is no order 7");
/// assert_eq!(refusal.kind, RefusalKind::Deferred);
/// ```
#[derive(Debug, thiserror::Error)]
#[error("event {id}: {source}")]
pub struct Refusal {
    /// The event's id.
    pub id: Uuid,
    /// Whether a retry can succeed.
    pub kind: RefusalKind,
    /// The reason, which the dead letter keeps.
    pub source: BoxError,
}

/// Whether a retry of a refused event can succeed.
///
/// ```
/// use outbox::listener::RefusalKind;
/// use outbox::listener::dead_letter::Kind;
///
/// // The dead letter's kind follows from it.
/// assert_eq!(Kind::from(RefusalKind::Deferred), Kind::Deferred);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// Never: decoding and checking it again gives the same answer.
    Poison,
    /// Later: what it refers to is not visible yet. The listener retries it by itself; see [`RetryPolicy`](super::RetryPolicy).
    Deferred,
}

impl Refusal {
    /// The event can never be applied.
    pub fn poison(id: Uuid, source: impl Into<BoxError>) -> Self {
        let (kind, source) = (RefusalKind::Poison, source.into());
        Self { id, kind, source }
    }

    /// The event cannot be applied yet: what it refers to is not visible.
    pub fn deferred(id: Uuid, source: impl Into<BoxError>) -> Self {
        let (kind, source) = (RefusalKind::Deferred, source.into());
        Self { id, kind, source }
    }
}

impl Failure {
    /// The failure's kind in one word, for logs and readiness; an error's text may quote a message's data.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Transient(_) => "transient",
            Self::Refused(_) => "refused",
            Self::Poison(_) => "poison",
            Self::Unknown(_) => "unknown",
        }
    }

    /// What an operator must do before a retry can succeed.
    pub(super) fn advice(&self) -> Option<&'static str> {
        self.transient_sql().and_then(sqlstate::advice)
    }

    /// Whether the transaction exceeded a time-out of the server's.
    pub(super) fn is_too_slow(&self) -> bool {
        self.transient_sql().is_some_and(sqlstate::is_too_slow)
    }

    /// Whether the connection must be discarded: an unknown error leaves it in an unknown state, and an outgrown prepared
    /// statement stays in its cache.
    pub(super) fn discards_connection(&self) -> bool {
        matches!(self, Self::Unknown(_)) || self.transient_sql().is_some_and(sqlstate::is_outgrown)
    }

    fn transient_sql(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Transient(error) => error.downcast_ref(),
            Self::Refused(_) | Self::Poison(_) | Self::Unknown(_) => None,
        }
    }

    /// Every error as text, formatted once: the `Display` of a handler's own error may panic.
    pub(super) fn in_words(self) -> Self {
        let words = |error: BoxError| -> BoxError { error.to_string().into() };
        match self {
            Self::Transient(error) => Self::Transient(words(error)),
            Self::Poison(error) => Self::Poison(words(error)),
            Self::Unknown(error) => Self::Unknown(words(error)),
            Self::Refused(refusals) => Self::Refused(
                refusals
                    .into_iter()
                    .map(|Refusal { id, kind, source }| Refusal {
                        id,
                        kind,
                        source: words(source),
                    })
                    .collect(),
            ),
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        match sqlstate::class(&error) {
            Class::Transient => Self::Transient(error.into()),
            Class::Poison => Self::Poison(error.into()),
            Class::Unknown => Self::Unknown(error.into()),
        }
    }
}

impl From<crate::Unpublishable> for Failure {
    fn from(error: crate::Unpublishable) -> Self {
        Self::Unknown(error.into())
    }
}
