//! Parts that end, hang and lose what they knew, in mid-flow. Nobody steps in; nothing is lost, nothing is done twice.

use std::ffi::OsStr;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use sqlx::{Postgres, Transaction};
use stack::testing::{Binary, Service, pid};
use uuid::Uuid;

use crate::world::{World, eventually};

/// How long a part may take to come back, and all orders to be settled.
const HEALED: Duration = Duration::from_secs(120);
const PRICE: i32 = 9;

/// A flow with orders in it that wait for the worker, which is within its transaction.
struct Flow {
    world: World,
    product: Uuid,
    holder: Transaction<'static, Postgres>,
    unsettled: i64,
}

impl Flow {
    async fn new() -> Self {
        let world = World::alone().await;
        // All that there is can be had: some orders are rejected.
        let product = world.product(PRICE, 400).await;
        let mut holder = world.hold(&[product]).await;
        let orders = world.place_many(150, product, PRICE).await;
        let unsettled = world.worker_is_held(&mut holder, &orders).await;
        Self {
            world,
            product,
            holder,
            unsettled,
        }
    }

    /// Lets the worker go on, places further orders, and waits until all are settled.
    async fn heals(self, case: &str, from: Instant) {
        let Self {
            world,
            product,
            holder,
            unsettled,
        } = self;
        // Its server may be the one that ended.
        drop(holder.rollback().await);
        for _ in 0..20 {
            world.place_in_the_end(product, PRICE).await;
        }
        for pool in [&world.order_db, &world.inventory_db] {
            eventually(HEALED, "the database is back", async || {
                sqlx::query("select")
                    .execute(pool)
                    .await
                    .map(drop)
                    .map_err(|error| error.to_string())
            })
            .await;
        }
        let orders = world.adopt_all().await;
        assert!(orders.len() >= 170);
        for url in [&world.stack.order_url, &world.stack.inventory_url] {
            // A crash is no restore from a backup.
            world
                .shows(url, "outbox", "the database is what it was", |shown| {
                    shown["watched"] == true && shown["changed"].is_null()
                })
                .await;
        }
        world.all_settled(HEALED, &orders).await;
        println!(
            "| {case} | {unsettled} | {:.1} s |",
            from.elapsed().as_secs_f64()
        );
        world.invariant_holds().await;
    }
}

