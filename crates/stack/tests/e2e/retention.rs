//! Retention: old rows are removed, but only if their events have reached Kafka.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use sqlx::PgPool;
use stack::testing::pid;
use stack::topic;
use uuid::Uuid;

use crate::world::{World, eventually};

const WITHIN: Duration = Duration::from_secs(60);

/// Makes the outbox rows of orders four days old.
async fn age(world: &World, orders: &[Uuid]) -> BTreeSet<Uuid> {
    let ids: Vec<Uuid> = sqlx::query_scalar(
        r#"update outbox set "timestamp" = "timestamp" - interval '4 days' where aggregateid = any($1) returning id"#,
    )
    .bind(orders.iter().map(Uuid::to_string).collect::<Vec<_>>())
    .fetch_all(&world.order_db)
    .await
    .unwrap();
    assert_eq!(ids.len(), orders.len());
    ids.into_iter().collect()
}

/// How many of these rows a table holds.
async fn held_rows(pool: &PgPool, table: &'static str, ids: &BTreeSet<Uuid>) -> usize {
    let statement = format!("select count(*) from {table} where id = any($1)");
    let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(statement))
        .bind(ids.iter().copied().collect::<Vec<_>>())
        .fetch_one(pool)
        .await
        .unwrap();
    usize::try_from(count).unwrap()
}

/// Waits until a table holds none of these rows.
async fn removed(pool: &PgPool, table: &'static str, ids: &BTreeSet<Uuid>) {
    eventually(WITHIN, "old rows are gone", async || {
        match held_rows(pool, table, ids).await {
            0 => Ok(()),
            left => Err(format!("{left} of {table} are left")),
        }
    })
    .await;
}

/// Waits until the orders are settled, and asserts the invariant.
async fn settled(world: &World, orders: &[Uuid]) {
    world.all_settled(WITHIN, orders).await;
    world.invariant_holds().await;
}

#[tokio::test]
async fn old_rows_are_removed_and_recent_ones_stay() {
    let world = World::new().await;
    let product = world.product(5, 200).await;
    let orders = world.place_many(40, product, 5).await;
    settled(&world, &orders).await;
    let (old, fresh) = orders.split_at(20);
    let old = age(&world, old).await;
    let fresh: BTreeSet<Uuid> =
        sqlx::query_scalar("select id from outbox where aggregateid = any($1)")
            .bind(fresh.iter().map(Uuid::to_string).collect::<Vec<_>>())
            .fetch_all(&world.order_db)
            .await
            .unwrap()
            .into_iter()
            .collect();
    removed(&world.order_db, "outbox", &old).await;
    assert_eq!(held_rows(&world.order_db, "outbox", &fresh).await, 20);

    // Inventory's inbox keeps settled events for 14 days.
    assert_eq!(held_rows(&world.inventory_db, "inbox", &old).await, 20);
    sqlx::query("update inbox set settled_at = settled_at - interval '15 days' where id = any($1)")
        .bind(old.iter().copied().collect::<Vec<_>>())
        .execute(&world.inventory_db)
        .await
        .unwrap();
    removed(&world.inventory_db, "inbox", &old).await;
    assert_eq!(held_rows(&world.inventory_db, "inbox", &fresh).await, 20);
}

/// The connector hangs while its slot is dropped and recreated. The new slot has "confirmed" all rows without having
/// streamed them.
#[tokio::test]
async fn a_recreated_slot_removes_no_row_that_it_has_not_streamed() {
    let world = World::alone().await;
    let product = world.product(5, 200).await;
    let before = world.place_many(20, product, 5).await;
    settled(&world, &before).await;
    let connect = pid(world.stack, "connect").unwrap();
    kill(connect, Signal::SIGSTOP).unwrap();
    let orders = world.place_many(20, product, 5).await;
    let rows = age(&world, &orders).await;
    let order = &world.stack.order_url;
    world
        .shows(order, "outbox", "the old rows are marked", |shown| {
            shown["outbox_marked"] == 20
        })
        .await;
    for statement in [
        "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = 'order_outbox'",
        "select pg_drop_replication_slot('order_outbox')",
    ] {
        eventually(WITHIN, "the slot is dropped", async || {
            sqlx::query(statement)
                .execute(&world.order_db)
                .await
                .map(drop)
                .map_err(|error| error.to_string())
        })
        .await;
    }
    let held = async |why: &str| {
        world
            .shows(order, "outbox", why, |shown| shown["removal_held"] == why)
            .await;
        assert_eq!(
            held_rows(&world.order_db, "outbox", &rows).await,
            20,
            "{why}"
        );
    };
    held("there is no replication slot").await;
    sqlx::query("select pg_create_logical_replication_slot('order_outbox', 'pgoutput')")
        .execute(&world.order_db)
        .await
        .unwrap();
    held("no process reads the replication slot").await;
    kill(connect, Signal::SIGCONT).unwrap();
    // No event is lost; then the rows are removed.
    world.all_settled(WITHIN, &orders).await;
    removed(&world.order_db, "outbox", &rows).await;
    let stock = world.stock(product).await;
    assert_eq!(stock, 160, "each order decreased the stock once");
}

