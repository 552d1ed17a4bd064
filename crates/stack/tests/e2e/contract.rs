//! The original demo's contract, through the public interface.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::kafka::original_envelope;
use crate::world::{World, eventually};

#[tokio::test]
async fn an_order_decreases_inventory_and_is_confirmed() {
    let world = World::new().await;
    let product = world.product(1500, 50).await;
    let order = world.place(product, 1500, 3).await;
    let shown = world.settled(order).await;
    assert_eq!(shown["status"], "confirmed");
    assert_eq!(shown["product_id"], product.to_string());
    assert_eq!(
        (&shown["quantity"], &shown["estimated_price"]),
        (&json!(3), &json!(1500))
    );
    for field in ["placed_at", "settled_at"] {
        chrono::DateTime::parse_from_rfc3339(shown[field].as_str().unwrap()).unwrap();
    }
    assert!(shown.get("reason").is_none());
    assert_eq!(world.stock(product).await, 47);
    world.invariant_holds().await;
}

#[tokio::test]
async fn malformed_json_and_wrong_types_are_422() {
    let world = World::new().await;
    let id = Uuid::now_v7();
    let good = json!({ "product_id": id, "estimated_price": 1, "quantity": 1 });
    let wrong = [
        ("product_id", json!("laptop")),
        ("product_id", json!(null)),
        ("product_id", json!(7)),
        ("quantity", json!(1.5)),
        ("quantity", json!("1")),
        ("quantity", json!(null)),
        ("quantity", json!([1])),
        ("estimated_price", json!(0.1)),
        ("estimated_price", json!(true)),
        ("estimated_price", json!({})),
    ];
    for (field, value) in wrong {
        let mut body = good.clone();
        body[field] = value;
        let (status, answer) = world.post(body.to_string()).await;
        assert_eq!(status, 422, "{body}: {answer}");
        assert!(
            answer["fields"].get(field).is_some(),
            "{answer} names {field}"
        );
    }
    for body in [
        "",
        "{",
        "[]",
        "null",
        "7",
        "\"order\"",
        "{\"quantity\":1}}",
        "{\"quantity\": 01}",
    ] {
        assert_eq!(world.post(body).await.0, 422, "{body}");
    }
    assert_eq!(world.post(vec![0xff, 0xfe, 0x00]).await.0, 422);
    // A wrong type wins over a missing value.
    assert_eq!(world.post("{\"quantity\":\"1\"}").await.0, 422);
    assert_eq!(world.stored(id).await, 0);
    world.still_flows().await;
}

#[tokio::test]
async fn missing_and_out_of_range_values_are_400_and_every_one_is_named() {
    let world = World::new().await;
    let id = Uuid::now_v7();
    let (status, answer) = world.post("{}").await;
    assert_eq!(status, 400);
    for field in ["product_id", "estimated_price", "quantity"] {
        assert!(
            answer["fields"].get(field).is_some(),
            "{answer} names {field}"
        );
    }
    let out_of_range = [
        "0",
        "-1",
        "-5.0",
        "2147483648",
        "99999999999999999999999999",
        "1e400",
    ];
    for field in ["estimated_price", "quantity"] {
        for value in out_of_range {
            let other = if field == "quantity" {
                "estimated_price"
            } else {
                "quantity"
            };
            let body = format!("{{\"product_id\":\"{id}\",\"{field}\":{value},\"{other}\":0}}");
            let (status, answer) = world.post(body.clone()).await;
            assert_eq!(status, 400, "{body}: {answer}");
            assert!(
                answer["fields"].get(field).is_some() && answer["fields"].get(other).is_some(),
                "{answer}"
            );
        }
    }
    let nil = json!({ "product_id": Uuid::nil(), "estimated_price": 1, "quantity": 1 });
    assert_eq!(world.post(nil.to_string()).await.0, 400);
    assert_eq!(world.stored(id).await + world.stored(Uuid::nil()).await, 0);
    world.still_flows().await;
}

#[tokio::test]
async fn an_unknown_order_is_404_and_an_invalid_uuid_is_400() {
    let world = World::new().await;
    assert_eq!(world.show(&Uuid::now_v7().to_string()).await.0, 404);
    assert_eq!(world.show("laptop").await.0, 400);
    world.still_flows().await;
}

/// Other tests create products of their own and leave these alone.
#[tokio::test]
async fn the_original_demos_products_exist() {
    let world = World::new().await;
    let products = world.shown_products().await;
    let expected = [
        (
            "550e8400-e29b-41d4-a716-446655440000",
            "Laptop Pro",
            50,
            1500,
        ),
        (
            "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
            "Wireless Mouse",
            200,
            25,
        ),
        (
            "789e4567-e89b-12d3-a456-426614174000",
            "Mechanical Keyboard",
            75,
            120,
        ),
        (
            "a1b2c3d4-e5f6-4a5b-bcde-f12345678901",
            "UltraWide Monitor",
            30,
            450,
        ),
        (
            "b2c3d4e5-f6a7-4b6c-cdef-0123456789ab",
            "USB-C Docking Station",
            100,
            180,
        ),
        (
            "c3d4e5f6-a7b8-4c7d-def0-123456789abc",
            "Noise Cancelling Headphones",
            60,
            300,
        ),
        (
            "d4e5f6a7-b8c9-4d8e-ef01-23456789abcd",
            "Ergonomic Desk Chair",
            40,
            350,
        ),
        (
            "e5f6a7b8-c9d0-4e9f-f012-3456789abcde",
            "Desk Lamp with Charger",
            120,
            45,
        ),
    ];
    for (id, name, stock, price) in expected {
        let product = json!({ "id": id, "name": name, "stock": stock, "price": price });
        assert!(products.contains(&product), "{product}");
    }
    world.still_flows().await;
}

