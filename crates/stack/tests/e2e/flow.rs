//! A flow that a fault interrupts.

use std::time::{Duration, Instant};

use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use crate::world::{World, eventually};

/// How long a part may take to recover and all orders to be settled.
pub(crate) const HEALED: Duration = Duration::from_secs(120);
/// The price of the product.
pub(crate) const PRICE: i32 = 9;

/// A flow in mid-flow: at least 100 orders wait for the worker, which is blocked in its transaction.
pub(crate) struct Flow {
    pub(crate) world: World,
    pub(crate) product: Uuid,
    /// The transaction that blocks the worker.
    pub(crate) holder: Transaction<'static, Postgres>,
    pub(crate) unsettled: i64,
}

impl Flow {
    pub(crate) async fn new() -> Self {
        let world = World::alone().await;
        // The orders of a test exceed the stock, so some are rejected.
        let product = world.product(PRICE, 400).await;
        let mut holder = world.hold(&[product]).await;
        let orders = world.place_many(150, product, PRICE).await;
        let unsettled = world.worker_is_held(&mut holder, &orders).await;
        Self {
            world,
            product,
            holder,
            unsettled,
        }
    }

    /// Releases the worker, places further orders, waits until all are settled, and asserts the invariant.
    pub(crate) async fn heals(self, case: &str, from: Instant) {
        let Self {
            world,
            product,
            holder,
            unsettled,
        } = self;
        // Its server may have ended.
        drop(holder.rollback().await);
        for _ in 0..20 {
            world.place_in_the_end(product, PRICE).await;
        }
        for pool in [&world.order_db, &world.inventory_db] {
            eventually(HEALED, "the database answers", async || {
                sqlx::query("select")
                    .execute(pool)
                    .await
                    .map(drop)
                    .map_err(|error| error.to_string())
            })
            .await;
        }
        let orders = world.adopt_all().await;
        assert!(orders.len() >= 170);
        for url in [&world.stack.order_url, &world.stack.inventory_url] {
            // A crash must not look like a restored database.
            world
                .shows(url, "outbox", "the database is unchanged", |shown| {
                    shown["watched"] == true && shown["changed"].is_null()
                })
                .await;
        }
        world.all_settled(HEALED, &orders).await;
        println!(
            "| {case} | {unsettled} | {:.1} s |",
            from.elapsed().as_secs_f64()
        );
        world.invariant_holds().await;
    }
}