const MILLION: i64 = 1_000_000;

/// Places orders one after the other while `going_on` is true; returns the sorted times from request to outcome.
async fn single_orders(
    world: &World,
    product: Uuid,
    mut going_on: impl AsyncFnMut(usize) -> bool,
) -> Vec<Duration> {
    let mut times = Vec::new();
    while going_on(times.len()).await {
        let began = Instant::now();
        let order = world.place(product, 5, 1).await;
        world.settled(order).await;
        times.push(began.elapsed());
    }
    times.sort();
    times
}

/// Run by `./dev test --long`, or `cargo test -- --ignored`. It compares the times of orders during the removal with those
/// before it.
#[tokio::test]
#[ignore = "takes minutes"]
async fn orders_stay_fast_while_a_million_old_rows_are_removed() {
    let world = World::alone().await;
    let product = world.product(5, 1_000_000).await;
    let alone = single_orders(&world, product, async |done| done < 200).await;

    // They become old after the connector has carried them, when no order waits behind them any more.
    let topics = "alter table outbox drop constraint outbox_topics";
    sqlx::query(topics).execute(&world.order_db).await.unwrap();
    sqlx::query(
        r#"insert into outbox (id, aggregatetype, aggregateid, type, payload, "timestamp")
           select gen_random_uuid(), 'retired', number::text, 'order.retired', '{}',
                  localtimestamp - interval '3 days' + interval '5 minutes'
           from generate_series(1, $1) as number"#,
    )
    .bind(MILLION)
    .execute(&world.order_db)
    .await
    .unwrap();
    let written = Instant::now();
    eventually(
        Duration::from_secs(280),
        "Kafka has them",
        async || match topic::count(&world.stack.kafka, "retired") {
            Ok(carried) if carried >= MILLION => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await;
    println!(
        "Kafka has a million messages {:.0?} later",
        written.elapsed()
    );
    sqlx::query(
        "insert into inbox (listener, id, settled_at)
         select 'inventory-worker', gen_random_uuid(), now() - interval '14 days' + interval '1 minute'
         from generate_series(1, $1)",
    )
    .bind(MILLION)
    .execute(&world.inventory_db)
    .await
    .unwrap();
    let left = async || {
        let outbox: i64 =
            sqlx::query_scalar("select count(*) from outbox where aggregatetype = 'retired'")
                .fetch_one(&world.order_db)
                .await
                .unwrap();
        let inbox: i64 = sqlx::query_scalar(
            "select count(*) from inbox where settled_at < now() - interval '13 days'",
        )
        .fetch_one(&world.inventory_db)
        .await
        .unwrap();
        outbox + inbox
    };
    let mut last = left().await;
    assert_eq!(last, 2 * MILLION);
    eventually(
        Duration::from_secs(300),
        "the first ones are removed",
        async || {
            if left().await < last {
                Ok(())
            } else {
                Err("none".to_owned())
            }
        },
    )
    .await;
    let began = Instant::now();
    let meanwhile = single_orders(&world, product, async |done| {
        // Counting a million rows is work too, so it happens only now and then.
        if done.is_multiple_of(50) {
            last = left().await;
            println!(
                "{:?}: {last} of {} rows are left",
                began.elapsed(),
                2 * MILLION
            );
        }
        assert!(
            began.elapsed() < Duration::from_secs(900),
            "{last} rows are left"
        );
        last > 0
    })
    .await;
    let gone = began.elapsed();
    let at = |times: &[Duration], percent: usize| times[times.len() * percent / 100];
    let ratio = |percent| at(&meanwhile, percent).as_secs_f64() / at(&alone, percent).as_secs_f64();
    println!(
        "| a million rows of outbox and inbox each | removed after {gone:.0?} | single orders \
         meanwhile : alone, n = {} : {}: p50 {:.2}, p95 {:.2} |",
        meanwhile.len(),
        alone.len(),
        ratio(50),
        ratio(95),
    );
    world.invariant_holds().await;
}
