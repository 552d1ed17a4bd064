//! A backlog waits in Kafka: memory stays flat however long it is, and polling never waits for the database.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::Value;
use sqlx::{Postgres, Transaction};
use stack::testing::{Binary, Service, pid};
use stack::topic;
use uuid::Uuid;

use crate::world::memory::memory;
use crate::world::{World, eventually};

const PRICE: i32 = 7;
/// How long the database stalls.
const STALL: Duration = Duration::from_secs(30);
/// How long a service may take to show something.
const WITHIN: Duration = Duration::from_secs(60);
/// How often group and memory are sampled. A rebalance takes longer, since members learn of it by heartbeats, one per
/// second.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The backlog of the default run. The long run has a million messages.
const BACKLOG: i32 = 50_000;
/// The maximum memory of a service in kB, however long the backlog. A debug build takes 22 MB before any message. Draining
/// takes 5 MB more: at most 1,500 messages in flight and in the buffer, 256 KiB that librdkafka has fetched and as much that
/// it fetches, each message with a structure as large as itself. An unbounded buffer would take 40 MB more for the backlog of
/// the default run.
const MEMORY: u64 = 34 * 1024;
/// The maximum growth in kB when partitions with waiting messages are assigned. Half of the default run's backlog would take
/// 20 MB.
const GROWTH: u64 = 6 * 1024;

/// A server with all of its processes stopped: connections stay open, the kernel accepts new ones, none gets an answer.
/// Dropping this continues them.
struct Stalled(Vec<Pid>);

impl Stalled {
    fn new(postmaster: Pid) -> Self {
        // The postmaster first, so that it starts no further processes.
        kill(postmaster, Signal::SIGSTOP).unwrap();
        let mut stalled = Self(vec![postmaster]);
        let children = format!("/proc/{postmaster}/task/{postmaster}/children");
        for child in fs::read_to_string(children).unwrap().split_whitespace() {
            stalled.0.push(Pid::from_raw(child.parse().unwrap()));
        }
        for child in &stalled.0[1..] {
            kill(*child, Signal::SIGSTOP).unwrap();
        }
        stalled
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        for process in &self.0 {
            let _ = kill(*process, Signal::SIGCONT);
        }
    }
}

/// A consumer group as the broker knows it: its state and each member's assignment.
type Group = (String, BTreeSet<(String, Vec<u8>)>);

fn group(client: &BaseConsumer, name: &str) -> Group {
    let groups = client.fetch_group_list(Some(name), WITHIN).unwrap();
    let [group] = groups.groups() else {
        panic!("no group {name}");
    };
    let members = group.members().iter().map(|member| {
        let held = member.assignment().unwrap_or_default();
        (member.id().to_owned(), held.to_vec())
    });
    (group.state().to_owned(), members.collect())
}

