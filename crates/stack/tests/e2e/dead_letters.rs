//! Dead letters on the whole stack: what waits behind one, the commands over them, and what is tried again by itself.

use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};
use stack::testing::{Binary, Service};
use uuid::Uuid;

use crate::world::{World, eventually};

const WITHIN: Duration = Duration::from_secs(30);
pub(crate) const PRICE: i32 = 6;

impl World {
    /// Runs a service's command over its dead letters, as an operator does.
    async fn operate(&self, binary: Binary, arguments: &[&str]) -> Output {
        tokio::process::Command::new(self.stack.binaries.join(binary.name()))
            .arg("dead-letters")
            .args(arguments)
            .envs(binary.settings(self.stack))
            .output()
            .await
            .unwrap()
    }

    /// Events of a key among the worker's dead letters, with their kinds, in order.
    async fn move_to_dead_letter(&self, key: &str) -> Vec<(String, String)> {
        let listed = self
            .operate(Binary::InventoryWorker, &["list", "--key", key, "--json"])
            .await;
        assert!(listed.status.success(), "{listed:?}");
        let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
        assert_eq!(listed["more"], false);
        let dead_letters = listed["dead-letters"].as_array().unwrap();
        let text =
            |dead_letter: &Value, field: &str| dead_letter[field].as_str().unwrap().to_owned();
        dead_letters
            .iter()
            .map(|dead_letter| (text(dead_letter, "id"), text(dead_letter, "kind")))
            .collect()
    }

    async fn eventually_dead_lettered(&self, key: &str, kinds: &[&str]) -> Vec<String> {
        let mut ids = Vec::new();
        eventually(WITHIN, "the dead letters are there", async || {
            let found = self.move_to_dead_letter(key).await;
            let (found, all): (Vec<String>, Vec<String>) = found.into_iter().unzip();
            ids = found;
            if all == kinds {
                Ok(())
            } else {
                Err(format!("{all:?}"))
            }
        })
        .await;
        ids
    }
}

/// Messages of one key, the first of which can never be applied.
pub(crate) struct Followed {
    key: String,
    events: [Uuid; 3],
    orders: [Uuid; 3],
}

impl World {
    pub(crate) async fn send_poison_and_followers(&self, product: Uuid) -> Followed {
        let ids = || [(); 3].map(|()| Uuid::now_v7());
        let (key, events, orders) = (Uuid::now_v7().to_string(), ids(), ids());
        for (index, quantity) in [0, 1, 1].into_iter().enumerate() {
            let value = placed_as(events[index], orders[index], product, quantity);
            self.produce("order", Some(&key), Some(value.as_bytes()), &TYPED)
                .await;
        }
        Followed {
            key,
            events,
            orders,
        }
    }

    /// Waits until each of them is a dead letter, once and in their order, then gives the first one up.
    pub(crate) async fn discard_poison(&self, followed: &Followed) {
        let ids = self
            .eventually_dead_lettered(&followed.key, &["poison", "parked", "parked"])
            .await;
        assert_eq!(ids, followed.events.map(|event| event.to_string()));
        let arguments = ["discard", &ids[0], "--reason", "a test", "--yes"];
        let dropped = self.operate(Binary::InventoryWorker, &arguments).await;
        assert!(dropped.status.success(), "{dropped:?}");
    }

    /// Waits until no dead letter of the key is left, then asserts that what followed was applied, once and in its order.
    pub(crate) async fn followers_are_applied(&self, followed: &Followed) {
        self.eventually_dead_lettered(&followed.key, &[]).await;
        let orders = followed.orders.map(|order| order.to_string());
        let outcomes: Vec<String> = sqlx::query_scalar(
            "select aggregateid from outbox where aggregatetype = 'reservation' and aggregateid = any($1) order by seq",
        )
        .bind(&orders[..])
        .fetch_all(&self.inventory_db)
        .await
        .unwrap();
        assert_eq!(outcomes, orders[1..]);
    }

    /// Makes dead letters that waiting workers are to try: parked ones whose first dead letter is given up.
    pub(crate) async fn dead_letters_are_due(&self, product: Uuid) -> Vec<Followed> {
        let mut due = Vec::new();
        for _ in 0..8 {
            let followed = self.send_poison_and_followers(product).await;
            self.discard_poison(&followed).await;
            due.push(followed);
        }
        due
    }
}

fn placed(order: Uuid, product: Uuid, quantity: i32) -> String {
    placed_as(Uuid::now_v7(), order, product, quantity)
}

fn placed_as(event: Uuid, order: Uuid, product: Uuid, quantity: i32) -> String {
    json!({ "event_id": event, "order_id": order, "item_id": product, "quantity": quantity,
        "estimated_price": PRICE, "placed_at": "2026-01-02T03:04:05Z" })
    .to_string()
}

const TYPED: [(&str, &str); 1] = [("event_type", "order.placed")];

