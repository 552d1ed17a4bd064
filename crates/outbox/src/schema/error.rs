//! Why a database was not migrated.

use sqlx::error::DatabaseError;
use sqlx::migrate::MigrateError;

use super::session;
use crate::topic::InvalidTopic;

/// A database that is not migrated. The migrations before the one that failed stay applied; run it again after the remedy.
///
/// ```
/// use outbox::schema::Error;
///
/// /// Whether a deployment should wait and run the migrations once more.
/// fn is_temporary(error: &Error) -> bool {
///     matches!(error, Error::Locked { .. } | Error::Busy | Error::Database(_))
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A session holds a lock that a migration, a grant or the version table needs.
    #[error(
        "{what} got no lock within {waited} s, {attempts} times; end the transactions that hold it \
         (select pid, usename, query from pg_stat_activity where xact_start is not null order by xact_start), then migrate again"
    )]
    Locked {
        /// The migration and its version table, `the grants`, or the query of a version table.
        what: String,
        /// `lock_timeout`, in seconds.
        waited: u64,
        /// How often it was tried.
        attempts: u32,
        /// The database's last answer.
        source: sqlx::Error,
    },
    /// Another process has been migrating the database for ten minutes.
    #[error(
        "another process has been migrating the database for {} min; wait for it to end, or end its session (select \
         pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where \
         datname = current_database())), then migrate again",
        session::SESSION_TIMEOUT.as_secs() / 60
    )]
    Busy,
    /// The text of a migration is not the one that was applied.
    #[error(
        "the text of migration {version} differs from the one that was applied (table {table}); restore it and put the change in a new \
         migration"
    )]
    Changed {
        /// The version table of the migrations.
        table: String,
        /// The migration.
        version: i64,
    },
    /// A migration that runs outside a transaction does not build one index. None of the migrations was applied.
    #[error(
        "migration {version} of {table} begins with `-- no-transaction` and is not the one statement \
         `create [unique] index concurrently if not exists NAME on TABLE …`, NAME without a schema; write it so, or remove its first line"
    )]
    NotAnIndex {
        /// The version table of the migrations.
        table: String,
        /// The migration.
        version: i64,
    },
    /// The part's tables exist, but no version of them is recorded: another tool applied the SQL.
    #[error(
        "table {table} exists, but {version_table} records no version of it; keep applying the library's SQL by the tool that made the \
         table, or record the versions with the statements of outbox::schema::Migration::record"
    )]
    Unrecorded {
        /// The table that is there.
        table: &'static str,
        /// The table that should name its version.
        version_table: &'static str,
    },
    /// No event can go to a topic of this name.
    #[error("no event can go to topic {name:?}: {source}")]
    Topic {
        /// The name.
        name: String,
        /// What is wrong with it.
        source: InvalidTopic,
    },
    /// A role is missing, or the connection's role may not grant.
    #[error("cannot grant the roles what they need; {}, then migrate again", remedy(.0))]
    Grants(#[source] sqlx::Error),
    /// A statement of a migration failed.
    #[error(
        "migration {version} of {table} failed; {}, then migrate again",
        remedy(source)
    )]
    Statement {
        /// The version table of the migrations.
        table: String,
        /// The migration.
        version: i64,
        /// The database's answer.
        source: sqlx::Error,
    },
    /// The version table cannot be read or written.
    #[error(
        "cannot read or create table {table}; {}, then migrate again",
        remedy(source)
    )]
    Versions {
        /// The version table.
        table: String,
        /// The database's answer.
        source: sqlx::Error,
    },
    /// The database does not answer.
    #[error("the database does not answer; see that it is up, then migrate again")]
    Database(#[from] sqlx::Error),
}

/// The database's own answer, without sqlx's words around it.
pub(super) fn of_database(error: MigrateError) -> sqlx::Error {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error,
        other => sqlx::Error::Migrate(Box::new(other)),
    }
}

/// What helps, by the SQLSTATE of the database's answer.
fn remedy(error: &sqlx::Error) -> &'static str {
    let code = error.as_database_error().map(DatabaseError::code);
    match code {
        None => "see that the database is up",
        Some(Some(code)) if code == "42501" => "connect as the owner of the database",
        Some(Some(code)) if code == "42704" => {
            "create the role or object that the database misses (create role NAME)"
        }
        Some(Some(code)) if code == "42P07" || code == "42710" => {
            "rename or drop the object that exists already"
        }
        Some(_) => "correct what the database rejects",
    }
}
