//! A specification against a migrated database.

mod grants;

use std::collections::BTreeMap;
use std::fmt;

use sqlx::PgConnection;

use super::Specification;
use grants::{grants, sequence};

/// Something in the database that is not as the outbox needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// What it is, such as `table outbox, column payload`.
    pub what: String,
    /// What the outbox needs.
    pub needed: String,
    /// What there is.
    pub found: String,
}

impl fmt::Display for Drift {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            needed,
            found,
        } = self;
        write!(formatter, "{what}: needed is {needed}, found is {found}")
    }
}

/// The database does not hold what the outbox needs, or does not say.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What has drifted, all of it.
    #[error("the database is not as the outbox needs it:{}", list(.0))]
    Drifted(Vec<Drift>),
    /// The database does not answer.
    #[error("the database could not be held against the outbox's specification")]
    Database(#[from] sqlx::Error),
}

fn list(drifts: &[Drift]) -> String {
    let lines: Vec<String> = drifts.iter().map(|drift| format!("\n  {drift}")).collect();
    lines.concat()
}

/// Columns that the router, the connector and `append` name; a table may have further ones that may stay empty.
const COLUMNS: [(&str, &str, &str); 12] = [
    ("outbox", "id", "uuid not null"),
    ("outbox", "aggregateid", "character varying(255) not null"),
    ("outbox", "aggregatetype", "character varying(255) not null"),
    ("outbox", "type", "character varying(255) not null"),
    ("outbox", "payload", "jsonb not null"),
    (
        "outbox",
        "timestamp",
        "timestamp without time zone not null default now()",
    ),
    (
        "outbox",
        "seq",
        "bigint not null generated always as identity",
    ),
    ("outbox", "traceparent", "character varying(55)"),
    (
        "heartbeat",
        "at",
        "timestamp with time zone not null default now()",
    ),
    ("outbox_identity", "system_identifier", "bigint not null"),
    ("outbox_identity", "timeline", "integer not null"),
    ("outbox_identity", "changed", "text"),
];

impl Specification {
    /// Holds the database against what the outbox and its connector need: tables, publication, roles, grants, and the
    /// server's settings. Needs no rights beyond a login.
    ///
    /// # Errors
    /// [`Error::Drifted`] names all that is not as it should be.
    pub async fn check(&self, database: &mut PgConnection) -> Result<(), Error> {
        let mut drifts = Vec::new();
        columns(database, &mut drifts).await?;
        if !drifts
            .iter()
            .any(|drift| drift.found == "nothing" && drift.what.starts_with("table outbox"))
        {
            keys(database, &mut drifts).await?;
        }
        publication(database, &mut drifts).await?;
        self.roles(database, &mut drifts).await?;
        self.server(database, &mut drifts).await?;
        if drifts.is_empty() {
            Ok(())
        } else {
            Err(Error::Drifted(drifts))
        }
    }

    async fn roles(
        &self,
        database: &mut PgConnection,
        drifts: &mut Vec<Drift>,
    ) -> Result<(), sqlx::Error> {
        let cdc = &self.settings.user;
        let attributes: Option<(bool, bool, bool)> = sqlx::query_as(
            "select rolcanlogin, rolreplication, rolsuper or rolcreaterole or rolcreatedb or rolbypassrls
             from pg_roles where rolname = $1",
        )
        .bind(cdc)
        .fetch_optional(&mut *database)
        .await?;
        let found = match attributes {
            None => "no such role".to_owned(),
            Some((login, replication, more)) => named(&[
                (login, "LOGIN"),
                (replication, "REPLICATION"),
                (more, "more"),
            ]),
        };
        compare(drifts, format!("role {cdc}"), "LOGIN, REPLICATION", &found);
        if attributes.is_some() {
            grants(database, drifts, cdc, "outbox", &["SELECT"]).await?;
            grants(
                database,
                drifts,
                cdc,
                "heartbeat",
                &["SELECT", "INSERT", "DELETE"],
            )
            .await?;
        }
        let keeper = [
            ("outbox", &["SELECT", "DELETE"][..]),
            ("outbox_identity", &["SELECT", "INSERT", "UPDATE"]),
        ];
        let appends: &[(&str, &[&str])] = &[("outbox", &["INSERT"])];
        let roles = self.writers.iter().map(|role| (role, appends));
        for (role, needed) in roles.chain([(&self.keeper, &keeper[..])]) {
            let exists: bool =
                sqlx::query_scalar("select exists (select from pg_roles where rolname = $1)")
                    .bind(role)
                    .fetch_one(&mut *database)
                    .await?;
            if !exists {
                compare(drifts, format!("role {role}"), "a role", "no such role");
                continue;
            }
            for (table, privileges) in needed {
                grants(database, drifts, role, table, privileges).await?;
            }
        }
        sequence(database, drifts, &self.keeper).await?;
        let listens: bool = sqlx::query_scalar("select to_regclass('public.inbox') is not null")
            .fetch_one(&mut *database)
            .await?;
        if listens {
            grants(
                database,
                drifts,
                &self.keeper,
                "inbox",
                &["SELECT", "DELETE"],
            )
            .await?;
        }
        if attributes.is_some() {
            // Else the keeper cannot see who reads the slot, and removes nothing.
            let sees: Option<bool> = sqlx::query_scalar(
                "select pg_has_role(rolname, $2, 'usage') from pg_roles where rolname = $1",
            )
            .bind(&self.keeper)
            .bind(cdc)
            .fetch_optional(&mut *database)
            .await?;
            if sees == Some(false) {
                compare(
                    drifts,
                    format!("role {}", self.keeper),
                    &format!("a member of {cdc}"),
                    "none",
                );
            }
        }
        Ok(())
    }

