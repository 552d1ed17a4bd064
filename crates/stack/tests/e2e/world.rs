//! What a test works with: the real stack, products of its own, and the orders that it has placed.

// The path is named since the tests of sessions include this file too.
#[path = "world/kafka.rs"]
mod kafka;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::{PgPool, Postgres, Transaction};
use stack::testing::{self, Description};
use uuid::Uuid;

/// The whole stack as one test sees it.
pub(crate) struct World {
    pub(crate) stack: &'static Description,
    pub(crate) http: reqwest::Client,
    pub(crate) order_db: PgPool,
    pub(crate) inventory_db: PgPool,
    orders: Mutex<BTreeSet<Uuid>>,
    products: Mutex<BTreeMap<Uuid, i32>>,
    /// No event of this test is older: milliseconds since 1970. A minute early, since clocks are set.
    began: i64,
    /// Held while the test runs: shared, or alone by one that breaks what others use.
    _turn: File,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::on(testing::stack().await, File::lock_shared).await
    }

    /// For a test that breaks what others use: no other runs meanwhile, in this process or in another.
    pub(crate) async fn alone() -> Self {
        Self::on(testing::stack().await, File::lock).await
    }

    /// On `stack`, once the test's turn is taken.
    pub(crate) async fn on(
        stack: &'static Description,
        take: fn(&File) -> std::io::Result<()>,
    ) -> Self {
        let file = stack.file.with_file_name("turn");
        let turn = tokio::task::spawn_blocking(move || {
            let file = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(file)
                .unwrap();
            take(&file).unwrap();
            file
        });
        let turn = turn.await.unwrap();
        let pool = |database: &testing::Database| {
            sqlx::postgres::PgPoolOptions::new()
                .max_connections(2)
                .connect_lazy_with(database.superuser())
        };
        Self {
            stack,
            http: reqwest::Client::builder()
                .no_proxy()
                // A service closes a connection that is idle for some seconds, perhaps just as it is used again.
                .pool_idle_timeout(Duration::from_secs(1))
                .timeout(Duration::from_secs(30))
                .build()
                .unwrap(),
            order_db: pool(&stack.order_db),
            inventory_db: pool(&stack.inventory_db),
            orders: Mutex::default(),
            products: Mutex::default(),
            began: chrono::Utc::now().timestamp_millis() - 60_000,
            _turn: turn,
        }
    }

    /// A product of this test's own.
    pub(crate) async fn product(&self, price: i32, stock: i32) -> Uuid {
        let id = Uuid::now_v7();
        sqlx::query("insert into products (id, name, price, stock) values ($1, $2, $3, $4)")
            .bind(id)
            .bind(format!("made by a test: {id}"))
            .bind(price)
            .bind(stock)
            .execute(&self.inventory_db)
            .await
            .unwrap();
        self.products
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, stock);
        id
    }

    pub(crate) fn products(&self) -> BTreeMap<Uuid, i32> {
        self.products
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// More pieces of a product; the invariant knows of them.
    pub(crate) async fn restock(&self, product: Uuid, pieces: i32) {
        sqlx::query("update products set stock = stock + $2 where id = $1")
            .bind(product)
            .bind(pieces)
            .execute(&self.inventory_db)
            .await
            .unwrap();
        *self
            .products
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(product)
            .or_default() += pieces;
    }

    pub(crate) fn orders(&self) -> BTreeSet<Uuid> {
        self.orders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Counts an order that was placed by other means to this test's.
    pub(crate) fn adopt(&self, order: Uuid) {
        self.orders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(order);
    }

    /// Holds the products' rows, and with them the worker within its transaction once an order for one comes.
    pub(crate) async fn hold(&self, products: &[Uuid]) -> Transaction<'static, Postgres> {
        let mut holder = self.inventory_db.begin().await.unwrap();
        sqlx::query("select from products where id = any($1) for update")
            .bind(products)
            .execute(&mut *holder)
            .await
            .unwrap();
        holder
    }

    /// Waits until the worker is held by `holder`, and asserts that at least 100 of `orders` wait for it.
    pub(crate) async fn worker_is_held(
        &self,
        holder: &mut Transaction<'static, Postgres>,
        orders: &[Uuid],
    ) -> i64 {
        eventually(Duration::from_secs(30), "the worker waits within its transaction", async || {
            let waiting: i64 = sqlx::query_scalar(
                "select count(*) from pg_stat_activity where usename = 'inventory_worker' and wait_event_type = 'Lock'",
            )
            .fetch_one(&mut **holder)
            .await
            .unwrap();
            if waiting > 0 { Ok(()) } else { Err("it does not".to_owned()) }
        })
        .await;
        let undecided = self.undecided(orders).await;
        assert!(
            undecided >= 100,
            "only {undecided} orders wait for the worker"
        );
        undecided
    }

    /// Waits until every one of `orders` has its outcome.
    pub(crate) async fn all_settled(&self, within: Duration, orders: &[Uuid]) {
        eventually(within, "all orders are settled", async || {
            match self.unsettled(orders).await {
                0 => Ok(()),
                left => Err(format!("{left} unsettled")),
            }
        })
        .await;
    }

    /// How many of `orders` inventory has not decided yet.
    pub(crate) async fn undecided(&self, orders: &[Uuid]) -> i64 {
        sqlx::query_scalar(
            "select count(*) from unnest($1::uuid[]) as wanted (id)
             where not exists (select from reservations where order_id = wanted.id)",
        )
        .bind(orders)
        .fetch_one(&self.inventory_db)
        .await
        .unwrap()
    }

    /// How many of `orders` have no outcome yet.
    pub(crate) async fn unsettled(&self, orders: &[Uuid]) -> i64 {
        sqlx::query_scalar("select count(*) from orders where id = any($1) and status = 'pending'")
            .bind(orders)
            .fetch_one(&self.order_db)
            .await
            .unwrap()
    }

    pub(crate) async fn post(&self, body: impl Into<reqwest::Body>) -> (u16, Value) {
        let answer = self
            .http
            .post(format!("{}/orders", self.stack.order_url))
            .body(body)
            .send()
            .await
            .unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap())
    }

    /// Places an order that is taken.
    pub(crate) async fn place(&self, product: Uuid, estimated_price: i32, quantity: i32) -> Uuid {
        let body = json!({ "product_id": product, "estimated_price": estimated_price, "quantity": quantity });
        let (status, answer) = self.post(body.to_string()).await;
        assert_eq!(status, 201, "{answer}");
        let id = answer["id"].as_str().unwrap().parse().unwrap();
        self.adopt(id);
        id
    }

    /// Places an order for one piece however often the service has to be asked; one that was stored without an answer is
    /// adopted by its product later.
    pub(crate) async fn place_in_the_end(&self, product: Uuid, price: i32) {
        let body =
            json!({ "product_id": product, "estimated_price": price, "quantity": 1 }).to_string();
        let url = format!("{}/orders", self.stack.order_url);
        eventually(Duration::from_secs(60), "the order is taken", async || {
            let answer = self
                .http
                .post(&url)
                .body(body.clone())
                .send()
                .await
                .map_err(|error| error.to_string())?;
            if answer.status() == 201 {
                Ok(())
            } else {
                Err(answer.status().to_string())
            }
        })
        .await;
    }

    /// Counts every stored order for the test's products to this test's.
    pub(crate) async fn adopt_all(&self) -> Vec<Uuid> {
        let products: Vec<Uuid> = self.products().into_keys().collect();
        let orders: Vec<Uuid> =
            sqlx::query_scalar("select id from orders where product_id = any($1)")
                .bind(products)
                .fetch_all(&self.order_db)
                .await
                .unwrap();
        for order in &orders {
            self.adopt(*order);
        }
        orders
    }

    /// Places orders for one piece each, several at the same time.
    pub(crate) async fn place_many(&self, count: usize, product: Uuid, price: i32) -> Vec<Uuid> {
        use futures::{StreamExt, stream};
        let orders = stream::iter(0..count).map(|_| self.place(product, price, 1));
        orders.buffer_unordered(64).collect().await
    }

    pub(crate) async fn show(&self, order: &str) -> (u16, Value) {
        let answer = self
            .http
            .get(format!("{}/orders/{order}", self.stack.order_url))
            .send()
            .await
            .unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap())
    }

    /// The order once it is settled.
    pub(crate) async fn settled(&self, order: Uuid) -> Value {
        let mut last = Value::Null;
        eventually(
            Duration::from_secs(60),
            "the order is settled",
            async || {
                let (status, shown) = self.show(&order.to_string()).await;
                assert_eq!(status, 200);
                last = shown;
                if last["status"] == "pending" {
                    Err(last.to_string())
                } else {
                    Ok(())
                }
            },
        )
        .await;
        last
    }

    /// How many orders for a product are stored.
    pub(crate) async fn stored(&self, product: Uuid) -> i64 {
        sqlx::query_scalar("select count(*) from orders where product_id = $1")
            .bind(product)
            .fetch_one(&self.order_db)
            .await
            .unwrap()
    }

    /// The stock as clients see it.
    pub(crate) async fn stock(&self, product: Uuid) -> i64 {
        let products: Vec<Value> = self
            .http
            .get(format!("{}/products", self.stack.inventory_url))
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        let product = product.to_string();
        products
            .iter()
            .find(|shown| shown["id"] == product)
            .unwrap()["stock"]
            .as_i64()
            .unwrap()
    }

    /// The dead letters, kind and error, with exactly this value; of a null value, with this key.
    pub(crate) async fn dead_letters(
        &self,
        pool: &PgPool,
        topic: &str,
        value: &[u8],
    ) -> Vec<(String, String)> {
        sqlx::query_as(
            "select kind, error from dead_letter where topic = $1 and coalesce(value, key) = $2 order by seq",
        )
        .bind(topic)
        .bind(value)
        .fetch_all(pool)
        .await
        .unwrap()
    }
}

/// Polls until `holds` says so, or fails the test with its last word.
pub(crate) async fn eventually(
    within: Duration,
    what: &str,
    mut holds: impl AsyncFnMut() -> Result<(), String>,
) {
    let deadline = Instant::now() + within;
    let mut pause = tokio::time::interval(Duration::from_millis(20));
    loop {
        pause.tick().await;
        match holds().await {
            Ok(()) => return,
            Err(state) => assert!(
                Instant::now() < deadline,
                "not within {within:?}: {what}; last: {state}"
            ),
        }
    }
}
