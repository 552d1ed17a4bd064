//! Batches: large under load, none to wait for when idle.

use std::time::{Duration, Instant};

use crate::world::{World, eventually};

#[tokio::test]
async fn batches_are_large_under_load() {
    let world = World::new().await;
    let product = world.product(2, 1_000_000).await;
    let orders = world.place_many(3_000, product, 2).await;
    eventually(
        Duration::from_secs(90),
        "all orders are settled",
        async || match world.unsettled(&orders).await {
            0 => Ok(()),
            left => Err(format!("{left} unsettled")),
        },
    )
    .await;
    // A batch is one transaction, and its inbox rows bear that transaction's time.
    let batch = |pool| async move {
        let largest: i64 = sqlx::query_scalar(
            "select max(size) from (select count(*) as size from inbox group by listener, settled_at) as batch",
        )
        .fetch_one(pool)
        .await
        .unwrap();
        largest
    };
    let (worker, order) = (
        batch(&world.inventory_db).await,
        batch(&world.order_db).await,
    );
    println!("largest batches: worker {worker}, order {order}");
    assert!(
        worker > 50,
        "the worker's largest batch has {worker} messages"
    );
    world.invariant_holds().await;
}

#[tokio::test]
async fn a_lone_order_waits_for_nobody() {
    let world = World::new().await;
    let product = world.product(2, 1_000).await;
    // Whatever happens first, happens before: topics, connections, compilation.
    world.settled(world.place(product, 2, 1).await).await;
    let mut fastest = Duration::MAX;
    for _ in 0..30 {
        let began = Instant::now();
        world.settled(world.place(product, 2, 1).await).await;
        fastest = fastest.min(began.elapsed());
    }
    println!("fastest order to confirmation: {fastest:?}");
    // Two hops of Debezium at a poll interval of 10 ms; a batch that waited to be filled would show here. Other tests
    // share the two cores, hence the fastest of many.
    assert!(fastest < Duration::from_millis(250), "{fastest:?}");
    world.invariant_holds().await;
}