    async fn server(
        &self,
        database: &mut PgConnection,
        drifts: &mut Vec<Drift>,
    ) -> Result<(), sqlx::Error> {
        let (wal_level, idle, kept): (String, Option<String>, String) = sqlx::query_as(
            "select current_setting('wal_level'), current_setting('idle_replication_slot_timeout', true),
                    current_setting('max_slot_wal_keep_size')",
        )
        .fetch_one(&mut *database)
        .await?;
        compare(
            drifts,
            "setting wal_level".to_owned(),
            "logical",
            &wal_level,
        );
        // The server would end the slot of a connector that is away for that long.
        compare(
            drifts,
            "setting idle_replication_slot_timeout".to_owned(),
            "0",
            idle.as_deref().unwrap_or("0"),
        );
        tracing::debug!(
            max_slot_wal_keep_size = kept,
            "log kept for a connector that is away"
        );
        let room: bool = sqlx::query_scalar(
            "select exists (select from pg_replication_slots where slot_name = $1)
                    or (select count(*) from pg_replication_slots) < current_setting('max_replication_slots')::integer",
        )
        .bind(self.slot())
        .fetch_one(&mut *database)
        .await?;
        if !room {
            compare(
                drifts,
                "setting max_replication_slots".to_owned(),
                "a free replication slot",
                "none",
            );
        }
        Ok(())
    }
}

/// The names of what there is.
fn named(all: &[(bool, &str)]) -> String {
    let there: Vec<&str> = all
        .iter()
        .filter(|(is, _)| *is)
        .map(|(_, name)| *name)
        .collect();
    there.join(", ")
}

fn compare(drifts: &mut Vec<Drift>, what: String, needed: &str, found: &str) {
    if needed != found {
        drifts.push(Drift {
            what,
            needed: needed.to_owned(),
            found: found.to_owned(),
        });
    }
}

async fn columns(database: &mut PgConnection, drifts: &mut Vec<Drift>) -> Result<(), sqlx::Error> {
    let rows: Vec<(String, String, String)> = sqlx::query_as(
        "select relname::text, attname::text,
                format_type(atttypid, atttypmod) || case when attnotnull then ' not null' else '' end
                || coalesce(' default ' || pg_get_expr(adbin, adrelid), '')
                || case attidentity when 'a' then ' generated always as identity' else '' end
         from pg_attribute join pg_class on pg_class.oid = attrelid
              left join pg_attrdef on adrelid = attrelid and adnum = attnum
         where relnamespace = 'public'::regnamespace and relname in ('outbox', 'heartbeat', 'outbox_identity') and attnum > 0
               and not attisdropped",
    )
    .fetch_all(&mut *database)
    .await?;
    let mut found: BTreeMap<(String, String), String> = rows
        .into_iter()
        .map(|(table, column, kind)| ((table, column), kind))
        .collect();
    for (table, column, needed) in COLUMNS {
        let kind = found.remove(&(table.to_owned(), column.to_owned()));
        compare(
            drifts,
            format!("table {table}, column {column}"),
            needed,
            kind.as_deref().unwrap_or("nothing"),
        );
    }
    for ((table, column), kind) in found {
        if kind.contains("not null") && !kind.contains("default") && !kind.contains("generated") {
            compare(
                drifts,
                format!("table {table}, column {column}"),
                "a column that may stay empty",
                &kind,
            );
        }
    }
    Ok(())
}

async fn keys(database: &mut PgConnection, drifts: &mut Vec<Drift>) -> Result<(), sqlx::Error> {
    let found: Vec<String> = sqlx::query_scalar(
        "select pg_get_constraintdef(oid) from pg_constraint
         where conrelid = to_regclass('public.outbox') and contype in ('p', 'c')",
    )
    .fetch_all(&mut *database)
    .await?;
    let has = |part: &str| found.iter().any(|definition| definition.contains(part));
    if !has("PRIMARY KEY (id)") {
        compare(
            drifts,
            "table outbox, primary key".to_owned(),
            "id",
            "another",
        );
    }
    if !has("octet_length") {
        compare(
            drifts,
            "table outbox, payload".to_owned(),
            "a check on its size",
            "none",
        );
    }
    Ok(())
}

async fn publication(
    database: &mut PgConnection,
    drifts: &mut Vec<Drift>,
) -> Result<(), sqlx::Error> {
    let publishes: Option<(bool, bool, bool, bool)> = sqlx::query_as(
        "select pubinsert, pubupdate, pubdelete, pubtruncate from pg_publication where pubname = 'outbox'",
    )
    .fetch_optional(&mut *database)
    .await?;
    let found = match publishes {
        None => "nothing".to_owned(),
        Some((insert, update, delete, truncate)) => named(&[
            (insert, "insert"),
            (update, "update"),
            (delete, "delete"),
            (truncate, "truncate"),
        ]),
    };
    compare(drifts, "publication outbox".to_owned(), "insert", &found);
    if publishes.is_some() {
        let tables: Vec<String> = sqlx::query_scalar(
            "select format('%s.%s', schemaname, tablename) from pg_publication_tables where pubname = 'outbox'
             order by 1",
        )
        .fetch_all(&mut *database)
        .await?;
        compare(
            drifts,
            "publication outbox, tables".to_owned(),
            "public.heartbeat, public.outbox",
            &tables.join(", "),
        );
    }
    Ok(())
}
