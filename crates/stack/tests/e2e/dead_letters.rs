//! Dead letters on the whole stack: parked messages, the operator's commands, automatic retries, the circuit breaker.

use std::time::Duration;

use serde_json::{Value, json};
use stack::testing::{Binary, Service};
use uuid::Uuid;

use crate::world::dead_letters::{PRICE, TYPED, placed};
use crate::world::{World, eventually};

const WITHIN: Duration = Duration::from_secs(30);

#[tokio::test]
async fn parked_messages_are_applied_once_an_operator_discards_the_dead_letter_before_them() {
    let world = World::new().await;
    let product = world.product(PRICE, 10).await;
    let key = Uuid::now_v7().to_string();
    for quantity in [0, 3, 4] {
        let value = placed(Uuid::now_v7(), product, quantity);
        world
            .produce("order", Some(&key), Some(value.as_bytes()), &TYPED)
            .await;
    }
    let ids = world
        .eventually_dead_lettered(&key, &["poison", "parked", "parked"])
        .await;
    let parked_letters =
        r#"outbox_listener_dead_letters{listener="inventory-worker",kind="parked"}"#;
    eventually(WITHIN, "the metric counts them", async || {
        // Other tests may have some too.
        let parked = world.metric(&world.stack.worker_url, parked_letters).await;
        match parked {
            Some(2.0..) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    // Other keys flow.
    let other = world.place(product, PRICE, 1).await;
    assert_eq!(world.settled(other).await["status"], "confirmed");
    assert_eq!(world.stock(product).await, 9);

    let worker = Binary::InventoryWorker;
    let shown = world.operate(worker, &["show", &ids[0]]).await;
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(
        text.contains("poison") && text.contains("topic order"),
        "{text}"
    );
    let dry = world
        .operate(worker, &["redrive", &ids[2], "--dry-run", "--json"])
        .await;
    assert!(dry.status.success(), "{dry:?}");
    let report: Value = serde_json::from_slice(&dry.stdout).unwrap();
    let attempted = report["dead_letters"].as_array().unwrap().iter();
    let attempted: Vec<&str> = attempted.map(|it| it["id"].as_str().unwrap()).collect();
    assert_eq!(
        (attempted, &report["more"]),
        (vec![&*ids[0], &*ids[1], &*ids[2]], &json!(false))
    );
    // It fails as before; the exit code says so.
    let redriven = world.operate(worker, &["redrive", &ids[2], "--json"]).await;
    assert_eq!(redriven.status.code(), Some(3), "{redriven:?}");
    let report: Value = serde_json::from_slice(&redriven.stdout).unwrap();
    assert_eq!(
        (&report["applied"], &report["failed"][0]["id"]),
        (&json!([]), &json!(ids[0]))
    );
    assert_eq!(report["failed"][0]["attempts"], 2);

    let refused = world
        .operate(worker, &["discard", &ids[0], "--reason", "a test"])
        .await;
    assert_eq!(
        refused.status.code(),
        Some(1),
        "there is no terminal for the question"
    );
    assert!(String::from_utf8(refused.stderr).unwrap().contains("--yes"));
    let dry = world
        .operate(
            worker,
            &["discard", &ids[0], "--reason", "a test", "--dry-run"],
        )
        .await;
    assert!(dry.status.success());
    assert_eq!(world.dead_letters_of(&key).await.len(), 3);
    let discarded = world
        .operate(worker, &["discard", &ids[0], "--reason", "a test", "--yes"])
        .await;
    assert!(discarded.status.success(), "{discarded:?}");
    // The running worker applies the parked ones.
    world.eventually_dead_lettered(&key, &[]).await;
    assert_eq!(world.stock(product).await, 2);
    let recorded: (String, String) = sqlx::query_as(
        "select reason, discarded_by::text from discarded_dead_letter where id = $1::uuid",
    )
    .bind(&ids[0])
    .fetch_one(&world.inventory_db)
    .await
    .unwrap();
    assert_eq!(
        recorded,
        ("a test".to_owned(), "inventory_worker".to_owned())
    );
    let none = world.operate(worker, &["show", &ids[0]]).await;
    assert_eq!(none.status.code(), Some(3));
}

#[tokio::test]
async fn dead_letters_that_are_discarded_together_are_never_applied() {
    let world = World::new().await;
    let product = world.product(PRICE, 1000).await;
    let key = Uuid::now_v7().to_string();
    for quantity in [0, 1] {
        let value = placed(Uuid::now_v7(), product, quantity);
        world
            .produce("order", Some(&key), Some(value.as_bytes()), &TYPED)
            .await;
    }
    let ids = world
        .eventually_dead_lettered(&key, &["poison", "parked"])
        .await;
    // The worker polls for parked dead letters twice a second; discarding so many takes longer.
    sqlx::query(
        r#"insert into dead_letter (listener, id, kind, error, topic, partition, "offset", key, header_names, header_values, value)
           select listener, gen_random_uuid(), kind, error, topic, partition, "offset", key, header_names, header_values, value
           from dead_letter, generate_series(1, 499) where id = $1::uuid"#,
    )
    .bind(&ids[1])
    .execute(&world.inventory_db)
    .await
    .unwrap();
    let count = async |counted: &'static str| -> i64 {
        sqlx::query_scalar(counted)
            .bind(&key)
            .fetch_one(&world.inventory_db)
            .await
            .unwrap()
    };
    let worker = Binary::InventoryWorker;
    let arguments = [
        "discard", "--key", &key, "--reason", "a test", "--yes", "--json", "--most",
    ];
    let operate = async |most| {
        world
            .operate(worker, &[&arguments[..], &[most]].concat())
            .await
    };
    let refused = operate("500").await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let why = String::from_utf8(refused.stderr).unwrap();
    assert!(why.contains("raise --most"), "{why}");
    let discarded = operate("501").await;
    let report: Value = serde_json::from_slice(&discarded.stdout).unwrap();
    assert_eq!(report["gone"], json!([]), "{}", discarded.status);
    assert!(discarded.status.success(), "{}", discarded.status);
    assert_eq!(report["discarded"].as_array().unwrap().len(), 501);
    let dead_letters = "select count(*) from dead_letter where key = convert_to($1, 'UTF8')";
    let discarded = "select count(*) from discarded_dead_letter where key = convert_to($1, 'UTF8')";
    assert_eq!(
        (count(dead_letters).await, count(discarded).await),
        (0, 501)
    );
    // A later message of the key is applied, and none was applied before it.
    let value = placed(Uuid::now_v7(), product, 2);
    world
        .produce("order", Some(&key), Some(value.as_bytes()), &TYPED)
        .await;
    eventually(WITHIN, "the key is not blocked", async || {
        let stock = world.stock(product).await;
        (stock < 1000).then_some(()).ok_or(stock.to_string())
    })
    .await;
    assert_eq!(world.stock(product).await, 998);
}

#[tokio::test]
async fn an_outcome_that_overtakes_its_order_is_retried_automatically_until_the_order_exists() {
    let world = World::new().await;
    let (order, product) = (Uuid::now_v7(), Uuid::now_v7());
    let outcome = json!({ "event_id": Uuid::now_v7(), "order_id": order, "reservation_id": Uuid::now_v7(),
        "product_id": product, "quantity": 1, "price": PRICE, "reserved_at": "2026-01-02T03:04:05Z" });
    let typed = [("event_type", "reservation.placed")];
    world
        .produce(
            "reservation",
            Some(&order.to_string()),
            Some(outcome.to_string().as_bytes()),
            &typed,
        )
        .await;
    let kind = async || -> Option<String> {
        sqlx::query_scalar("select kind from dead_letter where listener = 'order' and key = convert_to($1, 'UTF8')")
            .bind(order.to_string())
            .fetch_optional(&world.order_db)
            .await
            .unwrap()
    };
    eventually(WITHIN, "it is deferred", async || {
        match kind().await.as_deref() {
            Some("deferred") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    // Other keys flow meanwhile.
    world.still_flows().await;
    sqlx::query("insert into orders (id, product_id, quantity, estimated_price, placed_at) values ($1, $2, 1, $3, now())")
        .bind(order)
        .bind(product)
        .bind(PRICE)
        .execute(&world.order_db)
        .await
        .unwrap();
    let settled = world.settled(order).await;
    assert_eq!(settled["status"], "confirmed", "{settled}");
    // Another test's listener may have settled it; then the dead letter goes with its next retry.
    eventually(
        Duration::from_secs(60),
        "the dead letter is gone",
        async || kind().await.map_or(Ok(()), Err),
    )
    .await;
}

/// With a listener of its own, since an open breaker stops a whole listener.
#[tokio::test]
async fn a_burst_of_dead_letters_opens_the_circuit_breaker_until_a_message_is_applied() {
    let world = World::new().await;
    let product = world.product(PRICE, 100).await;
    let name = format!("breaker-{}", Uuid::now_v7().simple());
    world.create_topic(&name).await;
    let topics = format!("[{name}]");
    let settings = [
        ("KAFKA__TOPICS", topics.as_str()),
        ("KAFKA__GROUP", &name),
        ("KAFKA__NAME", &name),
        ("KAFKA__BREAKER__MAX_DEAD_LETTERS", "3"),
        ("KAFKA__BREAKER__PAUSE_S", "3"),
    ];
    let worker = Service::start(world.stack, Binary::InventoryWorker, &settings).await;
    let url = &worker.url;
    let send = async |order: Uuid, quantity: i32| {
        let value = placed(order, product, quantity);
        let key = Some(order.to_string());
        world
            .produce(&name, key.as_deref(), Some(value.as_bytes()), &TYPED)
            .await;
    };
    let gauge = format!("outbox_listener_breaker_open{{listener=\"{name}\"}}");
    let open = "the circuit breaker is open";

    for _ in 0..3 {
        send(Uuid::now_v7(), 0).await;
    }
    world.warns(url, "listener", open).await;
    assert_eq!(world.metric(url, &gauge).await, Some(1.0));
    tokio::time::sleep(Duration::from_secs(3)).await;
    // The message that the half-open breaker permits fails too, so the next pause is twice as long.
    send(Uuid::now_v7(), 0).await;
    let probed = |shown: &Value| shown["dead_lettered"] == 4;
    world
        .shows(url, "listener", "one message is attempted", probed)
        .await;
    world.warns(url, "listener", open).await;
    let orders = [(); 5].map(|()| Uuid::now_v7());
    for order in orders {
        send(order, 1).await;
    }
    world
        .shows(
            url,
            "listener",
            "all waiting messages are applied",
            |shown| shown["settled"] == 9 && shown["state"] == "ok" && shown["lag"] == 0,
        )
        .await;
    assert_eq!(world.undecided(&orders).await, 0);
    assert_eq!(world.metric(url, &gauge).await, Some(0.0));
    let paused: bool = sqlx::query_scalar(
        "select min(settled_at) - (select max(dead_lettered_at) from dead_letter where listener = $1) >= '6 s'
         from inbox where listener = $1 and id <> all (select id from dead_letter where listener = $1)",
    )
    .bind(&name)
    .fetch_one(&world.inventory_db)
    .await
    .unwrap();
    assert!(paused, "the listener attempted a message during the pause");
    let (_, shown) = world.readiness(url).await;
    let shown = &shown["checks"]["listener"];
    // Waiting for the breaker is not a failure.
    assert_eq!(
        (&shown["dead_lettered"], &shown["retries"]),
        (&json!(4), &json!(0)),
        "{shown}"
    );
    assert!(worker.terminate().success());
}
