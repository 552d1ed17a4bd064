//! Dead letters: made by a test, listed and discarded as by an operator.

use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};
use stack::testing::Binary;
use uuid::Uuid;

use super::{World, eventually};

/// How long messages may take to become dead letters.
const WITHIN: Duration = Duration::from_secs(30);
/// The estimated price in the messages.
pub(crate) const PRICE: i32 = 6;

impl World {
    /// Runs a service's command `dead-letters`, as an operator does.
    pub(crate) async fn operate(&self, binary: Binary, arguments: &[&str]) -> Output {
        tokio::process::Command::new(self.stack.binaries.join(binary.name()))
            .arg("dead-letters")
            .args(arguments)
            .envs(binary.settings(self.stack))
            .output()
            .await
            .unwrap()
    }

    /// The worker's dead letters of a key, with their kinds, in order.
    pub(crate) async fn dead_letters_of(&self, key: &str) -> Vec<(String, String)> {
        let listed = self
            .operate(Binary::InventoryWorker, &["list", "--key", key, "--json"])
            .await;
        assert!(listed.status.success(), "{listed:?}");
        let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
        assert_eq!(listed["more"], false);
        let dead_letters = listed["dead_letters"].as_array().unwrap();
        let text =
            |dead_letter: &Value, field: &str| dead_letter[field].as_str().unwrap().to_owned();
        dead_letters
            .iter()
            .map(|dead_letter| (text(dead_letter, "id"), text(dead_letter, "kind")))
            .collect()
    }

    /// Waits until the worker's dead letters of a key have exactly these kinds; returns their ids.
    pub(crate) async fn eventually_dead_lettered(&self, key: &str, kinds: &[&str]) -> Vec<String> {
        let mut ids = Vec::new();
        eventually(WITHIN, "the dead letters exist", async || {
            let found = self.dead_letters_of(key).await;
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

/// Messages of one key; the first one is poison.
pub(crate) struct Followed {
    key: String,
    events: [Uuid; 3],
    orders: [Uuid; 3],
}

impl World {
    /// Sends a poison message and two valid ones of the same key.
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

    /// Waits until each message is a dead letter, once and in their order, then discards the first one.
    pub(crate) async fn discard_poison(&self, followed: &Followed) {
        let ids = self
            .eventually_dead_lettered(&followed.key, &["poison", "parked", "parked"])
            .await;
        assert_eq!(ids, followed.events.map(|event| event.to_string()));
        let arguments = ["discard", &ids[0], "--reason", "a test", "--yes"];
        let discarded = self.operate(Binary::InventoryWorker, &arguments).await;
        assert!(discarded.status.success(), "{discarded:?}");
    }

    /// Waits until the key has no dead letter, then asserts that the valid messages were applied, once and in their order.
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

    /// Makes parked dead letters, discards those before them, and so lets the workers retry them.
    pub(crate) async fn retryable_dead_letters(&self, product: Uuid) -> Vec<Followed> {
        let mut retryable = Vec::new();
        for _ in 0..8 {
            let followed = self.send_poison_and_followers(product).await;
            self.discard_poison(&followed).await;
            retryable.push(followed);
        }
        retryable
    }
}

/// The value of an `order.placed` message with an event id of its own.
pub(crate) fn placed(order: Uuid, product: Uuid, quantity: i32) -> String {
    placed_as(Uuid::now_v7(), order, product, quantity)
}

/// The value of an `order.placed` message.
fn placed_as(event: Uuid, order: Uuid, product: Uuid, quantity: i32) -> String {
    json!({ "event_id": event, "order_id": order, "item_id": product, "quantity": quantity,
        "estimated_price": PRICE, "placed_at": "2026-01-02T03:04:05Z" })
    .to_string()
}

/// The headers of an `order.placed` message.
pub(crate) const TYPED: [(&str, &str); 1] = [("event_type", "order.placed")];
