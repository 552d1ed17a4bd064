//! A power failure: every process ends at once, without a flush, a farewell or the end of a request.

use std::collections::BTreeSet;
use std::fs::File;
use std::time::{Duration, Instant};

use futures::future::join_all;
use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};
use sqlx::types::chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::home::Home;
use crate::world::{World, eventually};

const PRICE: i32 = 9;
/// Clients that place orders concurrently.
const CLIENTS: usize = 128;
/// The maximum number of orders of one client.
const ORDERS: usize = 200;
/// The least number of orders that are settled before the blackout, and of those that are unsettled.
const UNSETTLED: i64 = 100;
/// How long the orders may take to be settled after the restart.
const HEALED: Duration = Duration::from_secs(120);

#[tokio::test]
async fn every_process_killed_at_once_under_load_loses_no_order_and_doubles_none() {
    let home = Home::new();
    home.run(&["up"]).await;
    let world = World::on(home.description(), File::lock_shared).await;
    // Less than all orders need, so some are rejected.
    let product = world.product(PRICE, 1_000).await;
    let clients = join_all((0..CLIENTS).map(|_| client(&world, product)));
    let (answered, struck) = tokio::join!(clients, blackout(&home, &world, product));
    let answered: BTreeSet<Uuid> = answered.into_iter().flatten().collect();
    home.is_quiet().await;

    let from = Instant::now();
    home.run(&["up"]).await;
    let up = from.elapsed();
    let stored: BTreeSet<Uuid> = world.adopt_all().await.into_iter().collect();
    assert!(
        answered.is_subset(&stored),
        "answered, but lost: {:?}",
        answered.difference(&stored)
    );
    let stored: Vec<Uuid> = stored.into_iter().collect();
    world.all_settled(HEALED, &stored).await;
    let settled = from.elapsed();
    let caught = settled_after(&world, product, struck.at).await;
    println!(
        "{} processes killed at once; {} orders stored, {} of them answered; {} unsettled just before, {caught} of these \
         settled after; up again after {up:.1?}, all settled after {settled:.1?}",
        struck.processes,
        stored.len(),
        answered.len(),
        struck.unsettled,
    );
    assert!(
        caught >= UNSETTLED,
        "only {caught} orders were caught in mid-flow"
    );
    let another = world.place(product, PRICE, 1).await;
    world.settled(another).await;
    world.invariant_holds().await;
}

/// Places orders one after the other until the service is gone; returns the answered ones.
async fn client(world: &World, product: Uuid) -> Vec<Uuid> {
    let url = format!("{}/orders", world.stack.order_url);
    let body =
        json!({ "product_id": product, "estimated_price": PRICE, "quantity": 1 }).to_string();
    let mut answered = Vec::new();
    for _ in 0..ORDERS {
        let Ok(answer) = world.http.post(&url).body(body.clone()).send().await else {
            break;
        };
        assert_eq!(answer.status(), 201);
        let Ok(placed) = answer.json::<Value>().await else {
            break;
        };
        answered.push(placed["id"].as_str().unwrap().parse().unwrap());
    }
    answered
}

/// The moment of the blackout.
struct Blackout {
    at: DateTime<Utc>,
    unsettled: i64,
    processes: usize,
}

async fn blackout(home: &Home, world: &World, product: Uuid) -> Blackout {
    let mut struck = None;
    eventually(
        Duration::from_secs(60),
        "enough orders are in mid-flow",
        async || {
            let processes = home.processes();
            let (settled, unsettled): (i64, i64) = sqlx::query_as(
                "select count(*) filter (where status <> 'pending'), count(*) filter (where status = 'pending')
                 from orders where product_id = $1",
            )
            .bind(product)
            .fetch_one(&world.order_db)
            .await
            .unwrap();
            if settled < UNSETTLED || unsettled < 2 * UNSETTLED {
                return Err(format!("{settled} settled, {unsettled} unsettled"));
            }
            let at = Utc::now();
            for (process, _) in &processes {
                // A server process of a single connection may have ended.
                let _ = kill(*process, Signal::SIGKILL);
            }
            struck = Some(Blackout { at, unsettled, processes: processes.len() });
            Ok(())
        },
    )
    .await;
    let struck = struck.unwrap();
    // Two servers with a process for each of their tasks, two JVMs, three services, reconciler and supervisor.
    assert!(struck.processes > 9, "only {} processes", struck.processes);
    // Processes that started while the others were counted.
    for (process, _) in home.processes() {
        let _ = kill(process, Signal::SIGKILL);
    }
    struck
}

/// The number of orders that were placed before `at` and settled after it.
async fn settled_after(world: &World, product: Uuid, at: DateTime<Utc>) -> i64 {
    sqlx::query_scalar(
        "select count(*) from orders where product_id = $1 and placed_at <= $2 and settled_at > $2",
    )
    .bind(product)
    .bind(at)
    .fetch_one(&world.order_db)
    .await
    .unwrap()
}
