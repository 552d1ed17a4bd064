//! The parts of the schema, and the migrations of each.

use std::fmt::Write as _;

use sqlx::migrate::Migrator;

static PUBLISHER: Migrator = sqlx::migrate!("migrations/publisher");
static LISTENER: Migrator = sqlx::migrate!("migrations/listener");

/// A part of the library's tables: what one side of the outbox needs.
///
/// ```
/// use outbox::schema::Part;
///
/// let versions: Vec<i64> = Part::Listener.migrations().iter().map(|migration| migration.version).collect();
/// assert_eq!(versions, [1, 2]);
/// assert_eq!(Part::Listener.version_table(), "_outbox_listener_migrations");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Part {
    /// Tables `outbox`, `heartbeat` and `outbox_identity`, and the publication `outbox`: for a service that appends.
    Publisher,
    /// Tables `inbox`, `epoch`, `dead_letter`, `blocked_key` and `discarded_dead_letter`: for a service that listens.
    Listener,
}

/// One migration of a [`Part`], for a team that applies the SQL by a tool of its own; see [the module](crate::schema).
///
/// ```
/// use outbox::schema::Part;
///
/// let [tables, index] = &Part::Listener.migrations()[..] else { unreachable!("the part has two") };
/// assert!(tables.in_transaction && tables.sql.contains("create table inbox"));
/// // PostgreSQL builds an index concurrently outside a transaction only.
/// assert!(!index.in_transaction && index.sql.contains("concurrently"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Migration {
    /// The part that it belongs to.
    pub part: Part,
    /// Its number within the part, from 1 without gaps.
    pub version: i64,
    /// What it makes, such as `outbox`.
    pub description: &'static str,
    /// Its statements. A released text never changes, since [`migrate`](super::migrate) compares checksums.
    pub sql: &'static str,
    /// Whether the statements run in one transaction. If not, there is one statement, which PostgreSQL refuses in a transaction.
    pub in_transaction: bool,
    checksum: &'static [u8],
}

impl Part {
    /// The part's migrations, oldest first.
    #[must_use]
    pub fn migrations(self) -> Vec<Migration> {
        self.migrator()
            .iter()
            .map(|migration| Migration {
                part: self,
                version: migration.version,
                description: &migration.description,
                sql: migration.sql.as_str(),
                in_transaction: !migration.no_tx,
                checksum: &migration.checksum,
            })
            .collect()
    }

    /// The table with the versions that [`migrate`](super::migrate) has applied; its columns are those of sqlx's migrator.
    #[must_use]
    pub fn version_table(self) -> &'static str {
        match self {
            Self::Publisher => "_outbox_publisher_migrations",
            Self::Listener => "_outbox_listener_migrations",
        }
    }

    pub(super) fn migrator(self) -> &'static Migrator {
        match self {
            Self::Publisher => &PUBLISHER,
            Self::Listener => &LISTENER,
        }
    }

    /// The table that the first migration makes: where it is, the part is.
    pub(super) fn first_table(self) -> &'static str {
        match self {
            Self::Publisher => "outbox",
            Self::Listener => "inbox",
        }
    }
}

impl Migration {
    /// Statements that record this migration as applied, for [`migrate`](super::migrate) to find; they may run more than once.
    ///
    /// Apply them after [`sql`](Self::sql): in the same transaction, or where that runs in none, afterwards.
    #[must_use]
    pub fn record(&self) -> String {
        let table = self.part.version_table();
        let checksum = hex(self.checksum);
        format!(
            "create table if not exists {table} (
    version bigint primary key,
    description text not null,
    installed_on timestamptz not null default now(),
    success boolean not null,
    checksum bytea not null,
    execution_time bigint not null
);
insert into {table} (version, description, success, checksum, execution_time)
values ({}, '{}', true, '\\x{checksum}', -1)
on conflict (version) do nothing;
",
            self.version,
            self.description.replace('\'', "''"),
        )
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::concurrent_index::ConcurrentIndex;

    /// The document that shows the outbox table.
    const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/architecture.md");

    #[test]
    fn the_architecture_page_shows_the_outbox_table_as_it_is() {
        let document = std::fs::read_to_string(DOCUMENT).unwrap();
        let shown = document
            .split("```sql\n")
            .nth(1)
            .and_then(|rest| rest.split("```").next())
            .unwrap();
        let sql = Part::Publisher.migrations()[0].sql;
        let lines = sql
            .lines()
            .filter(|line| !line.trim_start().starts_with("--"));
        let table: Vec<&str> = lines
            .skip_while(|line| line.is_empty())
            .take_while(|line| !line.is_empty())
            .collect();
        assert_eq!(shown.trim_end(), table.join("\n"));
    }

    #[test]
    fn versions_count_from_one_without_gaps_and_a_concurrent_build_can_be_repeated() {
        for part in [Part::Publisher, Part::Listener] {
            for (migration, version) in part.migrations().iter().zip(1..) {
                assert_eq!(migration.version, version);
                // PostgreSQL builds an index concurrently only outside a transaction, and only as the whole of a query.
                let index = ConcurrentIndex::of(migration.sql);
                assert_eq!(index.is_some(), !migration.in_transaction, "{migration:?}");
            }
        }
    }

    /// The checksum of each released migration.
    const RELEASED: &str = include_str!("../../tests/golden/migrations.txt");

    /// Nothing is released before 1.0: until then, `UPDATE_MIGRATIONS=1 cargo test -p outbox --lib a_released_migration_never_changes`
    /// writes the file anew. From 1.0 on, a new migration only appends its line.
    #[test]
    fn a_released_migration_never_changes() {
        let migrations = [Part::Publisher, Part::Listener].map(Part::migrations);
        let lines: Vec<String> = migrations
            .concat()
            .iter()
            .map(|migration| {
                let (part, version, checksum) =
                    (migration.part, migration.version, hex(migration.checksum));
                format!(
                    "{part:?} {version:04} {}: {checksum}",
                    migration.description
                )
            })
            .collect();
        if std::env::var_os("UPDATE_MIGRATIONS").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/migrations.txt");
            std::fs::write(path, lines.join("\n") + "\n").unwrap();
            return;
        }
        for released in RELEASED.lines() {
            assert!(
                lines.iter().any(|line| line == released),
                "databases have applied the migration {released}, and its text changed: restore its file, and add a new migration \
                 for the change"
            );
        }
        for line in lines {
            assert!(
                RELEASED.lines().any(|released| released == line),
                "append the line of the new migration to tests/golden/migrations.txt:\n{line}"
            );
        }
    }
}
