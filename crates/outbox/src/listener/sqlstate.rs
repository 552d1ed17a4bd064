//! What an error of the database means for a batch, by its SQLSTATE (PostgreSQL's documentation, appendix A).
//!
//! The question is always whether a retry of the same batch can succeed. An error that is wrongly called transient blocks all
//! messages for ever; one that is wrongly called poison turns healthy events into dead letters. Where both are possible the error
//! is unknown, and the bisection finds out: if other messages can be applied, it was the message.

/// Whether a retry can succeed, or the data are to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Transient,
    Poison,
    Unknown,
}

/// An error's class.
///
/// [`sqlx::Error::Protocol`] is unknown, not transient: sqlx returns it for a statement with more than 65,535 arguments, and a
/// batch of fewer messages succeeds.
pub(super) fn class(error: &sqlx::Error) -> Class {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => Class::Transient,
        sqlx::Error::Database(answer) => {
            let code = answer.code().unwrap_or_default();
            if is_transient(&code) || is_outgrown(error) {
                Class::Transient
            } else if code.starts_with("22") || code.starts_with("23") {
                // Data exception; integrity constraint violation.
                Class::Poison
            } else {
                Class::Unknown
            }
        }
        _ => Class::Unknown,
    }
}

fn is_transient(code: &str) -> bool {
    let class = code.get(..2).unwrap_or_default();
    match class {
        // Connection exceptions; but the server answers a statement that lacks an argument with a protocol violation.
        "08" => code != "08P01",
        // Of the invalid transaction states: a read-only standby, and the time-outs of an idle and of a long transaction. A handler
        // causes the others, for example 25P02 by going on after an error.
        "25" => matches!(code, "25006" | "25P03" | "25P04"),
        // Authorization; transaction rollback (serialization, deadlock); insufficient resources; operator intervention
        // (time-outs, shutdown); system error.
        "28" | "40" | "53" | "57" | "58" => true,
        // Lock not available. The other object states (55000) may be a handler's mistake, such as lastval before nextval: retried
        // as transient, that would block all messages for ever.
        _ => code == "55P03" || advice_for(code).is_some(),
    }
}

/// What an operator must do before a retry can succeed: a deployment is not complete yet.
pub(super) fn advice(error: &sqlx::Error) -> Option<&'static str> {
    match error {
        sqlx::Error::Database(answer) => advice_for(&answer.code()?),
        _ => None,
    }
}

fn advice_for(code: &str) -> Option<&'static str> {
    match code {
        "42501" => {
            Some("grant the privilege to the database user; `migrate` grants the library's own")
        }
        // Table, column, function, type, schema.
        "42P01" | "42703" | "42883" | "42704" | "3F000" => Some(
            "the database lacks a table, column, function or schema: run `migrate`, or correct the handler's SQL",
        ),
        "3D000" => Some("create the database, then run `migrate`"),
        _ => None,
    }
}

/// Whether a migration has changed the columns that a prepared statement returns.
pub(super) fn is_outgrown(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else {
        return false;
    };
    error.code().as_deref() == Some("0A000")
        && error.message() == "cached plan must not change result type"
}

/// Whether the server cancelled a statement, or ended the session since the transaction was idle or open for too long.
///
/// A client that is just sending a large statement when the server ends its session only sees a broken pipe. So does a client
/// whose server went down; retrying that with fewer messages does no harm.
pub(super) fn is_too_slow(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            matches!(error.code().as_deref(), Some("57014" | "25P03" | "25P04"))
        }
        sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::BrokenPipe,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::error::Error;

    use sqlx::error::{DatabaseError, ErrorKind};

    use super::*;
    use crate::listener::failure::Failure;
    use crate::listener::stop::Failed;

    #[test]
    fn errors_that_a_retry_can_cure_are_transient() {
        for code in [
            "08006", "40001", "40P01", "55P03", "57014", "57P01", "25006", "25P03", "25P04",
            "53300", "42501", "42P01", "42703", "42883", "42704", "3F000", "3D000",
        ] {
            assert!(is_transient(code), "{code}");
        }
        for code in [
            "08P01", "22003", "22P05", "23505", "23514", "25001", "25P02", "42601", "55000",
            "XX000", "",
        ] {
            assert!(!is_transient(code), "{code}");
        }
        assert_eq!(class(&sqlx::Error::PoolTimedOut), Class::Transient);
        assert_eq!(class(&sqlx::Error::RowNotFound), Class::Unknown);
    }

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
            let failed = Failed::from(failed(code, "no"));
            assert!(failed.advice.unwrap().contains(advice), "{code}");
            assert_eq!(
                failed.failure.in_words().to_string(),
                "transient: error returned from database: no"
            );
        }
        assert_eq!(Failed::from(failed("40001", "")).advice, None);
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
