//! The producing side: appends events to the outbox in the caller's transaction.

use sqlx::postgres::PgTransaction;
use uuid::Uuid;

use crate::event::Outgoing;

/// Appends `events` to the outbox in one statement, in the order given.
///
/// Kafka gets them if, and only if, the transaction commits; the parameter's type makes a dual write impossible to compile. Lock the
/// aggregate's row, or insert it, before: the column `seq`, drawn here, is then the order of the aggregate's events, in which Kafka
/// delivers them.
///
/// # Cost
/// One round trip for any number of events, and for none at all no statement. A transaction that appends holds no lock that another
/// one waits for: two services append side by side, and the identity column hands out numbers without waiting for commits.
///
/// # Order
/// Two transactions that do not lock the same row may become visible in another order than that of their `seq`. Debezium publishes
/// in the order of commits, so events of different aggregates have no order among each other, on any partition.
///
/// ```no_run
/// use outbox::{Event, Outgoing};
///
/// async fn rename<E: Event>(pool: &sqlx::PgPool, id: i64, name: &str, renamed: &E) -> Result<(), Box<dyn std::error::Error>> {
///     let mut tx = pool.begin().await?;
///     sqlx::query("update account set name = $1 where id = $2").bind(name).bind(id).execute(&mut *tx).await?;
///     outbox::append(&mut tx, &[Outgoing::new(renamed)?]).await?;
///     tx.commit().await?;
///     Ok(())
/// }
/// ```
///
/// # Errors
/// The database's: among them a duplicate event id (constraint `outbox_pkey`), a payload that is too large for a Kafka message (constraint
/// `outbox_payload_size`, 900,000 bytes of JSON text, and 1,000,000 of it within a JSON string), an aggregate type that is not a topic of
/// the outbox (constraints `outbox_topic_name` and `outbox_topics`), and a missing grant. PostgreSQL then refuses all further statements of the
/// transaction, so roll it back.
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
