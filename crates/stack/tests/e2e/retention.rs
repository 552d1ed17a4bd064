//! Old rows go, and only those whose events have reached Kafka.

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

async fn there(pool: &PgPool, table: &'static str, ids: &BTreeSet<Uuid>) -> usize {
    let statement = format!("select count(*) from {table} where id = any($1)");
    let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(statement))
        .bind(ids.iter().copied().collect::<Vec<_>>())
        .fetch_one(pool)
        .await
        .unwrap();
    usize::try_from(count).unwrap()
}

async fn gone(pool: &PgPool, table: &'static str, ids: &BTreeSet<Uuid>) {
    eventually(WITHIN, "old rows are gone", async || {
        match there(pool, table, ids).await {
            0 => Ok(()),
            left => Err(format!("{left} of {table} are left")),
        }
    })
    .await;
}

async fn settled(world: &World, orders: &[Uuid]) {
    world.all_settled(WITHIN, orders).await;
    world.invariant_holds().await;
}

#[tokio::test]
async fn old_rows_go_and_fresh_ones_stay() {
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
    gone(&world.order_db, "outbox", &old).await;
    assert_eq!(there(&world.order_db, "outbox", &fresh).await, 20);

    // Inventory has settled them; its inbox remembers them for 14 days.
    assert_eq!(there(&world.inventory_db, "inbox", &old).await, 20);
    sqlx::query("update inbox set settled_at = settled_at - interval '15 days' where id = any($1)")
        .bind(old.iter().copied().collect::<Vec<_>>())
        .execute(&world.inventory_db)
        .await
        .unwrap();
    gone(&world.inventory_db, "inbox", &old).await;
    assert_eq!(there(&world.inventory_db, "inbox", &fresh).await, 20);
}

/// The connector hangs, and the slot that its rows wait for is dropped and made again: the new one has "confirmed"
/// everything, and knows nothing of them.
#[tokio::test]
async fn nothing_goes_by_the_word_of_a_slot_that_was_made_again() {
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
        eventually(WITHIN, "the slot goes", async || {
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
        assert_eq!(there(&world.order_db, "outbox", &rows).await, 20, "{why}");
    };
    held("there is no replication slot").await;
    sqlx::query("select pg_create_logical_replication_slot('order_outbox', 'pgoutput')")
        .execute(&world.order_db)
        .await
        .unwrap();
    held("no process reads the replication slot").await;
    kill(connect, Signal::SIGCONT).unwrap();
    // Nobody has lost anything, and then the rows may go.
    world.all_settled(WITHIN, &orders).await;
    gone(&world.order_db, "outbox", &rows).await;
    let stock = world.stock(product).await;
    assert_eq!(stock, 160, "each order decreased the stock once");
}

const MILLION: i64 = 1_000_000;

/// Lone orders, one after the other, while `going_on` says so: how long each took from its request to its outcome.
async fn lone_orders(
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

/// `cargo test -- --ignored`, or `./dev test --long`: a million old rows on either side, and what the flow feels of it.
#[tokio::test]
#[ignore = "takes minutes"]
async fn a_million_old_rows_go_and_orders_hardly_feel_it() {
    let world = World::alone().await;
    let product = world.product(5, 1_000_000).await;
    let alone = lone_orders(&world, product, async |done| done < 200).await;

    // They turn old when the connector has carried them, and nobody waits behind them any more.
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
    eventually(Duration::from_secs(300), "the first are old", async || {
        if left().await < last {
            Ok(())
        } else {
            Err("none".to_owned())
        }
    })
    .await;
    let began = Instant::now();
    let meanwhile = lone_orders(&world, product, async |done| {
        // Counting a million rows is work too: not for every order.
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
        "| a million rows of outbox and inbox each | gone after {gone:.0?} | lone orders \
         meanwhile : alone, n = {} : {}: p50 {:.2}, p95 {:.2} |",
        meanwhile.len(),
        alone.len(),
        ratio(50),
        ratio(95),
    );
    world.invariant_holds().await;
}
