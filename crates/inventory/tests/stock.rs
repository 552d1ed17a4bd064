//! The stock's transaction and the grants, on real PostgreSQL.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::sync::Arc;

use chrono::Utc;
use events::{OrderPlaced, Rejection, ReservationEvent};
use inventory::config::Config;
use inventory::stock::{Error, apply};
use inventory::{db, domain};
use outbox::schema::{self, Part, Roles};
use sqlx::postgres::PgPoolOptions;
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool};
use stack::testing::{Context, Database, database, expect};
use tokio::sync::Barrier;
use uuid::Uuid;

const MOUSE: Uuid = Uuid::from_u128(0x6ba7_b810_9dad_11d1_80b4_00c0_4fd4_30c8);

async fn owner(database: &Database) -> PgConnection {
    PgConnection::connect_with(&database.options("inventory_owner"))
        .await
        .unwrap()
}

async fn migrated() -> Database {
    let database = database(Context::Inventory).await;
    db::migrate(
        &mut owner(&database).await,
        &Config::default().roles().unwrap(),
    )
    .await
    .unwrap();
    database
}

async fn worker(database: &Database) -> PgPool {
    let options = database.options("inventory_worker");
    PgPoolOptions::new()
        .max_connections(4)
        .connect_with(options)
        .await
        .unwrap()
}

fn order(item_id: Uuid, quantity: i32) -> OrderPlaced {
    OrderPlaced {
        event_id: Uuid::now_v7(),
        order_id: Uuid::now_v7(),
        item_id,
        quantity,
        estimated_price: 25,
        placed_at: Utc::now(),
    }
}

async fn decide(pool: &PgPool, orders: &[OrderPlaced]) -> Result<Vec<ReservationEvent>, Error> {
    let mut tx = pool.begin().await?;
    let outcomes = apply(&mut tx, &orders.iter().collect::<Vec<_>>()).await?;
    tx.commit().await?;
    Ok(outcomes)
}

async fn mice(pool: &PgPool) -> i32 {
    db::products(pool)
        .await
        .unwrap()
        .iter()
        .find(|product| product.id == MOUSE)
        .unwrap()
        .stock
}

