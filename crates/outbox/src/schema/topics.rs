//! The topics that events may go to, as a constraint of the table `outbox`.
//!
//! Debezium's outbox event router takes the topic's name from a column that the writer fills in: a typing error would go to a topic that
//! no listener reads, and a compromised writer could write to any topic, such as those that command Kafka Connect.

use sqlx::PgConnection;

/// The constraint's name.
pub(crate) const CONSTRAINT: &str = "outbox_topics";

/// The statement that allows `topics` and no other; rows that are there already stay.
pub(super) fn statement(topics: &[String]) -> String {
    let names: Vec<String> = topics.iter().map(|name| literal(name)).collect();
    // Not validated: that would read the whole table under its lock, and the connector has carried those rows.
    format!(
        "alter table outbox drop constraint if exists {CONSTRAINT}, add constraint {CONSTRAINT} \
         check (aggregatetype::text = any (array[{}]::text[])) not valid;\n",
        names.join(", ")
    )
}

/// A name as a literal: nothing in it is SQL.
fn literal(name: &str) -> String {
    format!("'{}'", name.replace('\'', "''"))
}

/// The topics that `table` allows, in their order; `None` without the constraint.
pub(crate) async fn allowed(
    database: &mut PgConnection,
    table: &str,
) -> Result<Option<Vec<String>>, sqlx::Error> {
    sqlx::query_scalar(
        "select array(
             select name[1] from regexp_matches(pg_get_constraintdef(oid), '''([^'']*)''::text', 'g') as name order by name[1] collate \"C\"
         )
         from pg_constraint where conrelid = to_regclass($1) and conname = $2 and contype = 'c'",
    )
    .bind(table)
    .bind(CONSTRAINT)
    .fetch_optional(database)
    .await
}