async fn survives(part: &str, signal: Signal) {
    let flow = Flow::new().await;
    let before = pid(flow.world.stack, part).unwrap();
    kill(before, signal).unwrap();
    let from = Instant::now();
    let stack = flow.world.stack;
    eventually(HEALED, "the part is started again", async || {
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

/// A part that is there and does not answer: connections stay open.
async fn survives_silence(part: &str, silence: Duration) {
    let flow = Flow::new().await;
    let frozen = pid(flow.world.stack, part).unwrap();
    kill(frozen, Signal::SIGSTOP).unwrap();
    let from = Instant::now();
    // Orders are accepted all the while.
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
async fn kafka_connect_is_away_while_orders_arrive() {
    survives_silence("connect", Duration::from_secs(15)).await;
}

#[tokio::test]
async fn kafka_is_away_for_a_minute_while_orders_are_accepted() {
    survives_silence("kafka", Duration::from_secs(60)).await;
}

/// Does something to the slot of the order's outbox, its reader ended first.
async fn with_slot(flow: &Flow, statement: &'static str) {
    sqlx::query("select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = 'order_outbox'")
        .execute(&flow.world.order_db)
        .await
        .unwrap();
    eventually(
        Duration::from_secs(20),
        "the slot is free for a moment",
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

#[tokio::test]
async fn the_slot_is_dropped_while_the_connector_is_stopped() {
    let flow = Flow::new().await;
    let client = connect::Client::new(&flow.world.stack.connect_url).unwrap();
    client.stop("order-outbox").await.unwrap();
    with_slot(&flow, "select pg_drop_replication_slot('order_outbox')").await;
    for _ in 0..20 {
        flow.world.place(flow.product, PRICE, 1).await;
    }
    client.resume("order-outbox").await.unwrap();
    flow.heals("slot dropped while stopped", Instant::now())
        .await;
}

#[tokio::test]
async fn the_slot_is_made_again_behind_the_connectors_back() {
    let flow = Flow::new().await;
    let client = connect::Client::new(&flow.world.stack.connect_url).unwrap();
    client.stop("order-outbox").await.unwrap();
    with_slot(&flow, "select pg_drop_replication_slot('order_outbox')").await;
    for _ in 0..20 {
        flow.world.place(flow.product, PRICE, 1).await;
    }
    with_slot(
        &flow,
        "select pg_create_logical_replication_slot('order_outbox', 'pgoutput')",
    )
    .await;
    client.resume("order-outbox").await.unwrap();
    flow.heals("slot made again", Instant::now()).await;
}

/// The one command that repairs what was lost below the write-ahead log.
fn reread(world: &World) {
    let status = std::process::Command::new(world.stack.binaries.join("connect"))
        .args(["--url", &world.stack.connect_url, "reread", "order-outbox"])
        .status()
        .unwrap();
    assert!(status.success());
}

/// Somebody moves the slot past events: nothing notices, orders stay pending, and the one command repairs it.
#[tokio::test]
async fn events_that_a_moved_slot_passed_over_are_brought_back_by_the_command() {
    let flow = Flow::new().await;
    let client = connect::Client::new(&flow.world.stack.connect_url).unwrap();
    client.stop("order-outbox").await.unwrap();
    for _ in 0..20 {
        flow.world.place(flow.product, PRICE, 1).await;
    }
    with_slot(
        &flow,
        "select pg_replication_slot_advance('order_outbox', pg_current_wal_lsn())",
    )
    .await;
    client.resume("order-outbox").await.unwrap();
    reread(&flow.world);
    flow.heals("slot advanced, outbox read again", Instant::now())
        .await;
}

/// The broker has acknowledged messages and lost them before anybody read them.
#[tokio::test]
async fn messages_that_a_topic_has_lost_are_brought_back_by_the_command() {
    let flow = Flow::new().await;
    // What Kafka Connect has yet to carry cannot be lost.
    flow.world.orders_are_carried().await;
    flow.world.lose_messages("order").await;
    // What the worker had fetched is gone with it.
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

#[tokio::test]
async fn a_task_that_failed_for_good_is_restarted() {
    let flow = Flow::new().await;
    let client = connect::Client::new(&flow.world.stack.connect_url).unwrap();
    let set = async |statement: &'static str| {
        sqlx::query(statement)
            .execute(&flow.world.order_db)
            .await
            .unwrap();
    };
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

#[tokio::test]
async fn a_second_worker_comes_and_goes_in_mid_batch() {
    let flow = Flow::new().await;
    let second = Service::start(flow.world.stack, Binary::InventoryWorker, &[]).await;
    let from = Instant::now();
    flow.world.place_many(100, flow.product, PRICE).await;
    second.signal(Signal::SIGKILL);
    flow.heals("second worker joins and is killed", from).await;
}

/// While reading rests since too much waits, partitions go to another worker, and they come back when it ends.
#[tokio::test]
async fn partitions_that_went_away_during_a_pause_are_read_when_they_come_back() {
    let world = World::alone().await;
    let product = world.product(PRICE, 400).await;
    let mut holder = world.hold(&[product]).await;
    let orders = world.place_many(2_500, product, PRICE).await;
    let unsettled = world.worker_is_held(&mut holder, &orders).await;
    let first = &world.stack.worker_url;
    let paused = |shown: &Value| shown["paused"] == true;
    world
        .shows(first, "listener", "it has paused", paused)
        .await;
    let second = Service::start(world.stack, Binary::InventoryWorker, &[]).await;
    let half = |shown: &Value| shown["partitions"] == 3;
    world
        .shows(first, "listener", "it has given half of them up", half)
        .await;
    let from = Instant::now();
    holder.rollback().await.unwrap();
    world.all_settled(HEALED, &orders).await;
    second.signal(Signal::SIGKILL);
    let all = |shown: &Value| shown["partitions"] == 6;
    world
        .shows(first, "listener", "it has them back", all)
        .await;
    let flow = Flow {
        holder: world.inventory_db.begin().await.unwrap(),
        world,
        product,
        unsettled,
    };
    flow.heals("partitions change hands during a pause", from)
        .await;
}

/// It stalls beyond its session within its transaction, another takes over, and it wakes up.
#[tokio::test]
async fn a_worker_that_stalls_within_its_transaction_and_wakes_up_writes_nothing_twice() {
    let flow = Flow::new().await;
    let stalled = pid(flow.world.stack, "inventory-worker").unwrap();
    kill(stalled, Signal::SIGSTOP).unwrap();
    let from = Instant::now();
    let second = Service::start(flow.world.stack, Binary::InventoryWorker, &[]).await;
    let Flow {
        world,
        product,
        holder,
        unsettled,
    } = flow;
    holder.rollback().await.unwrap();
    let orders = world.adopt_all().await;
    world.all_settled(HEALED, &orders).await;
    kill(stalled, Signal::SIGCONT).unwrap();
    let holder = world.inventory_db.begin().await.unwrap();
    let flow = Flow {
        world,
        product,
        holder,
        unsettled,
    };
    flow.heals("worker stalled in its transaction", from).await;
    drop(second);
}

/// A worker with messages in flight, its claim sent but not committed, stalls, and another has taken over and settled them.
async fn stalled_before_its_claim(environment: &[(&str, &OsStr)]) -> (Flow, Service) {
    let world = World::alone().await;
    let product = world.product(PRICE, 400).await;
    // The stack's worker holds every partition by its epoch.
    let orders = world.place_many(60, product, PRICE).await;
    world.all_settled(HEALED, &orders).await;
    let stalled =
        Service::spawn_under(environment, world.stack, Binary::InventoryWorker, &[]).unwrap();
    let mut holder = world.inventory_db.begin().await.unwrap();
    sqlx::query("select from epoch where listener = 'inventory-worker' for update")
        .execute(&mut *holder)
        .await
        .unwrap();
    // Orders until the second worker has some, too: only it has yet to claim.
    let mut orders = Vec::new();
    eventually(HEALED, "the second worker is about to claim", async || {
        orders.extend(world.place_many(30, product, PRICE).await);
        let claiming: bool = sqlx::query_scalar(
            "select exists (select from pg_stat_activity where usename = 'inventory_worker'
                            and wait_event_type = 'Lock' and query like 'insert into epoch%')",
        )
        .fetch_one(&world.inventory_db)
        .await
        .unwrap();
        if claiming {
            Ok(())
        } else {
            Err("it is not".to_owned())
        }
    })
    .await;
    stalled.signal(Signal::SIGSTOP);
    let more = 100_usize.saturating_sub(orders.len());
    orders.extend(world.place_many(more, product, PRICE).await);
    let unsettled = world.unsettled(&orders).await;
    assert!(unsettled >= 100, "only {unsettled} orders are unsettled");
    // The server ends the stalled worker's transaction, and with it the claim that it has sent.
    holder.rollback().await.unwrap();
    world.all_settled(HEALED, &orders).await;
    let flow = Flow {
        holder: world.inventory_db.begin().await.unwrap(),
        world,
        product,
        unsettled,
    };
    (flow, stalled)
}

#[tokio::test]
async fn a_worker_that_stalls_before_its_claim_and_wakes_up_changes_nothing() {
    let (flow, stalled) = stalled_before_its_claim(&[]).await;
    stalled.signal(Signal::SIGCONT);
    flow.heals("worker stalled before its claim", Instant::now())
        .await;
    let log = std::fs::read_to_string(&stalled.log).unwrap();
    assert!(log.contains("a transaction takes too long"), "{log}");
}

/// It sleeps for longer than the inbox remembers what the other has settled.
#[tokio::test]
async fn a_worker_that_wakes_up_after_the_inbox_has_forgotten_applies_nothing_twice() {
    let environment: [(&str, &OsStr); 1] = [("OUTBOX_STANDSTILL_S", "5".as_ref())];
    let (flow, stalled) = stalled_before_its_claim(&environment).await;
    // A session lasts 45 s, so five have gone by.
    let forgotten: Vec<(Uuid, DateTime<Utc>)> = sqlx::query_as(
        "delete from inbox where listener = 'inventory-worker' returning id, settled_at",
    )
    .fetch_all(&flow.world.inventory_db)
    .await
    .unwrap();
    stalled.signal(Signal::SIGCONT);
    eventually(HEALED, "it drops what it had read", async || {
        let log = std::fs::read_to_string(&stalled.log).unwrap();
        if log.contains("the process has stood still for long") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
    let order = flow.world.place(flow.product, PRICE, 1).await;
    flow.world.settled(order).await;
    let (ids, times): (Vec<Uuid>, Vec<DateTime<Utc>>) = forgotten.into_iter().unzip();
    let again = sqlx::query(
        "insert into inbox (listener, id, settled_at)
         select 'inventory-worker', * from unnest($1::uuid[], $2::timestamptz[])",
    )
    .bind(ids)
    .bind(times)
    .execute(&flow.world.inventory_db)
    .await;
    assert!(again.is_ok(), "none of them was settled again: {again:?}");
    flow.heals("worker slept longer than the inbox", Instant::now())
        .await;
}
