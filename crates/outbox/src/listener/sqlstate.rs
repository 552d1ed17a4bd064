//! What an error of the database means for a batch, by its SQLSTATE (PostgreSQL's documentation, appendix A).
//!
//! The question is always whether a retry of the same batch can succeed. An error that is wrongly called transient blocks all
//! messages for ever; one that is wrongly called poison turns healthy events into dead letters. Where both are possible the error
//! is unknown, and the bisection finds out: if the listener can apply other messages, it was the message.

use std::io;

/// Whether a retry can succeed, or the data are to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Transient(Remedy),
    Poison,
    Unknown,
}

/// What a retry needs to succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Time.
    Wait,
    /// An operator, who completes a deployment as the advice says.
    Operator(&'static str),
    /// Fewer messages: the server cancelled a statement, or ended the session since the transaction was idle or open for too long.
    FewerMessages,
    /// Another connection: a migration has changed the columns that a prepared statement of this one returns.
    NewConnection,
}

/// An error's class.
///
/// A client that is just sending a large statement when the server ends its session only sees a broken pipe. So does a client
/// whose server went down; retrying that with fewer messages does no harm.
///
/// [`sqlx::Error::Protocol`] is unknown, not transient: sqlx returns it for a statement with more than 65,535 arguments, and a
/// batch of fewer messages succeeds.
pub(super) fn class(error: &sqlx::Error) -> Class {
    match error {
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            Class::Transient(Remedy::FewerMessages)
        }
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => Class::Transient(Remedy::Wait),
        sqlx::Error::Database(answer) => {
            class_of(&answer.code().unwrap_or_default(), answer.message())
        }
        _ => Class::Unknown,
    }
}

/// The class of an answer of the server.
fn class_of(code: &str, message: &str) -> Class {
    let remedy = match code {
        "42501" => Remedy::Operator(
            "grant the privilege to the database user; `migrate` grants the library's own",
        ),
        // Table, column, function, type, schema.
        "42P01" | "42703" | "42883" | "42704" | "3F000" => Remedy::Operator(
            "the database lacks a table, column, function or schema: run `migrate`, or correct the handler's SQL",
        ),
        "3D000" => Remedy::Operator("create the database, then run `migrate`"),
        // Query cancelled; the time-outs of an idle and of a long transaction.
        "57014" | "25P03" | "25P04" => Remedy::FewerMessages,
        "0A000" if message == "cached plan must not change result type" => Remedy::NewConnection,
        // Of the invalid transaction states (25) also a read-only standby: a handler causes the others, for example 25P02 by going
        // on after an error. Of the object states (55) a lock that is not available: the others may be a handler's mistake, such
        // as lastval before nextval. Retried as transient, such a mistake would block all messages for ever.
        "25006" | "55P03" => Remedy::Wait,
        // A protocol violation: the server's answer to a statement that lacks an argument.
        "08P01" => return Class::Unknown,
        _ => match code.get(..2) {
            // Connection exceptions; authorization; transaction rollback (serialization, deadlock); insufficient resources;
            // operator intervention (shutdown); system error.
            Some("08" | "28" | "40" | "53" | "57" | "58") => Remedy::Wait,
            // Data exception; integrity constraint violation.
            Some("22" | "23") => return Class::Poison,
            _ => return Class::Unknown,
        },
    };
    Class::Transient(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_transient(code: &str) -> bool {
        matches!(class_of(code, ""), Class::Transient(_))
    }

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
        let waits = Class::Transient(Remedy::Wait);
        assert_eq!(class(&sqlx::Error::PoolTimedOut), waits);
        assert_eq!(class(&sqlx::Error::RowNotFound), Class::Unknown);
    }
}
