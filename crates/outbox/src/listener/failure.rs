//! What can go wrong with a batch, and what then becomes of it.

use uuid::Uuid;

/// Any error, boxed.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a batch was not applied. Its transaction is rolled back in every case.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It will pass: a lost connection, a deadlock, a time-out, a missing grant. The batch is retried with back-off
    /// for as long as it takes.
    #[error("transient: {0}")]
    Transient(#[source] BoxError),
    /// The handler names the messages that it refuses. The batch runs again at once without them; they are put
    /// aside in the transaction that moves on.
    #[error("{} message(s) refused, the first: {}", .0.len(), .0.first().map_or_else(String::new, ToString::to_string))]
    Refused(Vec<Refusal>),
    /// A message of the batch can never be applied, and nobody says which: its data break a rule of the database
    /// (SQLSTATE classes 22 and 23), or the handler panicked. The batch is split until the message stands alone, and that
    /// one is dead-lettered.
    #[error("poison: {0}")]
    Poison(#[source] BoxError),
    /// Anything else. The batch is split until the message stands alone; that one is tried again a few times, and dead-lettered
    /// where others can be applied meanwhile, or where a hundred or more of its key leave no room for others. Else it is retried
    /// with back-off: what is of its key waits until then, and other messages until it is tried next, 2 s at most.
    #[error("unknown: {0}")]
    Unknown(#[source] BoxError),
}

/// A message that the handler refuses.
#[derive(Debug, thiserror::Error)]
#[error("event {id}: {source}")]
pub struct Refusal {
    /// The event's id.
    pub id: Uuid,
    /// Whether it may be applied later.
    pub kind: RefusalKind,
    /// Why.
    pub source: BoxError,
}

/// Whether a refused message may be applied later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// Never: reading it again gives the same answer.
    Poison,
    /// Not yet: what it refers to is not visible. It is tried again by itself for a while; see
    /// [`RetryPolicy`](super::RetryPolicy).
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

/// What is left over waits for others who have its keys locked: nothing is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("somebody else is at the dead letters of a message's key")]
pub(super) struct BusyKeys;

/// What is left over waits for the circuit breaker: nothing is tried.
#[derive(Debug, thiserror::Error)]
#[error("the circuit breaker is open")]
pub(super) struct BreakerOpen;

/// An error in words that passes only if somebody does something.
#[derive(Debug, thiserror::Error)]
#[error("{words}")]
struct Advised {
    words: String,
    advice: &'static str,
}

impl Failure {
    /// The kind, for people; what the error says may quote what is nobody's business.
    pub(super) fn class(&self) -> &'static str {
        match self {
            Self::Transient(_) => "transient",
            Self::Refused(_) => "refused",
            Self::Poison(_) => "poison",
            Self::Unknown(_) => "unknown",
        }
    }

    /// Whether its connection is to be closed: nobody knows what it has left there, or sqlx keeps a prepared statement there that
    /// the schema has outgrown.
    pub(super) fn spoils_connection(&self) -> bool {
        match self {
            Self::Unknown(_) => true,
            Self::Transient(error) => error.downcast_ref().is_some_and(is_outgrown),
            Self::Refused(_) | Self::Poison(_) => false,
        }
    }

    /// Whether it only waits for others to be done with dead letters.
    pub(super) fn is_busy_keys(&self) -> bool {
        matches!(self, Self::Transient(error) if error.is::<BusyKeys>())
    }

    /// Whether nothing was tried, since the circuit breaker is open.
    pub(super) fn is_breaker_open(&self) -> bool {
        matches!(self, Self::Transient(error) if error.is::<BreakerOpen>())
    }

    /// What somebody is to do, or it never passes.
    pub(super) fn advice(&self) -> Option<&'static str> {
        let Self::Transient(error) = self else {
            return None;
        };
        if let Some(Advised { advice, .. }) = error.downcast_ref() {
            return Some(advice);
        }
        match error.downcast_ref() {
            Some(sqlx::Error::Database(error)) => advice(&error.code()?),
            _ => None,
        }
    }

    /// With every error said in words, once: a handler's own may panic as it is shown.
    pub(super) fn in_words(self) -> Self {
        let words = |error: BoxError| -> BoxError { error.to_string().into() };
        let advice = self.advice();
        match self {
            Self::Transient(error) => Self::Transient(match advice {
                Some(advice) => {
                    let words = error.to_string();
                    Advised { words, advice }.into()
                }
                None => words(error),
            }),
            Self::Poison(error) => Self::Poison(words(error)),
            Self::Unknown(error) => Self::Unknown(words(error)),
            Self::Refused(named) => Self::Refused(
                named
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

    /// Whether the server cancelled a statement, which took too long, or ended the session, which was left idle, or whose
    /// transaction went on, for too long.
    /// Of the latter a statement that is larger than the connection takes at once learns only that nobody reads it: so it
    /// does where the server went down, and then fewer messages at a time harm nothing.
    pub(super) fn is_too_slow(&self) -> bool {
        let Self::Transient(error) = self else {
            return false;
        };
        match error.downcast_ref() {
            Some(sqlx::Error::Database(error)) => {
                matches!(error.code().as_deref(), Some("57014" | "25P03" | "25P04"))
            }
            Some(sqlx::Error::Io(error)) => error.kind() == std::io::ErrorKind::BrokenPipe,
            _ => false,
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        if is_transient(&error) {
            Self::Transient(error.into())
        } else if is_poison(&error) {
            Self::Poison(error.into())
        } else {
            Self::Unknown(error.into())
        }
    }
}

impl From<crate::Unpublishable> for Failure {
    fn from(error: crate::Unpublishable) -> Self {
        Self::Unknown(error.into())
    }
}

/// Whether waiting helps, by SQLSTATE (PostgreSQL's documentation, appendix A). Not with [`sqlx::Error::Protocol`]: so sqlx
/// says that a statement has more arguments than it can, which fewer messages cure.
fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(answer) => {
            answer.code().is_some_and(|code| is_transient_state(&code)) || is_outgrown(error)
        }
        _ => false,
    }
}

/// Whether a prepared statement would now answer with other columns, since a migration has changed a table.
fn is_outgrown(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else {
        return false;
    };
    error.code().as_deref() == Some("0A000")
        && error.message() == "cached plan must not change result type"
}

fn is_transient_state(code: &str) -> bool {
    let class = code.get(..2).unwrap_or_default();
    match class {
        // Connection, but for a violation of the protocol: so the server answers a statement with an argument too few.
        "08" => code != "08P01",
        // Of the invalid transaction states a standby, and the time-outs of an idle and of a long transaction; the others are
        // brought about by a handler, such as 25P02, where it goes on after an error.
        "25" => matches!(code, "25006" | "25P03" | "25P04"),
        // Authorization; transaction rollback (serialization, deadlock); insufficient resources; operator intervention
        // (time-outs, shutdown); system error.
        "28" | "40" | "53" | "57" | "58" => true,
        // Lock not available. The other states of an object (55000) are as likely a handler's mistake, such as lastval before
        // nextval: that would be tried for ever, and hold up all; where it is none, and nothing can be applied, it is so anyway.
        _ => code == "55P03" || advice(code).is_some(),
    }
}

/// What somebody is to do where the database lacks what is asked for: a deployment is on its way, or was forgotten.
fn advice(code: &str) -> Option<&'static str> {
    match code {
        "42501" => Some("the database's user lacks a right: grant it"),
        // Table, column, function, type, schema.
        "42P01" | "42703" | "42883" | "42704" | "3F000" => {
            Some("the database's schema lacks what is asked for: run `migrate`")
        }
        "3D000" => Some("the database is not there: create it"),
        _ => None,
    }
}

/// Whether data break a rule: data exception, integrity constraint violation.
fn is_poison(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else {
        return false;
    };
    let code = error.code().unwrap_or_default();
    code.starts_with("22") || code.starts_with("23")
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::error::Error;

    use sqlx::error::{DatabaseError, ErrorKind};

    use super::*;

    #[test]
    fn what_waiting_cures_is_transient() {
        for code in [
            "08006", "40001", "40P01", "55P03", "57014", "57P01", "25006", "25P03", "25P04",
            "53300", "42501", "42P01", "42703", "42883", "42704", "3F000", "3D000",
        ] {
            assert!(is_transient_state(code), "{code}");
        }
        for code in [
            "08P01", "22003", "22P05", "23505", "23514", "25001", "25P02", "42601", "55000",
            "XX000", "",
        ] {
            assert!(!is_transient_state(code), "{code}");
        }
        assert!(is_transient(&sqlx::Error::PoolTimedOut));
        assert!(!is_transient(&sqlx::Error::RowNotFound));
    }

    #[test]
    fn more_arguments_than_a_statement_takes_are_cured_by_fewer_messages() {
        let many = sqlx::Error::protocol("too many arguments for query: 65536 sent");
        assert!(matches!(Failure::from(many), Failure::Unknown(_)));
    }

    #[test]
    fn a_statement_that_the_schema_has_outgrown_passes_with_its_connection() {
        let outgrown = failed("0A000", "cached plan must not change result type");
        assert!(matches!(outgrown, Failure::Transient(_)));
        assert!(outgrown.spoils_connection());
        let unsupported = failed("0A000", "cannot do that");
        assert!(matches!(unsupported, Failure::Unknown(_)));
        assert!(unsupported.spoils_connection());
        assert!(!failed("40001", "").spoils_connection());
        assert!(!failed("23505", "").spoils_connection());
    }

    #[test]
    fn what_the_server_ends_for_its_length_is_too_slow() {
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
    fn what_is_missing_comes_with_advice_in_words_too() {
        for (code, advice) in [
            ("42501", "grant"),
            ("42P01", "migrate"),
            ("42883", "migrate"),
            ("3D000", "create"),
        ] {
            let failure = failed(code, "no");
            assert!(failure.advice().unwrap().contains(advice), "{code}");
            let words = failure.in_words();
            assert!(words.advice().unwrap().contains(advice), "{code}");
            assert_eq!(
                words.to_string(),
                "transient: error returned from database: no"
            );
        }
        assert_eq!(failed("40001", "").advice(), None);
        assert_eq!(failed("40001", "").in_words().advice(), None);
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
