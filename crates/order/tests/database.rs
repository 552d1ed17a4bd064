//! The order context's SQL and the grants, on real PostgreSQL.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::BTreeMap;

use chrono::{DateTime, SubsecRound, Utc};
use events::{Rejection, ReservationEvent, ReservationRejected};
use order::config::Config;
use order::db;
use order::domain::{NewOrder, Outcome, Placed};
use order::intake::{Error, Intake};
use order::outcomes::Outcomes;
use outbox::listener::{DeadLetters, RetryPolicy, dead_letter};
use outbox::schema::{self, Part, Roles};
use sqlx::{Connection, PgConnection, PgPool};
use stack::testing::{Context, Database, database, expect};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

async fn owner(database: &Database) -> PgConnection {
    PgConnection::connect_with(&database.options("order_owner"))
        .await
        .unwrap()
}

async fn migrated() -> Database {
    let database = database(Context::Order).await;
    db::migrate(
        &mut owner(&database).await,
        &Config::default().roles().unwrap(),
    )
    .await
    .unwrap();
    database
}

async fn pool(database: &Database, role: &str) -> PgPool {
    PgPool::connect_with(database.options(role)).await.unwrap()
}

fn new_order(quantity: i32) -> NewOrder {
    NewOrder {
        product_id: Uuid::now_v7(),
        estimated_price: 5,
        quantity,
    }
}

async fn place(pool: &PgPool, count: i32) -> Vec<Placed> {
    let orders: Vec<Placed> = (1..=count)
        .map(|quantity| Placed {
            id: Uuid::now_v7(),
            event_id: Uuid::now_v7(),
            order: new_order(quantity),
            at: Utc::now(),
        })
        .collect();
    let mut tx = pool.begin().await.unwrap();
    db::insert(&mut tx, &orders).await.unwrap();
    tx.commit().await.unwrap();
    orders
}

