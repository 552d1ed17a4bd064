//! Applies migrations one after the other, without blocking a database in use.

use std::time::Duration;

use sqlx::migrate::{AppliedMigration, Migrate, Migration, Migrator};
use sqlx::{Acquire, AssertSqlSafe, PgConnection};

use super::attempts::Attempts;
use super::concurrent_index::ConcurrentIndex;
use super::error::{Error, of_database};
use super::grants::Roles;
use super::migration::Part;
use super::session::{self, Session};
use super::topics;
use crate::topic;

/// The version table of sqlx's migrator, which a service's own migrations use.
const OWN_VERSION_TABLE: &str = "_sqlx_migrations";

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
/// index concurrently if not exists name on table …`; [`Error::NotAnIndex`] refuses any other, since another run
/// could not repeat one that was interrupted.
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
        if exists(database, table).await? && versions(database, version_table).await?.is_empty() {
            return Err(Error::Unrecorded {
                table,
                version_table,
            });
        }
        run(database, version_table, part.migrator()).await?;
    }
    let mut statements = String::new();
    for part in parts {
        if let Some(statement) = roles.allowed_topics(*part) {
            let topics = roles.topics();
            for name in &topics {
                topic::check(name).map_err(|source| Error::Topic {
                    name: name.clone(),
                    source,
                })?;
            }
            // It takes the table's lock for a moment.
            if topics::allowed(database, "outbox").await?.as_ref() != Some(&topics) {
                statements += &statement;
            }
        }
        statements += &roles.only_grants(*part);
    }
    grant(database, &statements).await
}

/// Runs the grants in one transaction.
async fn grant(database: &mut PgConnection, grants: &str) -> Result<(), Error> {
    let mut attempts = Attempts::of("the grants", session::LOCK_TIMEOUT);
    loop {
        let granted = async {
            let mut tx = database.begin().await?;
            let grants = sqlx::raw_sql(AssertSqlSafe(grants.to_owned()));
            grants.execute(&mut *tx).await?;
            tx.commit().await
        };
        match granted.await {
            Ok(()) => return Ok(()),
            Err(error) => attempts.again(error, Error::Grants).await?,
        }
    }
}

/// Applies what `table` does not have yet.
///
/// [`Migrator::run`] does not fit: it waits for its lock within the server (see [`Session::begin`]), knows one `lock_timeout` for all
/// migrations, and leaves an invalid index where it is.
async fn run(database: &mut PgConnection, table: &str, migrations: &Migrator) -> Result<(), Error> {
    let mut missing = Vec::new();
    let applied = versions(database, table).await?;
    for migration in migrations.iter() {
        let version = migration.version;
        let table = table.to_owned();
        match applied.iter().find(|applied| applied.version == version) {
            _ if migration.migration_type.is_down_migration() => {}
            Some(applied) if applied.checksum == migration.checksum => {}
            Some(_) => return Err(Error::Changed { table, version }),
            None if migration.no_tx => match ConcurrentIndex::of(migration.sql.as_str()) {
                Some(index) => missing.push((migration, Some(index))),
                None => return Err(Error::NotAnIndex { table, version }),
            },
            None => missing.push((migration, None)),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    create(database, table).await?;
    for (migration, index) in missing {
        match index {
            Some(index) => build(database, table, migration, &index).await?,
            None => apply(database, table, migration, None, session::LOCK_TIMEOUT).await?,
        }
    }
    Ok(())
}

/// Applies a migration that builds an index outside a transaction. Nothing waits behind it, so it waits longer for its locks.
async fn build(
    database: &mut PgConnection,
    table: &str,
    migration: &Migration,
    index: &ConcurrentIndex,
) -> Result<(), Error> {
    let waited = session::CONCURRENT_TIMEOUT;
    session::wait_at_most(database, waited).await?;
    apply(database, table, migration, Some(index), waited).await?;
    session::wait_at_most(database, session::LOCK_TIMEOUT).await?;
    Ok(())
}

async fn apply(
    database: &mut PgConnection,
    table: &str,
    migration: &Migration,
    index: Option<&ConcurrentIndex>,
    waited: Duration,
) -> Result<(), Error> {
    let version = migration.version;
    let mut attempts = Attempts::of(format!("migration {version} of {table}"), waited);
    while let Err(error) = attempt(database, table, migration, index).await {
        let failed = |source| Error::Statement {
            table: table.to_owned(),
            version,
            source,
        };
        attempts.again(error, failed).await?;
        // sqlx writes the duration after it has committed: an attempt that got no lock for that has applied the migration.
        let applied = versions(database, table).await?;
        if applied.iter().any(|applied| applied.version == version) {
            break;
        }
    }
    Ok(())
}

async fn attempt(
    database: &mut PgConnection,
    table: &str,
    migration: &Migration,
    index: Option<&ConcurrentIndex>,
) -> Result<(), sqlx::Error> {
    if let Some(index) = index {
        index.drop_invalid(database).await?;
    }
    let applied = database.apply(table, migration).await;
    applied.map(drop).map_err(of_database)
}

/// The versions that `table` has; none without the table.
async fn versions(
    database: &mut PgConnection,
    table: &str,
) -> Result<Vec<AppliedMigration>, Error> {
    let mut attempts = Attempts::of(format!("the query of {table}"), session::LOCK_TIMEOUT);
    loop {
        match list(database, table).await {
            Ok(versions) => return Ok(versions),
            Err(error) => attempts.again(error, versions_failed(table)).await?,
        }
    }
}

/// Creates the version table, if it is missing: `create table if not exists` alone would need the right to create a table that exists.
async fn create(database: &mut PgConnection, table: &str) -> Result<(), Error> {
    let mut attempts = Attempts::of(format!("the query of {table}"), session::LOCK_TIMEOUT);
    while !exists(database, table).await? {
        match database.ensure_migrations_table(table).await {
            Ok(()) => break,
            Err(error) => {
                let error = of_database(error);
                attempts.again(error, versions_failed(table)).await?;
            }
        }
    }
    Ok(())
}

fn versions_failed(table: &str) -> impl Fn(sqlx::Error) -> Error {
    |source| Error::Versions {
        table: table.to_owned(),
        source,
    }
}

async fn list(
    database: &mut PgConnection,
    table: &str,
) -> Result<Vec<AppliedMigration>, sqlx::Error> {
    if !exists(database, table).await? {
        return Ok(Vec::new());
    }
    let listed = database.list_applied_migrations(table).await;
    listed.map_err(of_database)
}

async fn exists(database: &mut PgConnection, table: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select to_regclass($1) is not null")
        .bind(table)
        .fetch_one(database)
        .await
}
