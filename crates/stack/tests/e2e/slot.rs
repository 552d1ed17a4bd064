//! A replication slot or a topic that loses events in mid-flow.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use stack::testing::pid;

use crate::flow::{Flow, PRICE};
use crate::world::{World, eventually};

/// Ends the reader of the order outbox's slot, then runs `statement` on the slot.
async fn with_slot(flow: &Flow, statement: &'static str) {
    sqlx::query("select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = 'order_outbox'")
        .execute(&flow.world.order_db)
        .await
        .unwrap();
    eventually(
        Duration::from_secs(20),
        "the slot has no reader",
        async || {
            sqlx::query(statement)
                .execute(&flow.world.order_db)
                .await
                .map(drop)
                .map_err(|error| error.to_string())
        },
    )
    .await;
}

#[tokio::test]
async fn the_slot_is_dropped_while_it_streams() {
    let flow = Flow::new().await;
    with_slot(&flow, "select pg_drop_replication_slot('order_outbox')").await;
    flow.heals("slot dropped while streaming", Instant::now())
        .await;
}

/// Stops the connector, drops its slot, and places orders.
async fn orders_without_slot(flow: &Flow) {
    flow.world.declare("order-outbox", "stopped").await;
    with_slot(flow, "select pg_drop_replication_slot('order_outbox')").await;
    for _ in 0..20 {
        flow.world.place(flow.product, PRICE, 1).await;
    }
}

#[tokio::test]
async fn the_slot_is_dropped_while_the_connector_is_stopped() {
    let flow = Flow::new().await;
    orders_without_slot(&flow).await;
    flow.world.declare("order-outbox", "running").await;
    flow.heals("slot dropped while stopped", Instant::now())
        .await;
}

#[tokio::test]
async fn the_slot_is_recreated_while_the_connector_is_stopped() {
    let flow = Flow::new().await;
    orders_without_slot(&flow).await;
    with_slot(
        &flow,
        "select pg_create_logical_replication_slot('order_outbox', 'pgoutput')",
    )
    .await;
    flow.world.declare("order-outbox", "running").await;
    flow.heals("slot recreated", Instant::now()).await;
}

/// Runs the command that publishes the outbox's rows again.
pub(crate) fn reread(world: &World) {
    let status = std::process::Command::new(world.stack.binaries.join("connect"))
        .args(["--url", &world.stack.connect_url, "reread", "order-outbox"])
        .status()
        .unwrap();
    assert!(status.success());
}

/// An operator advances the slot past events. No part notices, orders stay pending, and `reread` repairs it.
#[tokio::test]
async fn reread_publishes_the_events_that_an_advanced_slot_skipped() {
    let flow = Flow::new().await;
    flow.world.declare("order-outbox", "stopped").await;
    for _ in 0..20 {
        flow.world.place(flow.product, PRICE, 1).await;
    }
    with_slot(
        &flow,
        "select pg_replication_slot_advance('order_outbox', pg_current_wal_lsn())",
    )
    .await;
    flow.world.declare("order-outbox", "running").await;
    reread(&flow.world);
    flow.heals("slot advanced, outbox read again", Instant::now())
        .await;
}

/// The broker has acknowledged messages and lost them before a consumer read them.
#[tokio::test]
async fn reread_publishes_the_messages_that_a_topic_lost() {
    let flow = Flow::new().await;
    // Only messages that Kafka Connect has carried can be lost.
    flow.world.orders_are_carried().await;
    flow.world.lose_messages("order").await;
    // The worker takes the messages that it had fetched with it.
    let worker = pid(flow.world.stack, "inventory-worker").unwrap();
    kill(worker, Signal::SIGKILL).unwrap();
    let Flow {
        world,
        product,
        holder,
        ..
    } = flow;
    holder.rollback().await.unwrap();
    let lost = world.adopt_all().await;
    // The flow goes on without them.
    let later = world.place(product, PRICE, 1).await;
    world.settled(later).await;
    let unsettled = world.unsettled(&lost).await;
    assert!(unsettled >= 100, "only {unsettled} were lost");
    let from = Instant::now();
    reread(&world);
    let flow = Flow {
        holder: world.inventory_db.begin().await.unwrap(),
        world,
        product,
        unsettled,
    };
    flow.heals("messages lost from the topic, outbox read again", from)
        .await;
}