#[tokio::test]
async fn a_batch_reduces_the_stock_by_the_confirmed_orders_and_returns_outcomes_in_order() {
    let database = migrated().await;
    let pool = worker(&database).await;
    let orders = [
        order(MOUSE, 150),
        order(MOUSE, 51),
        order(Uuid::now_v7(), 1),
        order(MOUSE, 50),
    ];
    let outcomes = decide(&pool, &orders).await.unwrap();
    let reasons: Vec<Option<Rejection>> = outcomes
        .iter()
        .map(|outcome| match outcome {
            ReservationEvent::Placed(_) => None,
            ReservationEvent::Rejected(rejected) => Some(rejected.reason),
        })
        .collect();
    let short = Rejection::InsufficientStock {
        requested: 51,
        available: 50,
    };
    assert_eq!(
        reasons,
        [None, Some(short), Some(Rejection::ProductNotFound), None]
    );
    assert_eq!(mice(&pool).await, 0);

    // The same orders in other events: they stay decided.
    let again = orders.map(|order| OrderPlaced {
        event_id: Uuid::now_v7(),
        ..order
    });
    assert!(decide(&pool, &again).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_invalid_order_is_named_and_its_batch_writes_nothing() {
    let database = migrated().await;
    let pool = worker(&database).await;
    let failed = decide(
        &pool,
        &[order(MOUSE, 1), order(MOUSE, 0), order(Uuid::nil(), 1)],
    )
    .await;
    let Err(Error::Invalid(invalid)) = failed else {
        panic!("{failed:?}");
    };
    assert_eq!(
        invalid,
        [
            (1, domain::Invalid::Quantity(0)),
            (2, domain::Invalid::Nil("item_id"))
        ]
    );
    assert_eq!(mice(&pool).await, 200);
}

#[tokio::test]
async fn concurrent_batches_neither_deadlock_nor_oversell() {
    let database = migrated().await;
    let pool = worker(&database).await;
    let products: Vec<Uuid> = db::products(&pool)
        .await
        .unwrap()
        .iter()
        .map(|product| product.id)
        .collect();
    let barrier = Arc::new(Barrier::new(4));
    let workers = (0..4).map(|number| {
        let (pool, barrier, mut products) = (pool.clone(), Arc::clone(&barrier), products.clone());
        tokio::spawn(async move {
            products.rotate_left(number * 2);
            for _ in 0..20 {
                barrier.wait().await;
                let orders: Vec<OrderPlaced> =
                    products.iter().map(|product| order(*product, 1)).collect();
                decide(&pool, &orders).await.unwrap();
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    assert_eq!(mice(&pool).await, 120);
}

/// Two transactions decide the same order at once, on different products, so that no product lock serializes them.
#[tokio::test]
async fn an_order_in_two_concurrent_transactions_is_decided_once() {
    let database = migrated().await;
    let pool = worker(&database).await;
    let first = order(MOUSE, 1);
    let second = OrderPlaced {
        event_id: Uuid::now_v7(),
        item_id: Uuid::now_v7(),
        ..first.clone()
    };
    let mut holder = pool.begin().await.unwrap();
    apply(&mut holder, &[&first]).await.unwrap();
    let racing = tokio::spawn({
        let pool = pool.clone();
        async move { decide(&pool, &[second]).await }
    });
    // It waits for the row of the first; other tests wait in databases of their own.
    let waiting = async || -> i64 {
        sqlx::query_scalar(
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
        )
        .fetch_one(&pool)
        .await
        .unwrap()
    };
    while waiting().await == 0 {
        tokio::task::yield_now().await;
    }
    holder.commit().await.unwrap();
    assert!(matches!(
        racing.await.unwrap(),
        Err(Error::DecidedMeanwhile)
    ));
}

#[tokio::test]
async fn the_migrations_hold_the_librarys_tables() {
    let (migrated, library) = (migrated().await, database(Context::Inventory).await);
    let parts = [Part::Publisher, Part::Listener];
    let roles = Roles::default()
        .writer("inventory_worker")
        .topic("reservation")
        .cdc("inventory_cdc")
        .keeper("inventory_keeper")
        .listener("inventory_worker");
    schema::migrate(&mut owner(&library).await, &parts, &roles)
        .await
        .unwrap();
    expect::holds(
        &migrated,
        &library,
        &["products", "reservations", "_sqlx_migrations"],
    )
    .await;
}

#[tokio::test]
async fn no_role_may_do_more_than_its_work() {
    let database = migrated().await;
    let forbidden = [
        (
            "inventory_service",
            &[
                "update products set stock = 1",
                "insert into products select * from products",
                "delete from products",
                "select * from reservations",
                "insert into outbox (id, aggregateid, aggregatetype, type, payload) values (gen_random_uuid(), 'a', 'a', 'a', '{}')",
                "select * from inbox",
                "create table mine (a integer)",
            ][..],
        ),
        (
            "inventory_worker",
            &[
                "update products set price = 1",
                "insert into products select * from products",
                "delete from products",
                "update reservations set quantity = 1",
                "delete from reservations",
                "select * from outbox",
                "delete from outbox",
                "delete from inbox",
                "update dead_letter set value = 'x'",
                "delete from discarded_dead_letter",
                "select * from _outbox_publisher_migrations",
                "delete from _outbox_listener_migrations",
                "insert into discarded_dead_letter (discarded_by) values ('postgres')",
                "insert into discarded_dead_letter (discarded_at) values (now())",
                "create temporary table mine (a integer)",
                "select pg_create_logical_replication_slot('mine', 'pgoutput')",
                "set role inventory_owner",
            ][..],
        ),
        (
            "inventory_keeper",
            &[
                "select * from products",
                "update products set stock = 1",
                "insert into outbox (id, aggregateid, aggregatetype, type, payload) values (gen_random_uuid(), 'a', 'a', 'a', '{}')",
                "update outbox set type = 'x'",
                "truncate outbox",
                "update inbox set settled_at = now()",
                "delete from dead_letter",
                "delete from outbox_identity",
                "create table mine (a integer)",
                "select pg_create_logical_replication_slot('mine', 'pgoutput')",
                "set role inventory_cdc",
            ][..],
        ),
        (
            "inventory_cdc",
            &[
                "select * from products",
                "update products set stock = 1",
                "select * from reservations",
                "delete from outbox",
                "create publication mine for table outbox",
            ][..],
        ),
    ];
    for (role, statements) in forbidden {
        expect::denied(&database, role, statements).await;
    }
}

#[tokio::test]
async fn a_migrated_database_is_as_the_outbox_needs_it() {
    let database = migrated().await;
    let mut service = database
        .options("inventory_service")
        .connect()
        .await
        .unwrap();
    Config::default()
        .outbox()
        .unwrap()
        .check(&mut service)
        .await
        .unwrap();
}
