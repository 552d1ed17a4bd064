//! Readiness and metrics: a stopped, lagging or lost part is named, and orders are accepted all the same.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::Duration;

use futures::FutureExt;
use serde_json::Value;
use stack::testing::{Binary, Service};

use crate::world::{World, eventually, execute};

/// How long a service may take to show something.
const WITHIN: Duration = Duration::from_secs(40);

#[tokio::test]
async fn an_order_service_stays_ready_and_warns_while_its_connector_is_stopped() {
    let world = World::alone().await;
    let settings = [
        ("WARNINGS__SLOT_UNREAD_S", "2"),
        ("WARNINGS__SLOT_LAG_BYTES", "20000"),
        ("PENDING__WARN_AFTER_S", "2"),
    ];
    let watching = Service::start(world.stack, Binary::Order, &settings).await;
    world
        .shows(&watching.url, "outbox", "it has read the slot", |shown| {
            shown["backlog"] == 0
        })
        .await;
    world.declare("order-outbox", "stopped").await;
    let product = world.product(5, 200).await;
    world.place_many(100, product, 5).await;
    world.warns(&watching.url, "outbox", "slot unread").await;
    world.warns(&watching.url, "outbox", "slot lag").await;
    world.warns(&watching.url, "orders", "overdue: 100").await;
    world
        .shows(&watching.url, "outbox", "the backlog is known", |shown| {
            shown["backlog"] == 100
        })
        .await;
    for (name, expected) in [
        ("outbox_slot_read{outbox=\"order\"}", 0.0),
        ("outbox_backlog_rows{outbox=\"order\"}", 100.0),
        ("orders_overdue", 100.0),
    ] {
        assert_eq!(
            world.metric(&watching.url, name).await,
            Some(expected),
            "{name}"
        );
    }
    world.declare("order-outbox", "running").await;
    for check in ["outbox", "orders"] {
        world.is_well(&watching.url, check).await;
    }
    world.invariant_holds().await;
}

#[tokio::test]
async fn an_order_service_warns_while_its_connector_is_paused() {
    let world = World::alone().await;
    let settings = [("WARNINGS__SLOT_STALLED_S", "5")];
    let watching = Service::start(world.stack, Binary::Order, &settings).await;
    world.is_well(&watching.url, "outbox").await;
    world.declare("order-outbox", "paused").await;
    // A paused connector keeps its connection to the slot.
    world.warns(&watching.url, "outbox", "slot stalled").await;
    world
        .shows(&watching.url, "outbox", "the slot has a reader", |shown| {
            shown["read"] == true
        })
        .await;
    world.declare("order-outbox", "running").await;
    world.is_well(&watching.url, "outbox").await;
    world.still_flows().await;
}

#[tokio::test]
async fn a_service_that_reaches_no_kafka_stays_ready_and_warns() {
    let world = World::new().await;
    // No process listens at this port.
    let settings = [("KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")];
    let cut_off = Service::start(world.stack, Binary::Order, &settings).await;
    world
        .warns(&cut_off.url, "listener", "reached no Kafka broker")
        .await;
    let (status, _) = world.readiness(&cut_off.url).await;
    assert_eq!(status, 200);
    world.still_flows().await;
}

