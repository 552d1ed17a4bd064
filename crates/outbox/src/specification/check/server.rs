//! Settings of the server.
//!
//! Three of them stop a connector or lose its slot: `wal_level`, a bound on idle slots, and the number of slots. A fourth,
//! `max_slot_wal_keep_size`, is the operator's choice between a full disk and a lost slot; the check only logs it, since a lost slot
//! heals by reading the outbox again.

use sqlx::PgConnection;

use crate::specification::drift::{Drift, compare};
use crate::specification::outbox::Specification;

/// Compares what logical replication needs of the server.
pub(super) async fn check(
    specification: &Specification,
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
        "set wal_level = logical in postgresql.conf and restart the server",
    );
    // The server would invalidate the slot of a connector that is away for that long.
    compare(
        drifts,
        "setting idle_replication_slot_timeout".to_owned(),
        "0",
        idle.as_deref().unwrap_or("0"),
        "set idle_replication_slot_timeout = 0 in postgresql.conf and reload it (select pg_reload_conf())",
    );
    tracing::debug!(
        max_slot_wal_keep_size = kept,
        "write-ahead log that the server keeps for a connector that is away"
    );
    let has_slot: bool = sqlx::query_scalar(
        "select exists (select from pg_replication_slots where slot_name = $1)
                or (select count(*) from pg_replication_slots) < current_setting('max_replication_slots')::integer",
    )
    .bind(specification.slot())
    .fetch_one(database)
    .await?;
    if !has_slot {
        compare(
            drifts,
            "setting max_replication_slots".to_owned(),
            "a free replication slot",
            "none",
            "drop an unused slot (select slot_name from pg_replication_slots where not active), or raise the setting in postgresql.conf and \
             restart the server",
        );
    }
    Ok(())
}