/// Every state of the worker's group until `over` is set.
async fn groups(kafka: &str, over: &AtomicBool) -> BTreeSet<Group> {
    let client = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .create::<BaseConsumer>();
    let (client, mut groups) = (Arc::new(client.unwrap()), BTreeSet::new());
    while !over.load(Ordering::Relaxed) {
        let client = Arc::clone(&client);
        let found = tokio::task::spawn_blocking(move || group(&client, "inventory-worker"));
        groups.insert(found.await.unwrap());
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    groups
}

#[tokio::test]
async fn a_database_that_stalls_for_half_a_minute_causes_no_rebalance_and_loses_nothing() {
    let world = World::alone().await;
    // If polling waited for the database, it would lose its partitions. A small batch fills its buffer soon.
    let impatient = [
        ("KAFKA__PROPERTIES__MAX_POLL_INTERVAL_MS", "12000"),
        ("KAFKA__MAX_BATCH", "50"),
    ];
    let impatient = Service::start(world.stack, Binary::InventoryWorker, &impatient).await;
    let workers = [&world.stack.worker_url, &impatient.url];
    for url in workers {
        let half = |shown: &Value| shown["partitions"] == 3;
        world
            .shows(url, "listener", "it holds half of the partitions", half)
            .await;
    }
    let product = world.product(PRICE, 1_000_000).await;
    let over = AtomicBool::new(false);
    let load = async {
        while !over.load(Ordering::Relaxed) {
            world.place_many(30, product, PRICE).await;
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    let stall = async {
        eventually(WITHIN, "orders flow", async || {
            let placed: Vec<Uuid> = world.orders().into_iter().collect();
            let unsettled = usize::try_from(world.unsettled(&placed).await).unwrap();
            match placed.len() - unsettled {
                settled if settled >= 100 => Ok(()),
                settled => Err(format!("{settled} are settled")),
            }
        })
        .await;
        let before = memory(impatient.id());
        let stalled = Stalled::new(pid(world.stack, "postgres-inventory").unwrap());
        let from = Instant::now();
        for url in workers {
            eventually(
                STALL,
                "it is unready and names the database",
                async || match world.readiness(url).await {
                    (503, body) if body["checks"]["database"]["state"] == "failing" => Ok(()),
                    other => Err(format!("{other:?}")),
                },
            )
            .await;
        }
        eventually(STALL, "reading is paused", async || {
            let (_, body) = world.readiness(&impatient.url).await;
            match &body["checks"]["listener"] {
                shown if shown["paused"] == true => Ok(()),
                shown => Err(shown.to_string()),
            }
        })
        .await;
        tokio::time::sleep_until((from + STALL).into()).await;
        let placed: Vec<Uuid> = world.orders().into_iter().collect();
        let (unsettled, after) = (world.unsettled(&placed).await, memory(impatient.id()));
        drop(stalled);
        let from = Instant::now();
        world.all_settled(2 * WITHIN, &placed).await;
        over.store(true, Ordering::Relaxed);
        println!(
            "{unsettled} orders unsettled after {STALL:?} without the database, all settled {:.1?} later; memory {before} kB \
             before, {after} kB at its end",
            from.elapsed()
        );
        assert!(unsettled >= 100, "only {unsettled} orders are unsettled");
        assert!(after < MEMORY, "{after} kB");
    };
    let ((), (), groups) = tokio::join!(load, stall, groups(&world.stack.kafka, &over));
    let [(state, members)] = &Vec::from_iter(&groups)[..] else {
        panic!("the group was rebalanced: {groups:#?}");
    };
    assert_eq!((state.as_str(), members.len()), ("Stable", 2));
    world.invariant_holds().await;
    assert!(impatient.terminate().success());
}

#[tokio::test]
async fn memory_stays_flat_with_a_backlog() {
    memory_stays_flat(BACKLOG).await;
}

/// Run by `./dev test --long`, or `cargo test -- --ignored`.
#[tokio::test]
#[ignore = "takes minutes"]
async fn memory_stays_flat_with_a_backlog_of_a_million_messages() {
    memory_stays_flat(1_000_000).await;
}

/// Stores orders for one piece each and their events in one statement.
async fn place_at_once(world: &World, product: Uuid, count: i32) {
    sqlx::query(
        "with placed as (
             insert into orders (id, product_id, quantity, estimated_price, placed_at)
             select gen_random_uuid(), $1, 1, $2, now() from generate_series(1, $3)
             returning *
         )
         insert into outbox (id, aggregatetype, aggregateid, type, payload)
         select event_id, 'order', order_id::text, 'order.placed', to_jsonb(event)
         from (select gen_random_uuid() as event_id, id as order_id, product_id as item_id, quantity, estimated_price,
                      placed_at
               from placed) as event",
    )
    .bind(product)
    .bind(PRICE)
    .bind(count)
    .execute(&world.order_db)
    .await
    .unwrap();
}

/// Builds up a backlog in Kafka while a transaction blocks the workers. Rolling it back releases them.
async fn backlog_waits(
    world: &World,
    product: Uuid,
    backlog: i32,
    mut meanwhile: impl FnMut(),
) -> Transaction<'static, Postgres> {
    let kafka = &world.stack.kafka;
    let carried = topic::count(kafka, "order").unwrap();
    let holder = world.hold(&[product]).await;
    place_at_once(world, product, backlog).await;
    eventually(10 * WITHIN, "Kafka has the backlog", async || {
        meanwhile();
        match topic::count(kafka, "order").unwrap() - carried {
            more if more >= i64::from(backlog) => Ok(()),
            more => Err(format!("{more} of {backlog}")),
        }
    })
    .await;
    holder
}

/// The samples of a service's memory in kB.
struct Memory {
    part: &'static str,
    process: u32,
    samples: Vec<u64>,
}

impl Memory {
    fn of(world: &World, part: &'static str) -> Self {
        let process = pid(world.stack, part).unwrap().as_raw();
        let process = process.try_into().unwrap();
        Self {
            part,
            process,
            samples: vec![memory(process)],
        }
    }

    fn sample(&mut self) {
        self.samples.push(memory(self.process));
    }
}

/// A backlog builds up while the database blocks the worker; then the worker and the order service drain it.
async fn memory_stays_flat(backlog: i32) {
    let world = World::alone().await;
    let product = world.product(PRICE, backlog).await;
    let mut services = ["inventory-worker", "order"].map(|part| Memory::of(&world, part));
    let holder = backlog_waits(&world, product, backlog, || services[0].sample()).await;
    let worker = &world.stack.worker_url;
    let paused = |shown: &Value| shown["paused"] == true && shown["retrying"] == "transient";
    world
        .shows(worker, "listener", "it is paused", paused)
        .await;
    services[0].sample();
    let held = services[0].samples.len();

    holder.rollback().await.unwrap();
    let (from, mut left, mut halves) = (Instant::now(), backlog, [held, 1]);
    while left > 0 {
        tokio::time::sleep(POLL_INTERVAL).await;
        services.iter_mut().for_each(Memory::sample);
        left = sqlx::query_scalar(
            "select count(*)::integer from orders where product_id = $1 and status = 'pending'",
        )
        .bind(product)
        .fetch_one(&world.order_db)
        .await
        .unwrap();
        if left > backlog / 2 {
            halves = services.each_ref().map(|service| service.samples.len());
        }
        assert!(from.elapsed() < 20 * WITHIN, "{left} orders are left");
    }
    println!(
        "{backlog} orders settled after {:.1?}; {} kB at most while held",
        from.elapsed(),
        services[0].samples[..held].iter().max().unwrap()
    );
    for (service, half) in services.iter().zip(halves) {
        let (first, second) = service.samples.split_at(half);
        let most = |looks: &[u64]| looks.iter().copied().max().unwrap();
        let (part, first, second) = (service.part, most(first), most(second));
        println!(
            "{part}: {} kB before, {first} kB at most until half of them were settled, {second} kB after",
            service.samples[0]
        );
        assert!(first.max(second) < MEMORY, "{part}");
        assert!(second <= first + first / 10, "{part} grows");
    }
    world.adopt_all().await;
    world.invariant_holds().await;
    // Other tests read the topics from the beginning.
    for topic in ["order", "reservation"] {
        world.lose_messages(topic).await;
    }
}

/// Back-pressure holds for newly assigned partitions too.
#[tokio::test]
async fn partitions_assigned_during_a_pause_wait_in_kafka() {
    let world = World::alone().await;
    let first = &world.stack.worker_url;
    let second = Service::start(world.stack, Binary::InventoryWorker, &[]).await;
    let half = |shown: &Value| shown["partitions"] == 3;
    let product = world.product(PRICE, BACKLOG).await;
    for url in [first, &second.url] {
        world
            .shows(url, "listener", "it holds half of the partitions", half)
            .await;
    }
    let holder = backlog_waits(&world, product, BACKLOG, || {}).await;
    let retries = |shown: &Value| shown["retries"].as_u64().unwrap();
    let (_, body) = world.readiness(first).await;
    let before = retries(&body["checks"]["listener"]);
    // The first attempt may be one of few messages; the second takes more from the buffer.
    let paused = |shown: &Value| shown["paused"] == true && retries(shown) >= before + 2;
    world.shows(first, "listener", "it is paused", paused).await;
    let mut memory = Memory::of(&world, "inventory-worker");
    second.signal(Signal::SIGKILL);
    let all = |shown: &Value| shown["partitions"] == 6 && shown["paused"] == true;
    world
        .shows(first, "listener", "it holds all partitions", all)
        .await;
    let (_, body) = world.readiness(first).await;
    let before = retries(&body["checks"]["listener"]);
    // Two more attempts take long enough to read everything.
    eventually(WITHIN, "it attempts twice more", async || {
        memory.sample();
        let (_, body) = world.readiness(first).await;
        match &body["checks"]["listener"] {
            shown if retries(shown) >= before + 2 => Ok(()),
            shown => Err(shown.to_string()),
        }
    })
    .await;
    let grown = memory.samples.iter().max().unwrap() - memory.samples[0];
    println!("{grown} kB more, of {} kB", memory.samples[0]);
    assert!(grown < GROWTH, "{grown} kB more");

    holder.rollback().await.unwrap();
    let orders = world.adopt_all().await;
    world.all_settled(5 * WITHIN, &orders).await;
    world.invariant_holds().await;
    // Other tests read the topics from the beginning.
    for topic in ["order", "reservation"] {
        world.lose_messages(topic).await;
    }
}
