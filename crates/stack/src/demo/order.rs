//! One order of the demo: placed, followed through every step, checked.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::types::chrono::{DateTime, Utc};
use sqlx::{ConnectOptions, PgConnection};
use uuid::Uuid;

use super::clock::Clock;
use super::seen::{carried, event, facts, fell, kafka_time, settled_at};
use crate::description::Description;
use crate::topic::{self, Carried};

/// How long an order may take to reach its outcome.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);

/// A product as the Inventory Service shows it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Product {
    pub(super) id: Uuid,
    pub(super) name: String,
    pub(super) price: i64,
    pub(super) stock: i64,
}

/// An order and its expected outcome.
pub(super) struct Case {
    pub(super) title: String,
    pub(super) product: Uuid,
    pub(super) price: i64,
    pub(super) quantity: i64,
    /// The expected reason of a rejection; `None` if the order must be confirmed.
    pub(super) reason: Option<&'static str>,
}

/// The clients of a stack that the demo uses.
pub(super) struct Demo<'a> {
    stack: &'a Description,
    http: reqwest::Client,
    order_db: PgConnection,
    inventory_db: PgConnection,
}

impl<'a> Demo<'a> {
    /// Connects to the services' databases.
    ///
    /// # Errors
    /// If a database does not accept a connection.
    pub(super) async fn connect(stack: &'a Description) -> Result<Self> {
        Ok(Self {
            stack,
            http: reqwest::Client::builder()
                .no_proxy()
                .timeout(SETTLED_WITHIN)
                .build()?,
            order_db: stack.order_db.superuser().connect().await?,
            inventory_db: stack.inventory_db.superuser().connect().await?,
        })
    }
}

impl Demo<'_> {
    /// All products, as clients see them.
    pub(super) async fn products(&self) -> Result<Vec<Product>> {
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

    /// The stock of a product, if it exists.
    async fn stock(&self, product: Uuid) -> Result<Option<i64>> {
        let products = self.products().await?;
        Ok(products
            .iter()
            .find(|shown| shown.id == product)
            .map(|shown| shown.stock))
    }

    /// Places the order, prints its steps, and checks its outcome. Returns its id.
    pub(super) async fn play(&mut self, case: &Case) -> Result<Uuid> {
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

        let mut clock = Clock::starting(began);
        let answered = began + answered;
        clock.tick(
            answered,
            &format!("201: order {order} and its event are in order_db"),
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
            "the order must be {status} {:?}, but is {shown}",
            case.reason
        );
        let taken = if case.reason.is_none() {
            case.quantity
        } else {
            0
        };
        ensure!(
            after == before.map(|before| before - taken),
            "the stock was {before:?} and is {after:?}, which is not {taken} less"
        );
        Ok(order)
    }

    /// Posts the order; returns its id.
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

    /// Polls until the order has its outcome.
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

    /// The message that carries `event`.
    async fn message(
        &self,
        topic: &'static str,
        order: Uuid,
        event: Uuid,
        since: DateTime<Utc>,
    ) -> Result<Carried> {
        let kafka = self.stack.kafka.clone();
        // A second of tolerance, since the broker's clock may lag.
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
