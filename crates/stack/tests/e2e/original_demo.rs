//! The defects of the original demo, one test each.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stack::testing::{Binary, Service};
use stack::topic;
use uuid::Uuid;

use crate::world::health::logs;
use crate::world::kafka::original_envelope;
use crate::world::{World, eventually};

/// The original demo's worker only logs.
#[tokio::test]
async fn stock_decreases() {
    let world = World::new().await;
    let product = world.product(10, 10).await;
    world.settled(world.place(product, 10, 4).await).await;
    assert_eq!(world.stock(product).await, 6);
    world.invariant_holds().await;
}

/// The original demo never writes its inbox.
#[tokio::test]
async fn the_inbox_is_written_on_both_sides() {
    let world = World::new().await;
    let product = world.product(10, 10).await;
    let order = world.place(product, 10, 1).await;
    world.settled(order).await;
    for (outbox, inbox, listener) in [
        (&world.order_db, &world.inventory_db, "inventory-worker"),
        (&world.inventory_db, &world.order_db, "order"),
    ] {
        let event: Uuid = sqlx::query_scalar("select id from outbox where aggregateid = $1")
            .bind(order.to_string())
            .fetch_one(outbox)
            .await
            .unwrap();
        let settled: i64 =
            sqlx::query_scalar("select count(*) from inbox where listener = $1 and id = $2")
                .bind(listener)
                .bind(event)
                .fetch_one(inbox)
                .await
                .unwrap();
        assert_eq!(settled, 1, "{listener}");
    }
    world.invariant_holds().await;
}

/// The original demo saves its failure events and then rolls them back.
#[tokio::test]
async fn refusals_are_published_and_reach_the_order() {
    let world = World::new().await;
    let order = world.place(world.product(10, 0).await, 10, 1).await;
    assert_eq!(world.settled(order).await["status"], "rejected");
    let carried = topic::since(&world.stack.kafka, "reservation", 0).unwrap();
    let refusal = carried
        .iter()
        .find(|message| message.key == order.to_string())
        .unwrap();
    let refusal: Value = serde_json::from_str(&refusal.value).unwrap();
    assert_eq!(refusal["reason"], "insufficient_stock");
    world.invariant_holds().await;
}

/// The original demo's listener skips a message whose handler failed.
#[tokio::test]
async fn a_handler_that_fails_for_a_while_loses_nothing() {
    let world = World::new().await;
    let product = world.product(10, 10).await;
    // While the product's row is locked, the handler fails by its lock time-out.
    let mut holder = world.inventory_db.begin().await.unwrap();
    sqlx::query("select from products where id = $1 for update")
        .bind(product)
        .execute(&mut *holder)
        .await
        .unwrap();
    let order = world.place(product, 10, 1).await;
    eventually(
        Duration::from_secs(60),
        "the handler has failed",
        async || {
            let (_, health) = world.readiness(&world.stack.worker_url).await;
            let listener = &health["checks"]["listener"];
            if listener["state"] == "warning" {
                Ok(())
            } else {
                Err(health.to_string())
            }
        },
    )
    .await;
    assert_eq!(world.show(&order.to_string()).await.1["status"], "pending");
    holder.rollback().await.unwrap();
    assert_eq!(world.settled(order).await["status"], "confirmed");
    world.invariant_holds().await;
}

/// The original demo's worker never receives anything if it starts before the topic exists.
#[tokio::test]
async fn a_worker_started_before_its_topic_exists_receives_the_first_order_within_seconds() {
    let world = World::new().await;
    let topic = format!("order-{}", Uuid::now_v7().simple());
    let (topics, group) = (format!("[{topic}]"), format!("early-{topic}"));
    let settings = [
        ("KAFKA__TOPICS", topics.as_str()),
        ("KAFKA__GROUP", &group),
        ("KAFKA__NAME", "early"),
    ];
    let worker = Service::start(world.stack, Binary::InventoryWorker, &settings).await;
    logs(
        &worker,
        Duration::from_secs(30),
        "waiting for a topic that does not exist yet",
    )
    .await;
    world.create_topic(&topic).await;
    let product = world.product(10, 10).await;
    let payload = json!({ "event_id": Uuid::now_v7(), "order_id": Uuid::now_v7(), "item_id": product, "quantity": 3,
        "estimated_price": 10, "placed_at": "2026-01-02T03:04:05Z" });
    world
        .produce(
            &topic,
            None,
            Some(original_envelope(&payload).as_bytes()),
            &[],
        )
        .await;
    let produced = Instant::now();
    eventually(
        Duration::from_secs(10),
        "the first order is applied",
        async || {
            let stock = world.stock(product).await;
            if stock == 7 {
                Ok(())
            } else {
                Err(format!("stock {stock} after {:?}", produced.elapsed()))
            }
        },
    )
    .await;
    assert!(worker.terminate().success());
    world.still_flows().await;
}

/// The original demo's addresses are hard-coded. Here a second service runs beside the stack, which has free ports itself.
#[tokio::test]
async fn no_address_is_hard_coded() {
    let world = World::new().await;
    let inventory = Service::start(world.stack, Binary::Inventory, &[]).await;
    assert_ne!(inventory.url, world.stack.inventory_url);
    let products = world
        .http
        .get(format!("{}/products", inventory.url))
        .send()
        .await
        .unwrap();
    assert_eq!(products.status(), 200);
    if std::env::var_os("OUTBOX_STACK").is_some() {
        assert_ne!(world.stack.ports.order, 9000);
    }
    let file = world.stack.logs.join("order.toml");
    std::fs::write(&file, "[http]\nlisten = \"127.0.0.1:1\"\n").unwrap();
    let order = world.stack.binaries.join("order");
    let check = |file: &std::path::Path| {
        std::process::Command::new(&order)
            .arg("check-config")
            .arg("--config")
            .arg(file)
            .output()
    };
    assert!(check(&file).unwrap().status.success());
    std::fs::write(&file, "[htpp]\nlisten = \"127.0.0.1:1\"\n").unwrap();
    let refused = check(&file).unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("htpp"));
    world.still_flows().await;
}

/// The original demo's Kafka Connect stores its offsets in a temporary file.
#[tokio::test]
async fn connect_is_distributed_and_keeps_its_offsets_in_kafka() {
    let world = World::new().await;
    world
        .settled(world.place(world.product(10, 1).await, 10, 1).await)
        .await;
    eventually(
        Duration::from_secs(60),
        "Connect's offsets are in Kafka",
        async || {
            let offsets = topic::since(&world.stack.kafka, "connect-offsets", 0).unwrap();
            let of = |name: &str| {
                offsets
                    .iter()
                    .any(|offset| offset.key.contains(name) && offset.value.contains("lsn"))
            };
            if of("order-outbox") && of("inventory-outbox") {
                Ok(())
            } else {
                Err(format!("{} offsets", offsets.len()))
            }
        },
    )
    .await;
    let url = format!("{}/connectors/order-outbox/config", world.stack.connect_url);
    let (_, config) = world.get(&url).await;
    let secret = std::fs::read_to_string(world.stack.order_db.secrets.join("order_cdc")).unwrap();
    assert!(
        !config.to_string().contains(&secret),
        "the REST interface shows the path of a password, never the password"
    );
    world.still_flows().await;
}
