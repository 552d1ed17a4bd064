//! The producing side: events into the outbox, in the caller's transaction.

use sqlx::postgres::PgTransaction;
use uuid::Uuid;

use crate::Outgoing;

/// Appends `events` to the outbox in one statement, in the order given, within the caller's open
/// transaction: they are published if, and only if, that transaction commits.
///
/// Lock the aggregate's row (or insert it) before: the column `seq`, drawn here, is then the order of the
/// aggregate's events.
///
/// # Errors
/// The database's, among them a duplicate event id (`outbox_pkey`), a payload too large for a Kafka message
/// (`outbox_payload_size`, 900,000 bytes) and a missing grant.
pub async fn append(tx: &mut PgTransaction<'_>, events: &[Outgoing]) -> Result<(), sqlx::Error> {
    if events.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = events.iter().map(|event| event.id).collect();
    let column = |of: fn(&Outgoing) -> &str| events.iter().map(of).collect::<Vec<&str>>();
    sqlx::query(
        "insert into outbox (id, aggregatetype, aggregateid, type, payload)
         select id, aggregatetype, aggregateid, type, payload::jsonb
         from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[])
              with ordinality as event (id, aggregatetype, aggregateid, type, payload, position)
         order by position",
    )
    .bind(ids)
    .bind(column(|event| &event.aggregate_type))
    .bind(column(|event| &event.aggregate_id))
    .bind(column(|event| &event.event_type))
    .bind(column(|event| &event.payload))
    .execute(&mut **tx)
    .await?;
    Ok(())
}