#[tokio::test]
async fn what_waits_behind_a_dead_letter_is_applied_once_an_operator_discards_the_dead_letter() {
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
    let waiting = r#"outbox_listener_dead_letters{listener="inventory-worker",kind="parked"}"#;
    eventually(WITHIN, "the numbers tell of them", async || {
        // Other tests have some too.
        let parked = world.number(&world.stack.worker_url, waiting).await;
        match parked {
            Some(2.0..) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    // Others are not held up.
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
    let told: Value = serde_json::from_slice(&dry.stdout).unwrap();
    let tries = told["dead-letters"].as_array().unwrap().iter();
    let tries: Vec<&str> = tries.map(|it| it["id"].as_str().unwrap()).collect();
    assert_eq!(
        (tries, &told["more"]),
        (vec![&*ids[0], &*ids[1], &*ids[2]], &json!(false))
    );
    // It fails as before, and says so to scripts.
    let redriven = world.operate(worker, &["redrive", &ids[2], "--json"]).await;
    assert_eq!(redriven.status.code(), Some(3), "{redriven:?}");
    let told: Value = serde_json::from_slice(&redriven.stdout).unwrap();
    assert_eq!(
        (&told["applied"], &told["failed"][0]["id"]),
        (&json!([]), &json!(ids[0]))
    );
    assert_eq!(told["failed"][0]["attempts"], 2);

    let refused = world
        .operate(worker, &["discard", &ids[0], "--reason", "a test"])
        .await;
    assert_eq!(refused.status.code(), Some(1), "nobody can be asked");
    assert!(String::from_utf8(refused.stderr).unwrap().contains("--yes"));
    let dry = world
        .operate(
            worker,
            &["discard", &ids[0], "--reason", "a test", "--dry-run"],
        )
        .await;
    assert!(dry.status.success());
    assert_eq!(world.move_to_dead_letter(&key).await.len(), 3);
    let dropped = world
        .operate(worker, &["discard", &ids[0], "--reason", "a test", "--yes"])
        .await;
    assert!(dropped.status.success(), "{dropped:?}");
    // The running worker does the rest.
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
async fn dead_letters_that_are_discarded_together_are_applied_by_nobody() {
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
    // The worker looks for what is due twice a second: dropping so many takes longer.
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
    let dropped = operate("501").await;
    let told: Value = serde_json::from_slice(&dropped.stdout).unwrap();
    assert_eq!(told["gone"], json!([]), "{}", dropped.status);
    assert!(dropped.status.success(), "{}", dropped.status);
    assert_eq!(told["dropped"].as_array().unwrap().len(), 501);
    let dead_letters = "select count(*) from dead_letter where key = convert_to($1, 'UTF8')";
    let given_up = "select count(*) from discarded_dead_letter where key = convert_to($1, 'UTF8')";
    assert_eq!((count(dead_letters).await, count(given_up).await), (0, 501));
    // What comes later of the key is applied, and nothing of it was before.
    let value = placed(Uuid::now_v7(), product, 2);
    world
        .produce("order", Some(&key), Some(value.as_bytes()), &TYPED)
        .await;
    eventually(WITHIN, "the key is free", async || {
        let stock = world.stock(product).await;
        (stock < 1000).then_some(()).ok_or(stock.to_string())
    })
    .await;
    assert_eq!(world.stock(product).await, 998);
}

#[tokio::test]
async fn an_outcome_that_overtakes_its_order_is_tried_by_itself_until_the_order_is_there() {
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
    // Others are not held up meanwhile.
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
    // Another test's listener may have been the one to settle it; then the dead letter goes with its next try.
    eventually(
        Duration::from_secs(60),
        "the dead letter is gone",
        async || kind().await.map_or(Ok(()), Err),
    )
    .await;
}

/// By a listener of its own: others are to go on.
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
    assert_eq!(world.number(url, &gauge).await, Some(1.0));
    tokio::time::sleep(Duration::from_secs(3)).await;
    // What is tried then is a dead letter, too: the next pause is twice as long.
    send(Uuid::now_v7(), 0).await;
    let probed = |shown: &Value| shown["dead_lettered"] == 4;
    world.shows(url, "listener", "one is tried", probed).await;
    world.warns(url, "listener", open).await;
    let orders = [(); 5].map(|()| Uuid::now_v7());
    for order in orders {
        send(order, 1).await;
    }
    world
        .shows(url, "listener", "all that waited is applied", |shown| {
            shown["settled"] == 9 && shown["state"] == "ok" && shown["lag"] == 0
        })
        .await;
    assert_eq!(world.undecided(&orders).await, 0);
    assert_eq!(world.number(url, &gauge).await, Some(0.0));
    let rests: bool = sqlx::query_scalar(
        "select min(settled_at) - (select max(dead_lettered_at) from dead_letter where listener = $1) >= '6 s'
         from inbox where listener = $1 and id <> all (select id from dead_letter where listener = $1)",
    )
    .bind(&name)
    .fetch_one(&world.inventory_db)
    .await
    .unwrap();
    assert!(rests, "a message was tried during the pause");
    let (_, shown) = world.readiness(url).await;
    let shown = &shown["checks"]["listener"];
    // What waited for the breaker has not failed.
    assert_eq!(
        (&shown["dead_lettered"], &shown["retries"]),
        (&json!(4), &json!(0)),
        "{shown}"
    );
    assert!(worker.terminate().success());
}