async fn settle(pool: &PgPool, outcomes: BTreeMap<Uuid, Outcome>) {
    let mut tx = pool.begin().await.unwrap();
    let ids: Vec<Uuid> = outcomes.keys().copied().collect();
    assert_eq!(db::lock(&mut tx, &ids).await.unwrap().len(), ids.len());
    db::settle(&mut tx, &outcomes).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn an_order_is_pending_until_it_is_settled_and_keeps_its_first_outcome() {
    let database = migrated().await;
    let pool = pool(&database, "order_service").await;
    let placed = place(&pool, 3).await;
    let found = db::find(&pool, placed[0].id).await.unwrap().unwrap();
    assert_eq!(
        (found.status.as_str(), found.quantity, found.settled_at),
        ("pending", 1, None)
    );
    // PostgreSQL stores microseconds.
    assert_eq!(
        found.placed_at,
        DateTime::<Utc>::trunc_subsecs(placed[0].at, 6)
    );

    let mispriced = Rejection::PriceMismatch {
        estimated_price: 5,
        actual_price: 6,
    };
    let short = Rejection::InsufficientStock {
        requested: 3,
        available: 1,
    };
    let outcomes = [
        (placed[0].id, Outcome::Confirmed),
        (placed[1].id, Outcome::Rejected(mispriced)),
        (placed[2].id, Outcome::Rejected(short)),
    ];
    settle(&pool, outcomes.into()).await;
    // A final status never changes.
    settle(
        &pool,
        [(placed[0].id, Outcome::Rejected(Rejection::ProductNotFound))].into(),
    )
    .await;
    let find = async |id| db::find(&pool, id).await.unwrap().unwrap();
    let (first, second, third) = (
        find(placed[0].id).await,
        find(placed[1].id).await,
        find(placed[2].id).await,
    );
    assert_eq!((first.status.as_str(), first.reason), ("confirmed", None));
    assert_eq!(
        (second.reason.as_deref(), second.actual_price),
        (Some("price_mismatch"), Some(6))
    );
    assert_eq!(
        (third.reason.as_deref(), third.available),
        (Some("insufficient_stock"), Some(1))
    );
    assert!(db::find(&pool, Uuid::now_v7()).await.unwrap().is_none());
}

#[tokio::test]
async fn many_orders_that_wait_are_stored_in_few_transactions_each_with_its_event() {
    let database = migrated().await;
    let pool = pool(&database, "order_service").await;
    let tasks = TaskTracker::new();
    let intake = Intake::start(&pool, &tasks);
    let placing: Vec<_> = (1..=300)
        .map(|quantity| {
            let intake = intake.clone();
            tokio::spawn(async move { intake.place(new_order(quantity)).await.unwrap() })
        })
        .collect();
    for placed in placing {
        let id = placed.await.unwrap();
        assert!(
            db::find(&pool, id).await.unwrap().is_some(),
            "an acknowledged order is stored"
        );
    }
    drop(intake);
    tasks.close();
    tasks.wait().await;
    let owner = self::pool(&database, "order_owner").await;
    let (orders, with_event, transactions): (i64, i64, i64) = sqlx::query_as(
        "select count(*), count(outbox.id), count(distinct orders.xmin::text)
         from orders left join outbox on outbox.aggregateid = orders.id::text and outbox.xmin = orders.xmin",
    )
    .fetch_one(&owner)
    .await
    .unwrap();
    assert_eq!(
        (orders, with_event),
        (300, 300),
        "each order and its event in one transaction"
    );
    assert!(
        transactions < 100,
        "{transactions} transactions for 300 orders"
    );
}

#[tokio::test]
async fn an_order_that_the_database_refuses_is_an_error_for_its_client_and_not_stored() {
    let database = migrated().await;
    let owner = pool(&database, "order_owner").await;
    sqlx::query("revoke insert on outbox from order_service")
        .execute(&owner)
        .await
        .unwrap();
    let pool = pool(&database, "order_service").await;
    let tasks = TaskTracker::new();
    let intake = Intake::start(&pool, &tasks);
    assert!(matches!(
        intake.place(new_order(1)).await,
        Err(Error::Database(_))
    ));
    let stored: i64 = sqlx::query_scalar("select count(*) from orders")
        .fetch_one(&owner)
        .await
        .unwrap();
    assert_eq!(stored, 0);
    sqlx::query("grant insert on outbox to order_service")
        .execute(&owner)
        .await
        .unwrap();
    intake.place(new_order(1)).await.unwrap();
}

#[tokio::test]
async fn the_migrations_hold_the_librarys_tables() {
    let (migrated, library) = (migrated().await, database(Context::Order).await);
    let parts = [Part::Publisher, Part::Listener];
    let roles = Roles::default()
        .writer("order_service")
        .topic("order")
        .cdc("order_cdc")
        .keeper("order_keeper")
        .listener("order_service");
    schema::migrate(&mut owner(&library).await, &parts, &roles)
        .await
        .unwrap();
    expect::holds(&migrated, &library, &["orders", "_sqlx_migrations"]).await;
}

#[tokio::test]
async fn the_database_records_which_role_discarded_a_dead_letter() {
    let database = migrated().await;
    let pool = pool(&database, "order_service").await;
    let id = Uuid::now_v7();
    sqlx::query(
        r#"insert into dead_letter (listener, id, kind, error, topic, partition, "offset", header_names, header_values)
           values ('order', $1, 'poison', 'wrong', 'reservation', 0, 0, '{}', '{}')"#,
    )
    .bind(id)
    .execute(&pool)
    .await
    .unwrap();
    let dead_letters = DeadLetters::new("order", pool, Outcomes, RetryPolicy::default());
    assert!(dead_letters.discard(id, "a test").await.unwrap());
    let owner = self::pool(&database, "order_owner").await;
    let recorded: (Uuid, String, bool) = sqlx::query_as(
        "select id, discarded_by::text, discarded_at between now() - interval '1 min' and now() from discarded_dead_letter",
    )
    .fetch_one(&owner)
    .await
    .unwrap();
    assert_eq!(recorded, (id, "order_service".to_owned(), true));
}

#[tokio::test]
async fn an_outcome_of_an_unknown_order_is_dead_lettered_and_applied_once_the_order_exists() {
    let database = migrated().await;
    let pool = pool(&database, "order_service").await;
    let placed = place(&pool, 1).await.remove(0);
    for (order, known) in [(Uuid::now_v7(), false), (placed.id, true)] {
        let event_id = Uuid::now_v7();
        let outcome = ReservationEvent::Rejected(ReservationRejected {
            event_id,
            order_id: order,
            product_id: placed.order.product_id,
            reason: Rejection::ProductNotFound,
        });
        let outcome = serde_json::to_value(&outcome).unwrap();
        // As the listener dead-letters it.
        sqlx::query(
            r#"insert into dead_letter
                 (listener, id, kind, error, topic, partition, "offset", header_names, header_values, value, retry_at)
               values ('order', $1, 'deferred', 'there is no order', 'reservation', 0, 0, '{event_type}',
                       array[convert_to($2, 'UTF8')], convert_to($3, 'UTF8'), now())"#,
        )
        .bind(event_id)
        .bind(outcome["type"].as_str())
        .bind(outcome["payload"].to_string())
        .execute(&pool)
        .await
        .unwrap();
        // Its automatic retries are over.
        let no_retry = RetryPolicy {
            max_elapsed: std::time::Duration::ZERO,
            ..RetryPolicy::default()
        };
        let dead_letters = DeadLetters::new("order", pool.clone(), Outcomes, no_retry);
        let redriven = dead_letters.redrive(event_id).await.unwrap();
        let dead_letter = dead_letters.find(event_id).await.unwrap();
        if known {
            assert_eq!(
                (redriven, dead_letter),
                (dead_letter::Outcome::Applied, None)
            );
            let settled = db::find(&pool, order).await.unwrap().unwrap();
            assert_eq!(settled.status, "rejected");
            continue;
        }
        assert!(matches!(
            redriven,
            dead_letter::Outcome::Failed {
                kind: dead_letter::Kind::Deferred,
                ..
            }
        ));
        let dead_letter = dead_letter.unwrap();
        assert_eq!((dead_letter.retry_at, dead_letter.attempts), (None, 2));
        assert_eq!(dead_letter.error, format!("there is no order {order}"));
    }
}

#[tokio::test]
async fn no_role_may_do_more_than_its_work() {
    let database = migrated().await;
    let forbidden = [
        (
            "order_service",
            &[
                "select * from outbox",
                "update outbox set type = 'x'",
                "delete from outbox",
                "update orders set quantity = 1",
                "delete from orders",
                "update inbox set settled_at = now()",
                "delete from inbox",
                "delete from epoch",
                "update dead_letter set value = 'x'",
                "delete from discarded_dead_letter",
                "insert into discarded_dead_letter (discarded_by) values ('postgres')",
                "insert into discarded_dead_letter (discarded_at) values (now())",
                "delete from heartbeat",
                "truncate orders",
                "select * from _outbox_publisher_migrations",
                "delete from _outbox_listener_migrations",
                "create table mine (a integer)",
                "create temporary table mine (a integer)",
                "drop publication outbox",
                "select pg_create_logical_replication_slot('mine', 'pgoutput')",
                "set role order_owner",
            ][..],
        ),
        (
            "order_keeper",
            &[
                "select * from orders",
                "update orders set status = 'rejected'",
                "insert into outbox (id, aggregateid, aggregatetype, type, payload) values (gen_random_uuid(), 'a', 'a', 'a', '{}')",
                "update outbox set type = 'x'",
                "truncate outbox",
                "update inbox set settled_at = now()",
                "delete from dead_letter",
                "delete from outbox_identity",
                "select * from _outbox_publisher_migrations",
                "delete from _outbox_listener_migrations",
                "create table mine (a integer)",
                "select pg_create_logical_replication_slot('mine', 'pgoutput')",
                "set role order_cdc",
            ][..],
        ),
        (
            "order_cdc",
            &[
                "select * from orders",
                "insert into orders select * from orders",
                "insert into outbox (id, aggregateid, aggregatetype, type, payload) values (gen_random_uuid(), 'a', 'a', 'a', '{}')",
                "delete from outbox",
                "select * from inbox",
                "select * from dead_letter",
                "select * from _outbox_publisher_migrations",
                "delete from _outbox_listener_migrations",
                "create table mine (a integer)",
                "create publication mine for table outbox",
                "set role order_owner",
            ][..],
        ),
    ];
    for (role, statements) in forbidden {
        expect::denied(&database, role, statements).await;
    }
    let stranger = PgPool::connect_with(database.options("inventory_worker")).await;
    assert!(
        stranger.is_err(),
        "another context's role does not even connect"
    );
}