/// The original demo documents both table and message.
#[tokio::test]
async fn the_outbox_row_becomes_the_message_by_the_documented_mapping() {
    let world = World::new().await;
    let product = world.product(25, 9).await;
    let order = world.place(product, 25, 2).await;
    let (id, kind, event_type, payload): (Uuid, String, String, Value) = sqlx::query_as(
        "select id, aggregatetype, type, payload from outbox where aggregateid = $1",
    )
    .bind(order.to_string())
    .fetch_one(&world.order_db)
    .await
    .unwrap();
    assert_eq!(
        (kind.as_str(), event_type.as_str()),
        ("order", "order.placed")
    );
    assert_eq!(payload["event_id"], id.to_string());
    assert_eq!(payload["order_id"], order.to_string());
    assert_eq!(payload["item_id"], product.to_string());
    assert_eq!(
        (&payload["quantity"], &payload["estimated_price"]),
        (&json!(2), &json!(25))
    );
    assert_eq!(payload.as_object().unwrap().len(), 6);
    world.settled(order).await;
    assert_eq!(world.carried("order", &[id].into())[&order], [id]);
    world.invariant_holds().await;
}

/// The envelope is the one that the original demo's Debezium wrote, with and without an `id` header and a key.
#[tokio::test]
async fn the_original_demos_envelope_is_applied_once_however_often_it_comes() {
    let world = World::new().await;
    for (with_header, keyed) in [(false, false), (false, true), (true, false), (true, true)] {
        let product = world.product(10, 9).await;
        let (event, order) = (Uuid::now_v7().to_string(), Uuid::now_v7().to_string());
        let payload = json!({ "event_id": event, "order_id": order, "item_id": product, "quantity": 2,
            "estimated_price": 10, "placed_at": "2026-01-02T03:04:05.123456789Z" });
        let value = original_envelope(&payload);
        let headers: &[(&str, &str)] = if with_header { &[("id", &event)] } else { &[] };
        let key = keyed.then_some(order.as_str());
        for _ in 0..3 {
            world
                .produce("order", key, Some(value.as_bytes()), headers)
                .await;
        }
        let inbox = async || -> i64 {
            sqlx::query_scalar(
                "select count(*) from inbox where listener = 'inventory-worker' and id = $1::uuid",
            )
            .bind(&event)
            .fetch_one(&world.inventory_db)
            .await
            .unwrap()
        };
        eventually(
            Duration::from_secs(60),
            "the event is settled",
            async || {
                if inbox().await == 1 {
                    Ok(())
                } else {
                    Err("not in the inbox".to_owned())
                }
            },
        )
        .await;
        // An order that is placed later and settled shows that the worker has read the repetitions.
        world
            .settled(world.place(world.product(1, 1).await, 1, 1).await)
            .await;
        assert_eq!(
            world.stock(product).await,
            7,
            "header: {with_header}, keyed: {keyed}"
        );
    }
    world.invariant_holds().await;
}

/// A dead letter holds the whole message.
#[tokio::test]
async fn garbage_is_dead_lettered_and_the_next_order_flows() {
    let world = World::new().await;
    let mark = Uuid::now_v7().to_string();
    let not_json = format!("not json {mark}");
    let unknown = json!({ "event_id": Uuid::now_v7(), "mark": mark }).to_string();
    let order = Uuid::now_v7().to_string();
    let placed = |quantity: i32| {
        json!({ "event_id": Uuid::now_v7(), "order_id": order, "item_id": order, "quantity": quantity,
            "estimated_price": 1, "placed_at": "2026-01-02T03:04:05Z" })
        .to_string()
    };
    let zero = placed(0);
    let typed = [("event_type", "order.placed")];
    // A dead letter blocks its key, so each message has its own.
    let keys = [0, 1, 2].map(|number| format!("{mark} {number}"));
    world
        .produce("order", Some(&keys[0]), Some(not_json.as_bytes()), &typed)
        .await;
    world.produce("order", Some(&mark), None, &typed).await;
    world
        .produce(
            "order",
            Some(&keys[1]),
            Some(unknown.as_bytes()),
            &[("event_type", "order.lost")],
        )
        .await;
    world
        .produce("order", Some(&keys[2]), Some(zero.as_bytes()), &typed)
        .await;
    let stray = json!({ "event_id": Uuid::now_v7(), "order_id": order, "product_id": order, "reason": "product_not_found" });
    let stray = stray.to_string();
    world
        .produce(
            "reservation",
            Some(&order),
            Some(stray.as_bytes()),
            &[("event_type", "reservation.rejected")],
        )
        .await;

    let expected = [
        (
            &world.inventory_db,
            "order",
            not_json.as_str(),
            "poison",
            "not JSON",
        ),
        (&world.inventory_db, "order", &mark, "poison", "no value"),
        (
            &world.inventory_db,
            "order",
            &unknown,
            "poison",
            "order.lost",
        ),
        (
            &world.inventory_db,
            "order",
            &zero,
            "poison",
            "quantity is 0",
        ),
        (
            &world.order_db,
            "reservation",
            &stray,
            "deferred",
            "there is no order",
        ),
    ];
    for (pool, topic, value, kind, why) in expected {
        eventually(Duration::from_secs(60), value, async || {
            match world
                .dead_letters(pool, topic, value.as_bytes())
                .await
                .as_slice()
            {
                [(found, error)] if found == kind && error.contains(why) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
    world.still_flows().await;
}
