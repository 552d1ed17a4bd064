//! Faults in mid-flow.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use stack::testing::pid;

use crate::world::{World, eventually};

/// How often the worker is killed.
const KILLS: usize = 5;

#[tokio::test]
async fn a_worker_that_is_killed_again_and_again_loses_nothing_and_does_nothing_twice() {
    let world = World::new().await;
    let products = [
        world.product(9, 1_000_000).await,
        world.product(9, 50).await,
    ];
    for round in 1..=KILLS {
        let mut orders = Vec::new();
        // Orders keep coming until enough of them are unsettled at the moment of the kill.
        let (unsettled, at) = loop {
            for product in products {
                orders.extend(world.place_many(100, product, 9).await);
            }
            let unsettled = world.unsettled(&orders).await;
            if unsettled >= 100 {
                let worker = pid(world.stack, "inventory-worker").expect("the worker runs");
                kill(worker, Signal::SIGKILL).unwrap();
                break (unsettled, Instant::now());
            }
            assert!(
                orders.len() < 20_000,
                "the flow is faster than the orders come: {unsettled} unsettled"
            );
        };
        eventually(
            Duration::from_secs(90),
            "all orders are settled",
            async || match world.unsettled(&orders).await {
                0 => Ok(()),
                left => Err(format!("{left} unsettled")),
            },
        )
        .await;
        println!(
            "kill {round}: {unsettled} unsettled, all settled after {:?}",
            at.elapsed()
        );
    }
    world.invariant_holds().await;
}
