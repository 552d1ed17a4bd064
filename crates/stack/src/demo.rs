//! The demo: four real orders, and for each what happened where, and when.

mod seen;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::types::chrono::{DateTime, Utc};
use sqlx::{ConnectOptions, PgConnection};
use uuid::Uuid;

use seen::{carried, event, facts, fell, kafka_time, settled_at};

use crate::background::{self, Found};
use crate::description::Description;
use crate::home::command;
use crate::say;
use crate::session::Home;
use crate::stack::interrupted;
use crate::topic::{self, Carried};

/// How long an order may take to learn its outcome.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);

/// The demo's result, on standard output.
macro_rules! show {
    ($($what:tt)*) => {{
        println!($($what)*);
    }};
}

/// Runs the demo, on the stack that is up or on one of its own; without `once` it stays until Ctrl-C.
///
/// # Errors
/// The first thing that is not as it should be.
pub async fn run(home: &Home, once: bool) -> Result<()> {
    match background::status(home)? {
        Found::Nothing => {}
        Found::NotReady => bail!(
            "the stack is just starting or stopping; try again in a moment, or stop it with `{} down`",
            command()
        ),
        Found::Up(stack) => {
            prove(&stack).await?;
            show!(
                "\nThe stack was up before and stays up; `{} down` stops it.",
                command()
            );
            return Ok(());
        }
    }
    let (stack, _lock) = home.start().await?;
    let stop = interrupted()?;
    let outcome = tokio::select! {
        outcome = prove(stack.description()) => outcome,
        () = stop => Err(anyhow::anyhow!("interrupted")),
    };
    if let Ok(order) = &outcome
        && !once
    {
        show!("{}", invitation(stack.description(), *order));
        interrupted()?.await;
    }
    stack.stop().await;
    say!("everything is stopped");
    outcome.map(drop)
}

fn invitation(stack: &Description, order: Uuid) -> String {
    let Description {
        order_url,
        inventory_url,
        connect_url,
        ..
    } = stack;
    let body = json!({ "product_id": "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "estimated_price": 25, "quantity": 1 });
    format!(
        "\nEverything stays up until Ctrl-C:\n{}\n\nTry:\n  curl -s {inventory_url}/products\n  \
         curl -s -X POST {order_url}/orders -H 'content-type: application/json' -d '{body}'\n  \
         curl -s {order_url}/orders/{order}\n  \
         curl -s {connect_url}/connectors/order-outbox/status",
        stack.addresses(),
    )
}

/// A product as the Inventory Service shows it.
#[derive(Debug, Clone, Deserialize)]
struct Product {
    id: Uuid,
    name: String,
    price: i64,
    stock: i64,
}

/// What is ordered, and what must come of it.
struct Case {
    title: String,
    product: Uuid,
    price: i64,
    quantity: i64,
    reason: Option<&'static str>,
}

struct Demo<'a> {
    stack: &'a Description,
    http: reqwest::Client,
    order_db: PgConnection,
    inventory_db: PgConnection,
}

/// Places the orders, and returns the one that was confirmed.
async fn prove(stack: &Description) -> Result<Uuid> {
    let mut demo = Demo {
        stack,
        http: reqwest::Client::builder()
            .no_proxy()
            .timeout(SETTLED_WITHIN)
            .build()?,
        order_db: stack.order_db.superuser().connect().await?,
        inventory_db: stack.inventory_db.superuser().connect().await?,
    };
    let products = demo.products().await?;
    let Product {
        id,
        name,
        price,
        stock,
    } = products
        .into_iter()
        .max_by_key(|product| product.stock)
        .with_context(|| {
            format!(
                "there are no products; `{} down --clean` brings them back",
                command()
            )
        })?;
    ensure!(
        stock >= 2,
        "everything is sold; `{} down --clean` refills the stock",
        command()
    );
    let cases = [
        Case {
            title: format!("2 x {name}, at its price, from a stock of {stock}"),
            product: id,
            price,
            quantity: 2,
            reason: None,
        },
        Case {
            title: format!("{} x {name}: more than there are", stock + 1),
            product: id,
            price,
            quantity: stock + 1,
            reason: Some("insufficient_stock"),
        },
        Case {
            title: format!("1 x {name}, at a price that it no longer has"),
            product: id,
            price: price + 1,
            quantity: 1,
            reason: Some("price_mismatch"),
        },
        Case {
            title: "1 x a product that nobody knows".to_owned(),
            product: Uuid::now_v7(),
            price: 1,
            quantity: 1,
            reason: Some("product_not_found"),
        },
    ];
    let mut orders = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        show!("\n{}. {}", number + 1, case.title);
        let played = demo.play(case).await;
        orders.push(played.with_context(|| format!("order {} ({})", number + 1, case.title))?);
    }
    show!(
        "\nAll true: one order decreased the stock, three did not, and every order learnt its outcome."
    );
    Ok(orders[0])
}

