//! Why a batch was not applied, as a handler reports it.

use std::error::Error;
use std::fmt::{self, Display};
use std::ops::Deref;

use uuid::Uuid;

use super::sqlstate::{self, Class, Remedy};
use crate::event::Unpublishable;

/// Any error, boxed; `?` and `into` make one of any error, and of a text.
///
/// ```
/// use outbox::listener::{BoxError, Failure};
///
/// let reason: BoxError = "the pricing service refuses the currency".into();
/// assert!(matches!(Failure::Unknown(reason), Failure::Unknown(_)));
/// ```
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why a batch was not applied. Its transaction rolls back in every case, and the listener skips no message.
///
/// `?` on a [`sqlx::Error`] chooses the variant by the SQLSTATE:
///
/// ```
/// use outbox::listener::{Failure, Refusal};
///
/// let timed_out: Failure = sqlx::Error::PoolTimedOut.into();
/// assert!(matches!(timed_out, Failure::Transient(_)));
///
/// // A handler that knows which events it refuses names them; the listener applies the rest of the batch.
/// let id = uuid::Uuid::now_v7();
/// let refused = Failure::Refused(vec![Refusal::poison(id, "a negative amount")]);
/// assert!(refused.to_string().contains("a negative amount"));
/// ```
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A retry can succeed: a lost connection, a deadlock, a time-out, a missing grant, a missing table. The listener retries the
    /// batch with back-off for as long as it takes.
    #[error("transient: {0}")]
    Transient(#[source] Cause),
    /// The handler names the events that it refuses. The listener runs the batch again at once without them, and writes them as
    /// dead letters in the same transaction.
    #[error("the handler refused {} event(s), the first: {}", .0.len(), .0.first().map_or_else(String::new, ToString::to_string))]
    Refused(Vec<Refusal>),
    /// No retry can apply an event, and the error does not name it: its data violate a constraint (SQLSTATE classes 22 and 23),
    /// or the handler panicked. The listener bisects the batch until the event stands alone, and writes it as a dead letter.
    #[error("poison: {0}")]
    Poison(#[source] BoxError),
    /// Any other error. The listener bisects the batch until the event stands alone, and retries that one with back-off. After
    /// five attempts it becomes a dead letter, provided that the listener applied other events meanwhile, or that the messages
    /// behind it fill the batch. Otherwise the listener keeps retrying it; messages of its key wait, others for 2 s at most.
    #[error("unknown: {0}")]
    Unknown(#[source] BoxError),
}

/// The error of a [`Failure::Transient`]. `into` makes one of any error, and of a text.
///
/// Like `Box<dyn Error>` it dereferences to the error, and is none itself. It also keeps what the SQLSTATE of a [`sqlx::Error`]
/// says about the retry, such as a grant that is missing. That is known where `?` makes the [`Failure`], and not of an error that
/// the handler wraps by itself.
///
/// ```
/// use outbox::listener::Failure;
///
/// let failure = Failure::Transient("the pricing service does not answer".into());
/// assert_eq!(failure.to_string(), "transient: the pricing service does not answer");
/// ```
#[derive(Debug)]
pub struct Cause {
    error: BoxError,
    remedy: Remedy,
}

impl<E: Into<BoxError>> From<E> for Cause {
    fn from(error: E) -> Self {
        let (error, remedy) = (error.into(), Remedy::Wait);
        Self { error, remedy }
    }
}

impl Deref for Cause {
    type Target = dyn Error + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &*self.error
    }
}

impl Display for Cause {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(to)
    }
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
    /// No retry can apply the event.
    pub fn poison(id: Uuid, source: impl Into<BoxError>) -> Self {
        let (kind, source) = (RefusalKind::Poison, source.into());
        Self { id, kind, source }
    }

    /// A later retry can apply the event: what it refers to is not visible yet.
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

    /// An error of the database that is no message's fault, whatever the server answers.
    pub(super) fn transient(error: sqlx::Error) -> Self {
        match Self::from(error) {
            Self::Poison(error) | Self::Unknown(error) => Self::Transient(error.into()),
            failure @ (Self::Transient(_) | Self::Refused(_)) => failure,
        }
    }

    /// What an operator must do before a retry can succeed.
    pub(super) fn advice(&self) -> Option<&'static str> {
        match self.remedy()? {
            Remedy::Operator(advice) => Some(advice),
            Remedy::Wait | Remedy::FewerMessages | Remedy::NewConnection => None,
        }
    }

    /// Whether the transaction exceeded a time-out of the server's.
    pub(super) fn is_too_slow(&self) -> bool {
        self.remedy() == Some(Remedy::FewerMessages)
    }

    /// Whether the connection must be discarded: an unknown error leaves it in an unknown state, and an outgrown prepared
    /// statement stays in its cache.
    pub(super) fn discards_connection(&self) -> bool {
        matches!(self, Self::Unknown(_)) || self.remedy() == Some(Remedy::NewConnection)
    }

    fn remedy(&self) -> Option<Remedy> {
        match self {
            Self::Transient(cause) => Some(cause.remedy),
            Self::Refused(_) | Self::Poison(_) | Self::Unknown(_) => None,
        }
    }

    /// Every error as text, formatted once: the `Display` of a handler's own error may panic.
    pub(super) fn in_words(self) -> Self {
        let words = |error: BoxError| -> BoxError { error.to_string().into() };
        match self {
            Self::Transient(Cause { error, remedy }) => Self::Transient(Cause {
                error: words(error),
                remedy,
            }),
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
            Class::Transient(remedy) => Self::Transient(Cause {
                error: error.into(),
                remedy,
            }),
            Class::Poison => Self::Poison(error.into()),
            Class::Unknown => Self::Unknown(error.into()),
        }
    }
}

