//! A second worker takes over in mid-flow: it joins, leaves, or finds the first one stalled.

use std::ffi::OsStr;
use std::time::Instant;

use chrono::{DateTime, Utc};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use stack::testing::{Binary, Service, pid};
use uuid::Uuid;

use crate::flow::{Flow, HEALED, PRICE};
use crate::world::health::logs;
use crate::world::{World, eventually};

#[tokio::test]
async fn a_second_worker_joins_and_is_killed_in_mid_batch() {
    let flow = Flow::new().await;
    let second = Service::start(flow.world.stack, Binary::InventoryWorker, &[]).await;
    let from = Instant::now();
    flow.world.place_many(100, flow.product, PRICE).await;
    second.signal(Signal::SIGKILL);
    flow.heals("second worker joins and is killed", from).await;
}

/// Back-pressure has paused the first worker when partitions go to another one; they come back when that one is killed.
#[tokio::test]
async fn partitions_revoked_during_a_pause_are_read_when_they_are_assigned_again() {
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
        .shows(
            first,
            "listener",
            "half of the partitions are revoked",
            half,
        )
        .await;
    let from = Instant::now();
    holder.rollback().await.unwrap();
    world.all_settled(HEALED, &orders).await;
    second.signal(Signal::SIGKILL);
    let all = |shown: &Value| shown["partitions"] == 6;
    world
        .shows(first, "listener", "it has all partitions again", all)
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

/// The worker stalls for longer than its session, another one takes over, and it resumes.
#[tokio::test]
async fn a_worker_that_stalls_in_its_transaction_and_resumes_writes_nothing_twice() {
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

/// A worker with messages in flight stalls before its claim of the epoch commits; another one takes over and settles them.
async fn stalled_before_its_claim(environment: &[(&str, &OsStr)]) -> (Flow, Service) {
    let world = World::alone().await;
    let product = world.product(PRICE, 400).await;
    // The stack's worker has claimed the epoch of every partition.
    let orders = world.place_many(60, product, PRICE).await;
    world.all_settled(HEALED, &orders).await;
    let stalled =
        Service::spawn_under(environment, world.stack, Binary::InventoryWorker, &[]).unwrap();
    let mut holder = world.inventory_db.begin().await.unwrap();
    sqlx::query("select from epoch where listener = 'inventory-worker' for update")
        .execute(&mut *holder)
        .await
        .unwrap();
    // Orders until the second worker has some too; only it has not claimed its epochs.
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
    // The server ends the stalled worker's transaction and with it the claim.
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
async fn a_worker_that_stalls_before_its_claim_and_resumes_changes_nothing() {
    let (flow, stalled) = stalled_before_its_claim(&[]).await;
    stalled.signal(Signal::SIGCONT);
    flow.heals("worker stalled before its claim", Instant::now())
        .await;
    let log = std::fs::read_to_string(&stalled.log).unwrap();
    assert!(log.contains("a transaction takes too long"), "{log}");
}

/// It sleeps for longer than the inbox keeps the rows of the other worker.
#[tokio::test]
async fn a_worker_that_resumes_after_the_inbox_is_trimmed_applies_nothing_twice() {
    let environment: [(&str, &OsStr); 1] = [("OUTBOX_STANDSTILL_S", "5".as_ref())];
    let (flow, stalled) = stalled_before_its_claim(&environment).await;
    // A session lasts 45 s, so the standstill of 5 s has passed.
    let trimmed: Vec<(Uuid, DateTime<Utc>)> = sqlx::query_as(
        "delete from inbox where listener = 'inventory-worker' returning id, settled_at",
    )
    .fetch_all(&flow.world.inventory_db)
    .await
    .unwrap();
    stalled.signal(Signal::SIGCONT);
    logs(
        &stalled,
        HEALED,
        "the process stood still for longer than it may hold messages",
    )
    .await;
    let order = flow.world.place(flow.product, PRICE, 1).await;
    flow.world.settled(order).await;
    let (ids, times): (Vec<Uuid>, Vec<DateTime<Utc>>) = trimmed.into_iter().unzip();
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
