//! The invariant that holds at the end of every test. It compares sets of ids, never counts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sqlx::PgPool;
use uuid::Uuid;

use crate::world::{World, eventually};

/// How long all orders may take to be settled, faults included.
const SETTLED: Duration = Duration::from_secs(120);

impl World {
    /// Places an order and asserts its outcome and the invariant: the end of a test without orders of its own.
    pub(crate) async fn still_flows(&self) {
        let product = self.product(5, 5).await;
        let settled = self.settled(self.place(product, 5, 1).await).await;
        assert_eq!(settled["status"], "confirmed");
        self.invariant_holds().await;
    }

    /// Waits until every order of this test is settled, then asserts for exactly these orders:
    ///
    /// - each has one `order.placed`, which Kafka carries and inventory's inbox has settled;
    /// - each has one decision and one outcome event, which Kafka carries and order's inbox has settled;
    /// - its status is the decision;
    /// - its messages are in the order of its outbox rows;
    /// - each stock fell by exactly the confirmed quantities and is not below zero;
    /// - the slots are drained.
    pub(crate) async fn invariant_holds(&self) {
        let orders = self.orders();
        assert!(!orders.is_empty(), "a test without orders proves nothing");
        eventually(SETTLED, "every order is settled", async || {
            let pending = pending(&self.order_db, &orders).await;
            if pending.is_empty() {
                Ok(())
            } else {
                Err(format!("{} of {} are pending", pending.len(), orders.len()))
            }
        })
        .await;
        let written = (
            position(&self.order_db).await,
            position(&self.inventory_db).await,
        );

        let placed = events(&self.order_db, "order", &orders).await;
        let outcomes = events(&self.inventory_db, "reservation", &orders).await;
        for (what, events) in [("order.placed", &placed), ("outcome", &outcomes)] {
            let with_one: BTreeSet<Uuid> = events
                .iter()
                .filter(|(_, ids)| ids.len() == 1)
                .map(|(order, _)| *order)
                .collect();
            assert_eq!(with_one, orders, "every order has exactly one {what}");
        }
        for (topic, events) in [("order", &placed), ("reservation", &outcomes)] {
            assert_eq!(
                &self.carried(topic, &flat(events)),
                events,
                "topic {topic} carries them, each order's in order"
            );
        }
        let (placed, outcomes) = (flat(&placed), flat(&outcomes));
        let settled = inbox(&self.inventory_db, "inventory-worker", &placed).await;
        assert_eq!(settled, placed, "settled by inventory");
        let settled = inbox(&self.order_db, "order", &outcomes).await;
        assert_eq!(settled, outcomes, "settled by order");

        let statuses = "select id, status = 'confirmed', reason from orders where id = any($1)";
        let statuses = outcomes_of(&self.order_db, statuses, &orders).await;
        let decisions =
            "select order_id, reason is null, reason from reservations where order_id = any($1)";
        let decisions = outcomes_of(&self.inventory_db, decisions, &orders).await;
        assert_eq!(
            statuses, decisions,
            "the order's status is inventory's decision"
        );

        for (product, initial) in self.products() {
            let (stock, reserved): (i32, i64) = sqlx::query_as(
                "select stock, (select coalesce(sum(quantity), 0) from reservations
                                where product_id = products.id and reason is null)
                 from products where id = $1",
            )
            .bind(product)
            .fetch_one(&self.inventory_db)
            .await
            .unwrap();
            assert!(stock >= 0, "stock of {product} is {stock}");
            assert_eq!(
                i64::from(initial - stock),
                reserved,
                "stock of {product} fell by what was confirmed"
            );
        }
        tokio::join!(
            slot_drained(&self.order_db, &written.0),
            slot_drained(&self.inventory_db, &written.1),
        );
    }
}

async fn pending(pool: &PgPool, orders: &BTreeSet<Uuid>) -> Vec<Uuid> {
    sqlx::query_scalar(
        "select wanted.id from unnest($1::uuid[]) as wanted (id) left join orders using (id)
         where orders.status is null or orders.status = 'pending'",
    )
    .bind(orders.iter().copied().collect::<Vec<_>>())
    .fetch_all(pool)
    .await
    .unwrap()
}

/// The ids of each order's events, in the order of their outbox rows.
async fn events(
    pool: &PgPool,
    aggregate: &str,
    orders: &BTreeSet<Uuid>,
) -> BTreeMap<Uuid, Vec<Uuid>> {
    let rows: Vec<(String, Uuid)> = sqlx::query_as(
        "select aggregateid, id from outbox where aggregatetype = $1 and aggregateid = any($2) order by seq",
    )
    .bind(aggregate)
    .bind(orders.iter().map(Uuid::to_string).collect::<Vec<_>>())
    .fetch_all(pool)
    .await
    .unwrap();
    let mut events: BTreeMap<Uuid, Vec<Uuid>> = BTreeMap::new();
    for (order, id) in rows {
        events.entry(order.parse().unwrap()).or_default().push(id);
    }
    events
}

fn flat(events: &BTreeMap<Uuid, Vec<Uuid>>) -> BTreeSet<Uuid> {
    events.values().flatten().copied().collect()
}

async fn inbox(pool: &PgPool, listener: &str, ids: &BTreeSet<Uuid>) -> BTreeSet<Uuid> {
    let ids: Vec<Uuid> =
        sqlx::query_scalar("select id from inbox where listener = $1 and id = any($2)")
            .bind(listener)
            .bind(ids.iter().copied().collect::<Vec<_>>())
            .fetch_all(pool)
            .await
            .unwrap();
    ids.into_iter().collect()
}

/// For each order, whether it is confirmed, and the reason if not.
type Outcomes = BTreeMap<Uuid, (bool, Option<String>)>;

/// The outcomes that `statement` selects for `orders`.
async fn outcomes_of(pool: &PgPool, statement: &'static str, orders: &BTreeSet<Uuid>) -> Outcomes {
    let rows: Vec<(Uuid, bool, Option<String>)> = sqlx::query_as(statement)
        .bind(orders.iter().copied().collect::<Vec<_>>())
        .fetch_all(pool)
        .await
        .unwrap();
    rows.into_iter()
        .map(|(id, confirmed, reason)| (id, (confirmed, reason)))
        .collect()
}

/// The current position of the write-ahead log.
async fn position(pool: &PgPool) -> String {
    let position = sqlx::query_scalar("select pg_current_wal_lsn()::text");
    position.fetch_one(pool).await.unwrap()
}

/// Waits until the connector has confirmed the write-ahead log up to `position`.
async fn slot_drained(pool: &PgPool, position: &str) {
    eventually(
        Duration::from_secs(60),
        "the replication slot is drained",
        async || {
            let (slot, lag): (String, i64) = sqlx::query_as(
                "select slot_name::text, pg_wal_lsn_diff($1::pg_lsn, confirmed_flush_lsn)::bigint
             from pg_replication_slots where database = current_database()",
            )
            .bind(position)
            .fetch_one(pool)
            .await
            .unwrap();
            if lag <= 0 {
                Ok(())
            } else {
                Err(format!("{slot} is {lag} bytes behind"))
            }
        },
    )
    .await;
}