impl From<Unpublishable> for Failure {
    fn from(error: Unpublishable) -> Self {
        Self::Unknown(error.into())
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use sqlx::error::{DatabaseError, ErrorKind};

    use super::*;

    #[test]
    fn a_statement_with_too_many_arguments_is_unknown_so_that_the_batch_is_bisected() {
        let many = sqlx::Error::protocol("too many arguments for query: 65536 sent");
        assert!(matches!(Failure::from(many), Failure::Unknown(_)));
    }

    #[test]
    fn an_outgrown_prepared_statement_is_transient_and_discards_the_connection() {
        let outgrown = failed("0A000", "cached plan must not change result type");
        assert!(matches!(outgrown, Failure::Transient(_)));
        assert!(outgrown.discards_connection());
        let unsupported = failed("0A000", "cannot do that");
        assert!(matches!(unsupported, Failure::Unknown(_)));
        assert!(unsupported.discards_connection());
        assert!(!failed("40001", "").discards_connection());
        assert!(!failed("23505", "").discards_connection());
    }

    #[test]
    fn time_outs_of_the_server_are_too_slow() {
        for (code, slow) in [
            ("57014", true),
            ("25P03", true),
            ("25P04", true),
            ("57P01", false),
        ] {
            assert_eq!(failed(code, "").is_too_slow(), slow, "{code}");
        }
    }

    #[test]
    fn a_missing_object_or_grant_comes_with_advice() {
        for (code, advice) in [
            ("42501", "grant"),
            ("42P01", "migrate"),
            ("42883", "migrate"),
            ("3D000", "create"),
        ] {
            let failure = failed(code, "no");
            assert!(failure.advice().unwrap().contains(advice), "{code}");
            let words = failure.in_words();
            assert_eq!(
                words.to_string(),
                "transient: error returned from database: no"
            );
            assert!(words.advice().unwrap().contains(advice), "{code}");
        }
        assert_eq!(failed("40001", "").advice(), None);
    }

    fn failed(code: &'static str, message: &'static str) -> Failure {
        sqlx::Error::database(Answer { code, message }).into()
    }

    /// What a server answers.
    #[derive(Debug, thiserror::Error)]
    #[error("{message}")]
    struct Answer {
        code: &'static str,
        message: &'static str,
    }

    impl DatabaseError for Answer {
        fn message(&self) -> &str {
            self.message
        }

        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.code.into())
        }

        fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn Error + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn Error + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
    }
}
