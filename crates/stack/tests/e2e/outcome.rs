//! Every order gets its outcome, and exactly one decision.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{World, eventually};

#[tokio::test]
async fn every_refusal_reaches_the_order_with_its_facts() {
    let world = World::new().await;
    let product = world.product(100, 5).await;
    let too_many = world.place(product, 100, 6).await;
    let mispriced = world.place(product, 99, 1).await;
    let unknown = world.place(Uuid::now_v7(), 1, 1).await;
    let expected = [
        (
            too_many,
            json!({ "reason": "insufficient_stock", "requested": 6, "available": 5 }),
        ),
        (
            mispriced,
            json!({ "reason": "price_mismatch", "estimated_price": 99, "actual_price": 100 }),
        ),
        (unknown, json!({ "reason": "product_not_found" })),
    ];
    for (order, facts) in expected {
        let shown = world.settled(order).await;
        assert_eq!(shown["status"], "rejected");
        for (name, value) in facts.as_object().unwrap() {
            assert_eq!(&shown[name], value, "{shown}");
        }
        assert!(shown["settled_at"].is_string());
    }
    assert_eq!(world.stock(product).await, 5);
    world.invariant_holds().await;
}

#[tokio::test]
async fn concurrent_orders_for_the_last_piece_confirm_exactly_one() {
    let world = World::new().await;
    let product = world.product(7, 1).await;
    let orders = world.place_many(20, product, 7).await;
    let mut confirmed = 0;
    for order in orders {
        confirmed += usize::from(world.settled(order).await["status"] == "confirmed");
    }
    assert_eq!(confirmed, 1);
    assert_eq!(world.stock(product).await, 0);
    world.invariant_holds().await;
}

/// Sends another event about a decided order, and asserts that it is settled without effect and without an outcome.
async fn a_second_event_changes_nothing(world: &World, product: Uuid, order: Uuid, price: i32) {
    let before = world.settled(order).await;
    world.restock(product, 10).await;
    let stock = world.stock(product).await;
    let event = Uuid::now_v7();
    let payload = json!({ "event_id": event, "order_id": order, "item_id": product, "quantity": 1,
        "estimated_price": price, "placed_at": "2026-01-02T03:04:05Z" });
    let (key, value) = (order.to_string(), payload.to_string());
    world
        .produce(
            "order",
            Some(&key),
            Some(value.as_bytes()),
            &[("event_type", "order.placed")],
        )
        .await;
    eventually(
        Duration::from_secs(60),
        "the second event is settled",
        async || {
            let settled: bool =
                sqlx::query_scalar("select exists (select from inbox where id = $1)")
                    .bind(event)
                    .fetch_one(&world.inventory_db)
                    .await
                    .unwrap();
            if settled {
                Ok(())
            } else {
                Err("not in the inbox".to_owned())
            }
        },
    )
    .await;
    let dead_letters: i64 = sqlx::query_scalar("select count(*) from dead_letter where id = $1")
        .bind(event)
        .fetch_one(&world.inventory_db)
        .await
        .unwrap();
    assert_eq!(dead_letters, 0, "a repetition is not an error");
    assert_eq!(world.stock(product).await, stock);
    let after: Value = world.show(&key).await.1;
    assert_eq!(after, before);
}

#[tokio::test]
async fn a_confirmed_order_is_decided_once_whatever_comes_after() {
    let world = World::new().await;
    let product = world.product(3, 4).await;
    let order = world.place(product, 3, 1).await;
    a_second_event_changes_nothing(&world, product, order, 3).await;
    world.invariant_holds().await;
}

#[tokio::test]
async fn a_rejected_order_is_decided_once_even_after_a_restock() {
    let world = World::new().await;
    let product = world.product(3, 0).await;
    let order = world.place(product, 3, 1).await;
    assert_eq!(world.settled(order).await["reason"], "insufficient_stock");
    a_second_event_changes_nothing(&world, product, order, 3).await;
    world.invariant_holds().await;
}
