//! Parts that stop, are killed, hang or fail in mid-flow. They recover by themselves; no order is lost or applied twice.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use stack::testing::pid;

use crate::flow::{Flow, HEALED, PRICE};
use crate::world::{eventually, execute};

/// Sends a signal to a part in mid-flow, and asserts that it is restarted and every order settled.
async fn survives(part: &str, signal: Signal) {
    let flow = Flow::new().await;
    let before = pid(flow.world.stack, part).unwrap();
    kill(before, signal).unwrap();
    let from = Instant::now();
    let stack = flow.world.stack;
    eventually(HEALED, "the part is restarted", async || {
        match pid(stack, part) {
            Some(now) if now != before => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    flow.heals(&format!("{signal} of {part}"), from).await;
}

macro_rules! survives {
    ($($name:ident: $part:literal, $signal:ident;)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                survives($part, Signal::$signal).await;
            }
        )*
    };
}

survives! {
    the_order_service_is_asked_to_stop: "order", SIGTERM;
    the_order_service_is_killed: "order", SIGKILL;
    the_inventory_service_is_asked_to_stop: "inventory", SIGTERM;
    the_inventory_service_is_killed: "inventory", SIGKILL;
    the_worker_is_asked_to_stop: "inventory-worker", SIGTERM;
    kafka_connect_is_asked_to_stop: "connect", SIGTERM;
    kafka_connect_is_killed: "connect", SIGKILL;
    kafka_is_asked_to_stop: "kafka", SIGTERM;
    kafka_is_killed: "kafka", SIGKILL;
    the_orders_database_is_asked_to_stop: "postgres-order", SIGINT;
    the_orders_database_is_killed: "postgres-order", SIGKILL;
    the_inventorys_database_is_asked_to_stop: "postgres-inventory", SIGINT;
    the_inventorys_database_is_killed: "postgres-inventory", SIGKILL;
    the_reconciler_is_killed: "reconciler", SIGKILL;
}

/// Stops a part's process for a while: its connections stay open, and it answers nothing.
async fn survives_silence(part: &str, silence: Duration) {
    let flow = Flow::new().await;
    let frozen = pid(flow.world.stack, part).unwrap();
    kill(frozen, Signal::SIGSTOP).unwrap();
    let from = Instant::now();
    // Orders are accepted meanwhile.
    let mut accepted = 0;
    while from.elapsed() < silence {
        flow.world.place(flow.product, PRICE, 1).await;
        accepted += 1;
        tokio::time::sleep(silence / 20).await;
    }
    assert!(accepted >= 10, "only {accepted} orders were accepted");
    kill(frozen, Signal::SIGCONT).unwrap();
    let from = Instant::now();
    flow.heals(&format!("{part} silent for {silence:?}"), from)
        .await;
}

#[tokio::test]
async fn kafka_connect_hangs_while_orders_arrive() {
    survives_silence("connect", Duration::from_secs(15)).await;
}

#[tokio::test]
async fn kafka_hangs_for_a_minute_while_orders_are_accepted() {
    survives_silence("kafka", Duration::from_secs(60)).await;
}

#[tokio::test]
async fn a_failed_task_is_restarted() {
    let flow = Flow::new().await;
    let client = connect::Client::new(&flow.world.stack.connect_url).unwrap();
    let set = |statement| execute(&flow.world.order_db, statement);
    set("alter role order_cdc nologin").await;
    set("select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = 'order_outbox'").await;
    eventually(Duration::from_secs(60), "the task has failed", async || {
        let status = client.status("order-outbox").await.unwrap();
        status
            .failure()
            .map(drop)
            .ok_or_else(|| format!("{status:?}"))
    })
    .await;
    set("alter role order_cdc login").await;
    flow.heals("task FAILED", Instant::now()).await;
}
