//! What roles are granted.
//!
//! The check asks `has_table_privilege`, not the grants' own rows: so it sees what a role may do by whatever way, as an owner, a
//! member or by `PUBLIC`.

use std::collections::BTreeSet;

use sqlx::PgConnection;

use crate::specification::drift::{Drift, MIGRATE, compare};

/// The privileges that are compared; the others say nothing about data.
const PRIVILEGES: [&str; 5] = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"];

/// Compares the keeper's grant on the sequence of the outbox, by which it counts the rows that are behind.
pub(super) async fn sequence(
    database: &mut PgConnection,
    drifts: &mut Vec<Drift>,
    keeper: &str,
) -> Result<(), sqlx::Error> {
    let sees: Option<bool> = sqlx::query_scalar(
        "select has_sequence_privilege(rolname, pg_get_serial_sequence('public.outbox', 'seq'), 'select')
         from pg_roles where rolname = $1 and to_regclass('public.outbox') is not null
              and exists (select from pg_attribute where attrelid = to_regclass('public.outbox') and attname = 'seq'
                          and attidentity <> '')",
    )
    .bind(keeper)
    .fetch_optional(database)
    .await?;
    if sees == Some(false) {
        let what = format!("grants of {keeper} on the sequence of outbox.seq");
        compare(drifts, what, "SELECT", "none", MIGRATE);
    }
    Ok(())
}

/// Compares all that a role may do with a table with what it needs.
pub(super) async fn grants(
    database: &mut PgConnection,
    drifts: &mut Vec<Drift>,
    role: &str,
    table: &str,
    needed: &[&str],
) -> Result<(), sqlx::Error> {
    let held: Vec<String> = sqlx::query_scalar(
        "select privilege from unnest($1::text[]) as privilege
         where to_regclass('public.' || $3) is not null
               and has_table_privilege($2::name, to_regclass('public.' || $3), privilege)",
    )
    .bind(PRIVILEGES.map(str::to_owned).to_vec())
    .bind(role)
    .bind(table)
    .fetch_all(database)
    .await?;
    let (held, needed): (BTreeSet<&str>, BTreeSet<&str>) = (
        held.iter().map(String::as_str).collect(),
        needed.iter().copied().collect(),
    );
    let text = |privileges: &BTreeSet<&str>| {
        let named: Vec<&str> = privileges.iter().copied().collect();
        if named.is_empty() {
            "none".to_owned()
        } else {
            named.join(", ")
        }
    };
    let needless: Vec<&str> = held.difference(&needed).copied().collect();
    let remedy = if held.is_superset(&needed) {
        format!(
            "run as the owner of {table}: revoke {} on {table} from \"{role}\"",
            needless.join(", ")
        )
    } else {
        MIGRATE.to_owned()
    };
    compare(
        drifts,
        format!("grants of {role} on {table}"),
        &text(&needed),
        &text(&held),
        &remedy,
    );
    Ok(())
}
