//! Workers that are killed or abort in mid-flow.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use stack::testing::{Binary, Service, pid};

use crate::world::dead_letters::PRICE;
use crate::world::{World, eventually};

/// How often the worker is killed: alternately in its transaction and around its commit.
const KILLS: usize = 6;

#[tokio::test]
async fn a_worker_that_is_killed_repeatedly_loses_nothing_and_applies_nothing_twice() {
    let world = World::new().await;
    let products = [
        world.product(9, 1_000_000).await,
        world.product(9, 50).await,
    ];
    for round in 1..=KILLS {
        // The lock of the products' rows blocks the worker in its transaction.
        let mut holder = world.hold(&products).await;
        let mut orders = Vec::new();
        for product in products {
            orders.extend(world.place_many(100, product, 9).await);
        }
        let undecided = world.worker_is_held(&mut holder, &orders).await;

        let worker = pid(world.stack, "inventory-worker").expect("the worker runs");
        if round % 2 == 0 {
            // Before, during or just after the commit.
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

/// Every step of a batch and of a dead letter's retry, by its name in `crates/outbox/src/listener/failpoint.rs`. `:2` aborts
/// the second time, when the worker has claimed its epochs. `A,B` aborts at B after A: in a batch with dead letters, and
/// between the parts of a failed one.
const STEPS: [&str; 12] = [
    "Received",
    "Begun:2",
    "Held:2",
    "Settled:2",
    "Handled:2",
    "DeadLettered",
    "DeadLettered:2,Appended",
    "DeadLettered,Committed",
    "DeadLettered:2,OffsetsSent",
    "PartFailed,Committed",
    "DeadLetterLocked",
    "DeadLetterRemoved",
];

#[tokio::test]
async fn a_worker_that_dies_at_any_step_loses_nothing_and_applies_nothing_twice() {
    let world = World::new().await;
    let product = world.product(PRICE, 1_500).await;
    let mut all_followed = Vec::new();
    for step in STEPS {
        let mut dies = Service::spawn_under(
            &[("OUTBOX_FAILPOINT", step.as_ref())],
            world.stack,
            Binary::InventoryWorker,
            // The broker's minimum.
            &[("KAFKA__PROPERTIES__SESSION_TIMEOUT_MS", "6000")],
        )
        .unwrap();
        eventually(Duration::from_secs(60), "it holds partitions", async || {
            if dies.ended().is_some() {
                // Another test's messages have triggered it.
                return Ok(());
            }
            let shown = world
                .http
                .get(format!("{}/health/ready", dies.url))
                .send()
                .await;
            let shown: Value = shown
                .map_err(|error| error.to_string())?
                .json()
                .await
                .unwrap();
            match shown["checks"]["listener"]["partitions"].as_u64() {
                Some(1..) => Ok(()),
                _ => Err(shown.to_string()),
            }
        })
        .await;
        let attempts_dead_letters = ["DeadLetterLocked", "DeadLetterRemoved"].contains(&step);
        let writes_dead_letters = step.contains(',') || step == "DeadLettered";
        let (mut orders, mut unsettled, mut status) = (Vec::new(), 0, None);
        let mut followed = Vec::new();
        eventually(Duration::from_secs(60), step, async || {
            if writes_dead_letters {
                // Of several keys, since the other worker has partitions too.
                let sent = [(); 4].map(|()| world.send_poison_and_followers(product));
                followed.extend(futures::future::join_all(sent).await);
            }
            if attempts_dead_letters {
                // The other worker may be faster.
                all_followed.extend(world.retryable_dead_letters(product).await);
            }
            orders.extend(world.place_many(300, product, PRICE).await);
            unsettled = world.unsettled(&orders).await;
            status = dies.ended();
            status.map(drop).ok_or_else(|| "it still runs".to_owned())
        })
        .await;
        assert!(unsettled >= 100, "{step}: only {unsettled} are unsettled");
        assert_eq!(
            status.and_then(|status| status.signal()),
            Some(Signal::SIGABRT as i32),
            "it aborted at the failpoint: {step}"
        );
        let from = Instant::now();
        world.all_settled(Duration::from_secs(90), &orders).await;
        println!(
            "| {step} | {} orders, {unsettled} unsettled | {:.1} s |",
            orders.len(),
            from.elapsed().as_secs_f64()
        );
        for followed in &followed {
            world.discard_poison(followed).await;
        }
        all_followed.extend(followed);
    }
    for followed in &all_followed {
        world.followers_are_applied(followed).await;
    }
    world.invariant_holds().await;
}
