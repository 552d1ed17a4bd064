//! The world of a test: the real stack, products of its own, and the orders that it has placed.

// The paths are named because the tests of `session` include this file too.
#[path = "world/dead_letters.rs"]
pub(crate) mod dead_letters;
#[path = "world/health.rs"]
pub(crate) mod health;
#[path = "world/kafka.rs"]
pub(crate) mod kafka;
#[path = "world/memory.rs"]
pub(crate) mod memory;
#[path = "world/proxy.rs"]
pub(crate) mod proxy;

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
    /// The earliest time of this test's events in milliseconds since 1970, less a minute for clocks that are set.
    began: i64,
    /// The lock held while the test runs: shared, or exclusive for a test that breaks shared parts.
    _lock: File,
}

impl World {
    /// Shares the stack with other tests.
    pub(crate) async fn new() -> Self {
        Self::on(testing::stack().await, File::lock_shared).await
    }

    /// Has the stack alone, for a test that breaks shared parts. No other test runs meanwhile, in any process.
    pub(crate) async fn alone() -> Self {
        Self::on(testing::stack().await, File::lock).await
    }

    /// Uses `stack` as soon as `take` has locked it.
    pub(crate) async fn on(
        stack: &'static Description,
        take: fn(&File) -> std::io::Result<()>,
    ) -> Self {
        let file = stack.file.with_file_name("exclusive.lock");
        let lock = tokio::task::spawn_blocking(move || {
            let file = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(file)
                .unwrap();
            take(&file).unwrap();
            file
        });
        let lock = lock.await.unwrap();
        let pool = |database: &testing::Database| {
            sqlx::postgres::PgPoolOptions::new()
                .max_connections(2)
                .connect_lazy_with(database.superuser())
        };
        Self {
            stack,
            http: reqwest::Client::builder()
                .no_proxy()
                // A service closes idle connections after some seconds, perhaps just when one is used again.
                .pool_idle_timeout(Duration::from_secs(1))
                .timeout(Duration::from_secs(30))
                .build()
                .unwrap(),
            order_db: pool(&stack.order_db),
            inventory_db: pool(&stack.inventory_db),
            orders: Mutex::default(),
            products: Mutex::default(),
            began: chrono::Utc::now().timestamp_millis() - 60_000,
            _lock: lock,
        }
    }

    /// Creates a product of this test.
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

    /// The products of this test and their initial stocks.
    pub(crate) fn products(&self) -> BTreeMap<Uuid, i32> {
        self.products
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Adds pieces to a product's stock and to its initial stock.
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

    /// The orders of this test.
    pub(crate) fn orders(&self) -> BTreeSet<Uuid> {
        self.orders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Adds an order that was placed by other means to this test's orders.
    pub(crate) fn adopt(&self, order: Uuid) {
        self.orders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(order);
    }

    /// Locks the products' rows. The next order for one of them blocks the worker in its transaction.
    pub(crate) async fn hold(&self, products: &[Uuid]) -> Transaction<'static, Postgres> {
        let mut holder = self.inventory_db.begin().await.unwrap();
        sqlx::query("select from products where id = any($1) for update")
            .bind(products)
            .execute(&mut *holder)
            .await
            .unwrap();
        holder
    }

    /// Waits until `holder` blocks the worker, and asserts that at least 100 of `orders` wait for it. Returns how many.
    pub(crate) async fn worker_is_held(
        &self,
        holder: &mut Transaction<'static, Postgres>,
        orders: &[Uuid],
    ) -> i64 {
        eventually(Duration::from_secs(30), "the worker waits in its transaction", async || {
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

    /// Waits until each of `orders` has its outcome.
    pub(crate) async fn all_settled(&self, within: Duration, orders: &[Uuid]) {
        eventually(within, "all orders are settled", async || {
            match self.unsettled(orders).await {
                0 => Ok(()),
                left => Err(format!("{left} unsettled")),
            }
        })
        .await;
    }

    /// The number of `orders` that inventory has not decided.
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

    /// The number of `orders` without an outcome.
    pub(crate) async fn unsettled(&self, orders: &[Uuid]) -> i64 {
        sqlx::query_scalar("select count(*) from orders where id = any($1) and status = 'pending'")
            .bind(orders)
            .fetch_one(&self.order_db)
            .await
            .unwrap()
    }

    /// Posts an order; returns status and body of the answer.
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

    /// Places an order, which the service must accept.
    pub(crate) async fn place(&self, product: Uuid, estimated_price: i32, quantity: i32) -> Uuid {
        let body = json!({ "product_id": product, "estimated_price": estimated_price, "quantity": quantity });
        let (status, answer) = self.post(body.to_string()).await;
        assert_eq!(status, 201, "{answer}");
        let id = answer["id"].as_str().unwrap().parse().unwrap();
        self.adopt(id);
        id
    }

    /// Places an order for one piece, with retries until the service accepts it. An order that was stored without an answer
    /// is adopted later, by its product.
    pub(crate) async fn place_in_the_end(&self, product: Uuid, price: i32) {
        let body =
            json!({ "product_id": product, "estimated_price": price, "quantity": 1 }).to_string();
        let url = format!("{}/orders", self.stack.order_url);
        eventually(
            Duration::from_secs(60),
            "the order is accepted",
            async || {
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
            },
        )
        .await;
    }

    /// Adds every stored order for the test's products to this test's orders, and returns them.
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

    /// Places orders for one piece each, 64 at a time.
    pub(crate) async fn place_many(&self, count: usize, product: Uuid, price: i32) -> Vec<Uuid> {
        use futures::{StreamExt, stream};
        let orders = stream::iter(0..count).map(|_| self.place(product, price, 1));
        orders.buffer_unordered(64).collect().await
    }

    /// Gets an order; returns status and body of the answer.
    pub(crate) async fn show(&self, order: &str) -> (u16, Value) {
        let url = format!("{}/orders/{order}", self.stack.order_url);
        self.get(&url).await
    }

    /// Gets `url`; returns status and body of the answer.
    pub(crate) async fn get(&self, url: &str) -> (u16, Value) {
        let answer = self.http.get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// Waits until the order has its outcome; returns the order as clients see it.
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

    /// The number of stored orders for a product.
    pub(crate) async fn stored(&self, product: Uuid) -> i64 {
        sqlx::query_scalar("select count(*) from orders where product_id = $1")
            .bind(product)
            .fetch_one(&self.order_db)
            .await
            .unwrap()
    }

    /// All products as clients see them.
    pub(crate) async fn shown_products(&self) -> Vec<Value> {
        let url = format!("{}/products", self.stack.inventory_url);
        let (status, shown) = self.get(&url).await;
        assert_eq!(status, 200, "{shown}");
        serde_json::from_value(shown).unwrap()
    }

    /// The stock of a product as clients see it.
    pub(crate) async fn stock(&self, product: Uuid) -> i64 {
        let products = self.shown_products().await;
        let product = product.to_string();
        products
            .iter()
            .find(|shown| shown["id"] == product)
            .unwrap()["stock"]
            .as_i64()
            .unwrap()
    }

    /// Kind and error of the dead letters with exactly this value or, if their value is null, with this key.
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

/// Runs a statement.
pub(crate) async fn execute(pool: &PgPool, statement: &'static str) {
    sqlx::query(statement).execute(pool).await.unwrap();
}

/// Polls until `holds` succeeds. After `within` it fails the test with the last error.
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
