//! Tables, keys and the publication.
//!
//! The check asks for what the router, the connector, the keeper and `append` use, and for nothing else: a column that a newer
//! release has added, or a service for purposes of its own, is no difference as long as `append` may leave it out. The texts that
//! it compares are those of PostgreSQL's own catalog functions, so that they read as `\d outbox` prints them.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use crate::schema::topics;
use crate::specification::drift::{Drift, MIGRATE, RESTORE, compare, named};
use crate::specification::outbox::Specification;

/// Columns that the router, the connector, the keeper and `append` name. A table may have more, if `append` may leave them out.
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

/// Compares the publisher's tables and their publication, in the schema `public`, which the connector reads.
pub(super) async fn check(
    specification: &Specification,
    database: &mut PgConnection,
    drifts: &mut Vec<Drift>,
) -> Result<(), sqlx::Error> {
    columns(database, drifts).await?;
    // A table without its columns has been named already.
    if !drifts
        .iter()
        .any(|drift| drift.found == "nothing" && drift.what.starts_with("table outbox"))
    {
        keys(database, drifts).await?;
        topics(specification, database, drifts).await?;
        order(database, drifts).await?;
    }
    publication(database, drifts).await
}

/// Compares the columns. A missing one comes with the next migration; one of another type was altered by hand.
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
            if kind.is_none() { MIGRATE } else { RESTORE },
        );
    }
    for ((table, column), kind) in found {
        if kind.contains("not null") && !kind.contains("default") && !kind.contains("generated") {
            compare(
                drifts,
                format!("table {table}, column {column}"),
                "a column that may stay empty",
                &kind,
                &format!(
                    "run as its owner: alter table {table} alter column {column} drop not null"
                ),
            );
        }
    }
    Ok(())
}

/// Compares the primary key, on which the inbox relies, the bound of the payload and the check of the topic's name: a message that Kafka does
/// not take stops the connector for good.
async fn keys(database: &mut PgConnection, drifts: &mut Vec<Drift>) -> Result<(), sqlx::Error> {
    let found: Vec<String> = sqlx::query_scalar(
        "select pg_get_constraintdef(oid) from pg_constraint
         where conrelid = to_regclass('public.outbox') and contype in ('p', 'c')",
    )
    .fetch_all(&mut *database)
    .await?;
    let has = |part: &str| found.iter().any(|definition| definition.contains(part));
    if !has("PRIMARY KEY (id)") {
        let what = "table outbox, primary key".to_owned();
        compare(drifts, what, "id", "another", RESTORE);
    }
    if !has("1,249") {
        let what = "table outbox, aggregatetype".to_owned();
        compare(drifts, what, "a check on the topic's name", "none", RESTORE);
    }
    if !has("1000000") {
        let what = "table outbox, payload".to_owned();
        compare(drifts, what, "a check on its size", "none", RESTORE);
    }
    Ok(())
}

/// Compares the topics that the table allows: a row with another one would go where no listener reads, or where none should write.
async fn topics(
    specification: &Specification,
    database: &mut PgConnection,
    drifts: &mut Vec<Drift>,
) -> Result<(), sqlx::Error> {
    let mut needed = specification.topics.clone();
    needed.sort();
    let found = topics::allowed(database, "public.outbox").await?;
    let found = found.map_or_else(|| "any".to_owned(), |found| found.join(", "));
    let what = format!("table outbox, constraint {}", topics::CONSTRAINT);
    compare(drifts, what, &needed.join(", "), &found, MIGRATE);
    Ok(())
}

/// Compares the index by which the connector reads the rows in order: without it, reading a large outbox again begins with a sort of
/// the whole table.
async fn order(database: &mut PgConnection, drifts: &mut Vec<Drift>) -> Result<(), sqlx::Error> {
    let found: bool = sqlx::query_scalar(
        "select exists (
             select from pg_index join pg_attribute on attrelid = indrelid and attnum = indkey[0]
             where indrelid = to_regclass('public.outbox') and attname = 'seq' and indisvalid and indpred is null
         )",
    )
    .fetch_one(&mut *database)
    .await?;
    if !found {
        let what = "table outbox, column seq".to_owned();
        compare(drifts, what, "an index", "none", RESTORE);
    }
    Ok(())
}

/// Compares the publication: inserts alone, of these two tables alone. With updates or deletes, each run of retention would send
/// its rows to the router, which warns about every one.
async fn publication(
    database: &mut PgConnection,
    drifts: &mut Vec<Drift>,
) -> Result<(), sqlx::Error> {
    let publishes: Option<(bool, bool, bool, bool)> = sqlx::query_as(
        "select pubinsert, pubupdate, pubdelete, pubtruncate from pg_publication where pubname = 'outbox'",
    )
    .fetch_optional(&mut *database)
    .await?;
    let Some((insert, update, delete, truncate)) = publishes else {
        let what = "publication outbox".to_owned();
        compare(drifts, what, "insert", "nothing", MIGRATE);
        return Ok(());
    };
    let found = named(&[
        (insert, "insert"),
        (update, "update"),
        (delete, "delete"),
        (truncate, "truncate"),
    ]);
    let what = "publication outbox".to_owned();
    compare(drifts, what, "insert", &found, RESTORE);
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
        RESTORE,
    );
    Ok(())
}
