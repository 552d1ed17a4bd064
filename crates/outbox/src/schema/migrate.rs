//! Applies migrations one after the other, without blocking a database in use.

use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::migrate::{Migrate, MigrateError, Migration, Migrator};
use sqlx::{Acquire, AssertSqlSafe, PgConnection};

use super::grants::Roles;
use super::migration::Part;
use super::session::{self, Session};

/// Attempts at a migration that does not get its locks.
const ATTEMPTS: u32 = 5;
/// The pause between two attempts: the statements that waited behind the migration run in it.
const PAUSE: Duration = Duration::from_secs(1);
/// The version table of sqlx's migrator, which a service's own migrations use.
const OWN_VERSION_TABLE: &str = "_sqlx_migrations";

/// A database that could not be migrated. The migrations before the one that failed stay applied; run it again after the remedy.
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
    /// A session holds a lock that a migration or a grant needs.
    #[error(
        "{what} got no lock within {waited} s, {attempts} times; end the transactions that use its tables \
         (select pid, usename, query from pg_stat_activity where xact_start is not null order by xact_start), then migrate again"
    )]
    Locked {
        /// The migration and its version table, or `the grants`.
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
        "another process has been migrating the database for {} min; wait for it to end, or end its session (select pid from \
         pg_locks where locktype = 'advisory'), then migrate again",
        session::SESSION_TIMEOUT.as_secs() / 60
    )]
    Busy,
    /// The text of a migration is not the one that was applied.
    #[error(
        "migration {version} was changed after it was applied (table {table}); restore its text and put the change in a new migration"
    )]
    Changed {
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
    /// A role is missing, or the connection's role may not grant.
    #[error(
        "the roles could not be granted what they need; make each role first, and migrate as the database's owner"
    )]
    Grants(#[source] sqlx::Error),
    /// A statement of a migration failed.
    #[error("migration {version} of {table} failed; migrate as the database's owner")]
    Statement {
        /// The version table of the migrations.
        table: String,
        /// The migration.
        version: i64,
        /// The database's answer.
        source: MigrateError,
    },
    /// The version table could not be read or written.
    #[error("the versions in table {table} could not be read; migrate as the database's owner")]
    Versions {
        /// The version table.
        table: String,
        /// Why.
        source: MigrateError,
    },
    /// The database does not answer.
    #[error("the database could not be asked")]
    Database(#[from] sqlx::Error),
}

/// Creates or upgrades the tables of `parts`, and grants `roles` what they need. A second run changes nothing.
///
/// Pass a connection of the database's owner, outside a transaction, and not through a pooler in transaction mode: it sets session
/// settings and holds a session's advisory lock.
///
/// ```no_run
/// # async fn run(owner: &mut sqlx::PgConnection) -> Result<(), outbox::schema::Error> {
/// use outbox::schema::{Part, Roles, migrate};
///
/// let roles = Roles::default().listener("payment_service");
/// migrate(owner, &[Part::Listener], &roles).await?;
/// # Ok(())
/// # }
/// ```
///
/// The tables go into the first schema of its `search_path`; the connector reads them in `public`. If the future is dropped before it
/// ends, close the connection: it still holds the lock.
///
/// A version that the database has and this release does not know is ignored; see [the module](super) about upgrades.
///
/// # Errors
/// [`Error`]; the migrations before the one that failed stay applied, and another run goes on from there.
pub async fn migrate(
    database: &mut PgConnection,
    parts: &[Part],
    roles: &Roles,
) -> Result<(), Error> {
    let session = Session::begin(database).await?.ok_or(Error::Busy)?;
    let migrated = parts_and_grants(database, parts, roles).await;
    let ended = session.end(database).await;
    // The first error is the cause of the second.
    migrated.and(ended.map_err(Error::from))
}

/// Applies a service's own migrations with the same caution as the library's: see [the module](super) about upgrades.
///
/// Their versions are in the table `_sqlx_migrations`, as sqlx's migrator keeps them; a version that is there and not in `migrations`
/// is ignored. A migration that builds an index concurrently begins with `-- no-transaction` and consists of one statement, `create
/// index concurrently if not exists name on …`.
///
/// ```no_run
/// # async fn run(owner: &mut sqlx::PgConnection) -> Result<(), outbox::schema::Error> {
/// # let own_migrations = sqlx::migrate::Migrator::with_migrations(Vec::new());
/// // As `sqlx::migrate!("migrations")` yields them.
/// outbox::schema::migrate_own(owner, &own_migrations).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error`]; the migrations before the one that failed stay applied, and another run goes on from there.
pub async fn migrate_own(database: &mut PgConnection, migrations: &Migrator) -> Result<(), Error> {
    let session = Session::begin(database).await?.ok_or(Error::Busy)?;
    let migrated = run(database, OWN_VERSION_TABLE, migrations).await;
    let ended = session.end(database).await;
    migrated.and(ended.map_err(Error::from))
}

async fn parts_and_grants(
    database: &mut PgConnection,
    parts: &[Part],
    roles: &Roles,
) -> Result<(), Error> {
    for part in parts {
        let (table, version_table) = (part.first_table(), part.version_table());
        if exists(database, table).await? && !has_rows(database, version_table).await? {
            return Err(Error::Unrecorded {
                table,
                version_table,
            });
        }
        run(database, version_table, part.migrator()).await?;
    }
    let grants: String = parts.iter().map(|part| roles.grants(*part)).collect();
    grant(database, &grants).await
}

/// Runs the grants in one transaction, again if it does not get its locks.
async fn grant(database: &mut PgConnection, grants: &str) -> Result<(), Error> {
    let mut attempts = 1;
    loop {
        let granted = async {
            let mut tx = database.begin().await?;
            let grants = sqlx::raw_sql(AssertSqlSafe(grants.to_owned()));
            grants.execute(&mut *tx).await?;
            tx.commit().await
        };
        match granted.await {
            Ok(()) => return Ok(()),
            Err(source) if !is_lock(&source) => return Err(Error::Grants(source)),
            Err(source) if attempts == ATTEMPTS => {
                return Err(Error::Locked {
                    what: "the grants".to_owned(),
                    waited: session::LOCK_TIMEOUT.as_secs(),
                    attempts,
                    source,
                });
            }
            Err(_) => tracing::warn!("the grants got no lock; trying again"),
        }
        attempts += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Applies what `table` does not have yet.
///
/// [`Migrator::run`] does not fit: it waits for its lock within the server (see [`Session::begin`]), knows one `lock_timeout` for all
/// migrations, and leaves an invalid index where it is.
async fn run(database: &mut PgConnection, table: &str, migrations: &Migrator) -> Result<(), Error> {
    let versions = |source| Error::Versions {
        table: table.to_owned(),
        source,
    };
    if !exists(database, table).await? {
        database
            .ensure_migrations_table(table)
            .await
            .map_err(versions)?;
    }
    let applied = database
        .list_applied_migrations(table)
        .await
        .map_err(versions)?;
    for migration in migrations.iter() {
        if migration.migration_type.is_down_migration() {
            continue;
        }
        match applied
            .iter()
            .find(|applied| applied.version == migration.version)
        {
            Some(applied) if applied.checksum == migration.checksum => {}
            Some(_) => {
                return Err(Error::Changed {
                    table: table.to_owned(),
                    version: migration.version,
                });
            }
            None if migration.no_tx => apply_outside(database, table, migration).await?,
            None => apply(database, table, migration).await?,
        }
    }
    Ok(())
}

/// Applies a migration in a transaction of its own, again if it does not get its locks.
async fn apply(
    database: &mut PgConnection,
    table: &str,
    migration: &Migration,
) -> Result<(), Error> {
    let mut attempts = 1;
    loop {
        let Err(error) = database.apply(table, migration).await else {
            return Ok(());
        };
        if attempts == ATTEMPTS || !lacks_lock(&error) {
            let waited = session::LOCK_TIMEOUT;
            return Err(failed(table, migration, error, waited, attempts));
        }
        tracing::warn!(
            table,
            version = migration.version,
            "the migration got no lock; trying again"
        );
        attempts += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Applies a migration that runs outside a transaction: an index is built concurrently.
async fn apply_outside(
    database: &mut PgConnection,
    table: &str,
    migration: &Migration,
) -> Result<(), Error> {
    let waited = session::CONCURRENT_TIMEOUT;
    session::wait_at_most(database, waited).await?;
    if let Some(index) = index_of(migration.sql.as_str()) {
        drop_invalid(database, index)
            .await
            .map_err(|error| failed(table, migration, error.into(), waited, 1))?;
    }
    database
        .apply(table, migration)
        .await
        .map_err(|error| failed(table, migration, error, waited, 1))?;
    session::wait_at_most(database, session::LOCK_TIMEOUT).await?;
    Ok(())
}

fn failed(
    table: &str,
    migration: &Migration,
    source: MigrateError,
    waited: Duration,
    attempts: u32,
) -> Error {
    let (table, version) = (table.to_owned(), migration.version);
    match source {
        MigrateError::ExecuteMigration(source, _) | MigrateError::Execute(source)
            if is_lock(&source) =>
        {
            Error::Locked {
                what: format!("migration {version} of {table}"),
                waited: waited.as_secs(),
                attempts,
                source,
            }
        }
        source => Error::Statement {
            table,
            version,
            source,
        },
    }
}

fn lacks_lock(error: &MigrateError) -> bool {
    match error {
        MigrateError::ExecuteMigration(error, _) | MigrateError::Execute(error) => is_lock(error),
        _ => false,
    }
}

/// Whether `lock_timeout` ended a wait (`lock_not_available`), or the server did (`deadlock_detected`).
fn is_lock(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    matches!(code.as_deref(), Some("55P03" | "40P01"))
}

/// The index that a statement builds concurrently.
fn index_of(sql: &str) -> Option<&str> {
    let after = sql.split_once("concurrently if not exists ")?.1;
    after.split_whitespace().next()
}

/// Drops an index that an interrupted build has left; `if not exists` would take it for a good one.
async fn drop_invalid(database: &mut PgConnection, index: &str) -> Result<(), sqlx::Error> {
    let invalid: bool = sqlx::query_scalar(
        "select exists (select from pg_index where indexrelid = to_regclass($1) and not indisvalid)",
    )
    .bind(index)
    .fetch_one(&mut *database)
    .await?;
    if invalid {
        tracing::warn!(index, "dropping an invalid index; it is built again");
        let statement = format!("drop index concurrently {index}");
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(database)
            .await?;
    }
    Ok(())
}

async fn has_rows(database: &mut PgConnection, table: &str) -> Result<bool, sqlx::Error> {
    if !exists(database, table).await? {
        return Ok(false);
    }
    let query = format!("select exists (select from {table})");
    sqlx::query_scalar(AssertSqlSafe(query))
        .fetch_one(database)
        .await
}

async fn exists(database: &mut PgConnection, table: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select to_regclass($1) is not null")
        .bind(table)
        .fetch_one(database)
        .await
}