#[tokio::test]
async fn a_service_without_its_database_is_unready() {
    let world = World::alone().await;
    let set = |statement| execute(&world.inventory_db, statement);
    // For the service, a server that refuses it is like one that is down.
    set("alter role inventory_service nologin").await;
    set("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'inventory_service'").await;
    eventually(
        WITHIN,
        "the inventory service is unready",
        async || match world.readiness(&world.stack.inventory_url).await {
            (503, body) if body["checks"]["database"]["state"] == "failing" => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await;
    set("alter role inventory_service login").await;
    eventually(WITHIN, "it is ready again", async || {
        match world.readiness(&world.stack.inventory_url).await {
            (200, _) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    world.still_flows().await;
}

#[tokio::test]
async fn a_blocked_worker_shows_its_lag_and_the_reason() {
    let world = World::alone().await;
    let product = world.product(5, 200).await;
    let mut holder = world.hold(&[product]).await;
    let orders = world.place_many(120, product, 5).await;
    world.worker_is_held(&mut holder, &orders).await;
    let worker = &world.stack.worker_url;
    world
        .shows(
            worker,
            "listener",
            "its lag counts the waiting orders",
            |shown| shown["lag"] == 120,
        )
        .await;
    // Its lock time-out is 5 s.
    world.warns(worker, "listener", "retrying a batch").await;
    let retries = "outbox_listener_retries_total{listener=\"inventory-worker\"}";
    assert!(world.metric(worker, retries).await >= Some(1.0));
    holder.rollback().await.unwrap();
    world.is_well(worker, "listener").await;
    world
        .shows(worker, "listener", "no order waits", |shown| {
            shown["lag"] == 0
        })
        .await;
    for histogram in [
        "outbox_listener_batch_messages_count",
        "outbox_listener_handler_seconds_count",
        "outbox_listener_transaction_seconds_count",
    ] {
        let name = format!("{histogram}{{listener=\"inventory-worker\"}}");
        assert!(world.metric(worker, &name).await >= Some(1.0), "{name}");
    }
    world.invariant_holds().await;
}

/// During a deployment, a grant may come later than the worker that needs it.
#[tokio::test]
async fn a_worker_that_lacks_a_grant_retries_until_it_has_it() {
    let world = World::alone().await;
    let worker = &world.stack.worker_url;
    let listener = async || world.readiness(worker).await.1["checks"]["listener"].clone();
    let product = world.product(5, 200).await;
    let mut holder = world.hold(&[product]).await;
    let orders = world.place_many(120, product, 5).await;
    let undecided = world.worker_is_held(&mut holder, &orders).await;
    let set = |statement| execute(&world.inventory_db, statement);
    set("revoke insert on reservations from inventory_worker").await;
    holder.rollback().await.unwrap();
    let before = listener().await;
    let retrying = async {
        let retries = before["retries"].as_u64().unwrap();
        world
            .shows(worker, "listener", "it retries repeatedly", |shown| {
                // One of the retries may have waited for the product's lock.
                shown["retries"].as_u64() >= Some(retries + 3) && shown["retrying"] == "transient"
            })
            .await;
        assert_eq!(listener().await["dead_lettered"], before["dead_lettered"]);
        assert_eq!(world.undecided(&orders).await, undecided);
    };
    let retried = AssertUnwindSafe(retrying).catch_unwind().await;
    set("grant insert on reservations to inventory_worker").await;
    retried.unwrap_or_else(|panic| resume_unwind(panic));
    world.is_well(worker, "listener").await;
    world.invariant_holds().await;
    assert_eq!(listener().await["dead_lettered"], before["dead_lettered"]);
}

#[tokio::test]
async fn two_workers_share_the_work() {
    let world = World::alone().await;
    let second = Service::start(world.stack, Binary::InventoryWorker, &[]).await;
    let held = |shown: &Value| shown["partitions"] == 3;
    for url in [&world.stack.worker_url, &second.url] {
        world
            .shows(url, "listener", "it holds half of the partitions", held)
            .await;
    }
    let product = world.product(5, 1_000).await;
    let before = world.readiness(&world.stack.worker_url).await.1;
    world.place_many(300, product, 5).await;
    world.invariant_holds().await;
    let after = world.readiness(&world.stack.worker_url).await.1;
    let settled = |body: &Value| body["checks"]["listener"]["settled"].as_i64().unwrap();
    let by_first = settled(&after) - settled(&before);
    let by_second = settled(&world.readiness(&second.url).await.1);
    assert!(
        by_first > 50 && by_second > 50,
        "{by_first} and {by_second}"
    );
    assert_eq!(by_first + by_second, 300);
    assert!(second.terminate().success());
    world.still_flows().await;
}

#[tokio::test]
async fn a_changed_database_is_a_warning_until_an_operator_accepts_it() {
    let world = World::alone().await;
    sqlx::query("update outbox_identity set system_identifier = 1")
        .execute(&world.order_db)
        .await
        .unwrap();
    let order = &world.stack.order_url;
    world.warns(order, "outbox", "another server").await;
    world
        .shows(order, "outbox", "nothing is removed", |shown| {
            shown["removal_held"] == "the database has changed"
        })
        .await;
    let accepted = std::process::Command::new(world.stack.binaries.join("order"))
        .arg("accept-database")
        .envs(Binary::Order.settings(world.stack))
        .status()
        .unwrap();
    assert!(accepted.success());
    world.is_well(order, "outbox").await;
    world.still_flows().await;
}

/// The server invalidates a slot that would need more log than `max_slot_wal_keep_size`. Debezium does not recreate it, and
/// only a superuser or the slot's own role may drop it.
#[tokio::test]
async fn a_lost_slot_is_a_warning_with_the_statement_that_helps() {
    let world = World::alone().await;
    let product = world.product(5, 200).await;
    world.declare("order-outbox", "stopped").await;
    let orders = world.place_many(100, product, 5).await;
    let set = |statement| execute(&world.order_db, statement);
    set("alter system set max_slot_wal_keep_size = '16MB'").await;
    set("select pg_reload_conf()").await;
    eventually(WITHIN, "the slot is lost", async || {
        set("select pg_logical_emit_message(true, 'filler', repeat('x', 1000)), pg_switch_wal()")
            .await;
        set("checkpoint").await;
        let status: Option<String> = sqlx::query_scalar(
            "select wal_status from pg_replication_slots where slot_name = 'order_outbox'",
        )
        .fetch_one(&world.order_db)
        .await
        .unwrap();
        if status.as_deref() == Some("lost") {
            Ok(())
        } else {
            Err(format!("{status:?}"))
        }
    })
    .await;
    world
        .warns(&world.stack.order_url, "outbox", "slot lost (wal_removed)")
        .await;
    set("alter system reset max_slot_wal_keep_size").await;
    set("select pg_reload_conf()").await;
    assert_eq!(world.unsettled(&orders).await, 100);
    // The statement that the warning names.
    set("select pg_drop_replication_slot('order_outbox')").await;
    world.declare("order-outbox", "running").await;
    world.all_settled(Duration::from_secs(90), &orders).await;
    world.is_well(&world.stack.order_url, "outbox").await;
    world.invariant_holds().await;
}
