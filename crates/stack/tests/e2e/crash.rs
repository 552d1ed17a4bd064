//! Faults in mid-flow.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use stack::testing::pid;

use crate::world::{World, eventually};

/// How often the worker is killed: within its transaction, and as it is about to commit, by turns.
const KILLS: usize = 6;

#[tokio::test]
async fn a_worker_that_is_killed_again_and_again_loses_nothing_and_does_nothing_twice() {
    let world = World::new().await;
    let products = [
        world.product(9, 1_000_000).await,
        world.product(9, 50).await,
    ];
    for round in 1..=KILLS {
        // Whoever holds a product's row holds the worker within its transaction.
        let mut holder = world.inventory_db.begin().await.unwrap();
        sqlx::query("select from products where id = any($1) for update")
            .bind(products)
            .execute(&mut *holder)
            .await
            .unwrap();
        let mut orders = Vec::new();
        for product in products {
            orders.extend(world.place_many(100, product, 9).await);
        }
        eventually(Duration::from_secs(30), "the worker waits within its transaction", async || {
            let waiting: i64 = sqlx::query_scalar(
                "select count(*) from pg_stat_activity where usename = 'inventory_worker' and wait_event_type = 'Lock'",
            )
            .fetch_one(&mut *holder)
            .await
            .unwrap();
            if waiting > 0 { Ok(()) } else { Err("it does not".to_owned()) }
        })
        .await;
        let undecided = world.undecided(&orders).await;
        assert!(
            undecided >= 100,
            "only {undecided} orders wait for the worker"
        );

        let worker = pid(world.stack, "inventory-worker").expect("the worker runs");
        if round % 2 == 0 {
            // On its way to the commit, before it, or just after.
            holder.rollback().await.unwrap();
            kill(worker, Signal::SIGKILL).unwrap();
        } else {
            kill(worker, Signal::SIGKILL).unwrap();
            holder.rollback().await.unwrap();
        }
        let at = Instant::now();
        eventually(
            Duration::from_secs(90),
            "all orders are settled",
            async || match world.unsettled(&orders).await {
                0 => Ok(()),
                left => Err(format!("{left} unsettled")),
            },
        )
        .await;
        assert_ne!(
            pid(world.stack, "inventory-worker"),
            Some(worker),
            "another process has taken over"
        );
        println!(
            "kill {round}: {undecided} undecided, all settled after {:?}",
            at.elapsed()
        );
    }
    world.invariant_holds().await;
}
