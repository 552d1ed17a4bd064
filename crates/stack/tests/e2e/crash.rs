//! Faults in mid-flow.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use stack::testing::pid;

use crate::world::World;

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
        let mut holder = world.hold(&products).await;
        let mut orders = Vec::new();
        for product in products {
            orders.extend(world.place_many(100, product, 9).await);
        }
        let undecided = world.worker_is_held(&mut holder, &orders).await;

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
        world.all_settled(Duration::from_secs(90), &orders).await;
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