impl Demo<'_> {
    async fn products(&self) -> Result<Vec<Product>> {
        let url = format!("{}/products", self.stack.inventory_url);
        Ok(self
            .http
            .get(url)
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?)
    }

    async fn stock(&self, product: Uuid) -> Result<Option<i64>> {
        let products = self.products().await?;
        Ok(products
            .iter()
            .find(|shown| shown.id == product)
            .map(|shown| shown.stock))
    }

    async fn play(&mut self, case: &Case) -> Result<Uuid> {
        let before = self.stock(case.product).await?;
        let began = Utc::now();
        let sent = Instant::now();
        let order = self.place(case).await?;
        let answered = sent.elapsed();
        let shown = self.settled(order).await?;

        let placed = event(&mut self.order_db, order).await?;
        let outcome = event(&mut self.inventory_db, order).await?;
        let placed_message = self.message("order", order, placed.id, began).await?;
        let outcome_message = self
            .message("reservation", order, outcome.id, began)
            .await?;
        let decided = settled_at(&mut self.inventory_db, placed.id).await?;
        let learnt = settled_at(&mut self.order_db, outcome.id).await?;
        let after = self.stock(case.product).await?;

        let mut clock = Clock { began, last: began };
        let answered = began + answered;
        clock.tick(
            answered,
            &format!("201: order {order} is in order_db, with its event"),
        );
        clock.tick(
            kafka_time(&placed_message),
            &carried("order", &placed, &placed_message),
        );
        clock.tick(
            decided,
            &format!("inventory has decided; stock {}", fell(before, after)),
        );
        clock.tick(
            kafka_time(&outcome_message),
            &carried("reservation", &outcome, &outcome_message),
        );
        let facts = facts(&shown);
        clock.tick(
            learnt,
            &format!(
                "the order is {}{facts}",
                shown["status"].as_str().unwrap_or_default()
            ),
        );

        let reason = shown["reason"].as_str();
        let status = if case.reason.is_none() {
            "confirmed"
        } else {
            "rejected"
        };
        ensure!(
            shown["status"] == status && reason == case.reason,
            "expected {status} {:?}, got {shown}",
            case.reason
        );
        let taken = if case.reason.is_none() {
            case.quantity
        } else {
            0
        };
        ensure!(
            after == before.map(|before| before - taken),
            "the stock is {after:?} after {before:?}"
        );
        Ok(order)
    }

    async fn place(&self, case: &Case) -> Result<Uuid> {
        let body = json!({ "product_id": case.product, "estimated_price": case.price, "quantity": case.quantity });
        let answer = self
            .http
            .post(format!("{}/orders", self.stack.order_url))
            .json(&body)
            .send()
            .await?;
        let status = answer.status();
        let answer: Value = answer.json().await?;
        ensure!(
            status.as_u16() == 201,
            "POST /orders answers {status}: {answer}"
        );
        let id = answer["id"].as_str().context("the answer has no id")?;
        Ok(id.parse()?)
    }

    async fn settled(&self, order: Uuid) -> Result<Value> {
        let asked = Instant::now();
        let url = format!("{}/orders/{order}", self.stack.order_url);
        loop {
            let shown: Value = self
                .http
                .get(&url)
                .send()
                .await?
                .error_for_status()?
                .json()
                .await?;
            if shown["status"] != "pending" {
                return Ok(shown);
            }
            if asked.elapsed() > SETTLED_WITHIN {
                bail!(
                    "the order is still pending after {SETTLED_WITHIN:?}; see {}",
                    self.stack.logs.display()
                );
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn message(
        &self,
        topic: &'static str,
        order: Uuid,
        event: Uuid,
        since: DateTime<Utc>,
    ) -> Result<Carried> {
        let kafka = self.stack.kafka.clone();
        // A second of grace: the broker's clock may lag by the last tick.
        let since = since.timestamp_millis() - 1000;
        let messages =
            tokio::task::spawn_blocking(move || topic::since(&kafka, topic, since)).await??;
        let (key, id) = (order.to_string(), event.to_string());
        messages
            .into_iter()
            .find(|message| message.key == key && message.id() == Some(&id))
            .with_context(|| format!("topic {topic} carries no message with key {key} and id {id}"))
    }
}

/// Shows when a hop ended, since the order was sent, and how long it took.
struct Clock {
    began: DateTime<Utc>,
    last: DateTime<Utc>,
}

impl Clock {
    fn tick(&mut self, at: DateTime<Utc>, what: &str) {
        // Kafka's clock counts whole milliseconds, so a hop may seem to end before it began.
        let at = at.max(self.last);
        #[expect(clippy::cast_precision_loss, reason = "milliseconds for people")]
        let millis = |from: DateTime<Utc>| {
            (at - from).num_microseconds().unwrap_or_default() as f64 / 1000.0
        };
        show!(
            "   {:>7.1} ms  (+{:.1})  {what}",
            millis(self.began),
            millis(self.last)
        );
        self.last = at;
    }
}
