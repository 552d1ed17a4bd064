//! Batches: large under load; a single order does not wait for one to fill.

use std::time::{Duration, Instant};

use sqlx::PgPool;
use stack::topic;
use uuid::Uuid;

use crate::world::World;

/// The ids of an outbox's events about orders.
async fn events(outbox: &PgPool, orders: &[Uuid]) -> Vec<Uuid> {
    sqlx::query_scalar("select id from outbox where aggregateid = any($1)")
        .bind(orders.iter().map(Uuid::to_string).collect::<Vec<_>>())
        .fetch_all(outbox)
        .await
        .unwrap()
}

/// The largest number of `events` in one transaction. An inbox row holds the time of its transaction.
async fn largest_batch(inbox: &PgPool, events: &[Uuid]) -> i64 {
    sqlx::query_scalar(
        "select max(size) from (select count(*) as size from inbox where id = any($1) group by settled_at) as batch",
    )
    .bind(events)
    .fetch_one(inbox)
    .await
    .unwrap()
}

#[tokio::test]
async fn batches_are_large_under_load() {
    let world = World::new().await;
    let product = world.product(2, 1_000_000).await;
    let orders = world.place_many(3_000, product, 2).await;
    world.all_settled(Duration::from_secs(90), &orders).await;
    let worker = largest_batch(&world.inventory_db, &events(&world.order_db, &orders).await).await;
    let order = largest_batch(&world.order_db, &events(&world.inventory_db, &orders).await).await;
    println!("largest batches: worker {worker}, order {order}");
    assert!(
        worker > 50,
        "the worker's largest batch has {worker} messages"
    );
    assert!(
        order > 50,
        "the order service's largest batch has {order} messages"
    );
    world.invariant_holds().await;
}

#[tokio::test]
async fn a_single_order_does_not_wait_for_a_full_batch() {
    let world = World::new().await;
    let product = world.product(2, 1_000).await;
    let (mut fastest, mut orders) = (Duration::MAX, Vec::new());
    for _ in 0..30 {
        let began = Instant::now();
        let order = world.place(product, 2, 1).await;
        world.settled(order).await;
        fastest = fastest.min(began.elapsed());
        orders.push(order);
    }
    // The time from the message's timestamp to the transaction that settles it would show a wait for a full batch. Other
    // tests share the cores, hence the fastest of many.
    let carried = topic::since(&world.stack.kafka, "order", 0).unwrap();
    let mut shortest = i64::MAX;
    for id in events(&world.order_db, &orders).await {
        let text = id.to_string();
        let message = carried
            .iter()
            .find(|message| message.id() == Some(&text))
            .unwrap();
        let settled: f64 = sqlx::query_scalar(
            "select extract(epoch from settled_at)::double precision from inbox where id = $1",
        )
        .bind(id)
        .fetch_one(&world.inventory_db)
        .await
        .unwrap();
        #[expect(clippy::cast_possible_truncation, reason = "milliseconds")]
        let settled = (settled * 1000.0) as i64;
        shortest = shortest.min(settled - message.timestamp);
    }
    println!("fastest order to confirmation: {fastest:?}, message to transaction: {shortest} ms");
    assert!(shortest < 40, "{shortest} ms");
    world.invariant_holds().await;
}
