//! Topics that are other than declared, or deleted under a running flow.

use std::process::Command;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use stack::testing::Binary;
use stack::topic;

use crate::flow::{Flow, PRICE};
use crate::slot::reread;
use crate::world::{World, eventually};

/// How long the topic may be missing in silence.
const NOTICED: Duration = Duration::from_secs(60);

/// Runs a command of a service; returns what it answers, or says of its error.
fn run(world: &World, binary: Binary, arguments: &[&str]) -> Result<String, String> {
    let done = Command::new(world.stack.binaries.join(binary.name()))
        .args(arguments)
        .envs(binary.settings(world.stack))
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if done.status.success() {
        Ok(text(&done.stdout))
    } else {
        Err(text(&done.stderr))
    }
}

/// The retention was shortened behind the specification's back: events that no listener has read would be lost.
#[tokio::test]
async fn check_outbox_names_a_topic_with_other_settings_and_apply_topics_mends_it() {
    let world = World::alone().await;
    let kafka = world.stack.kafka.as_str();
    let admin: AdminClient<_> = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .create()
        .unwrap();
    // The Order Service knows Kafka's address from its settings.
    for (binary, name, address) in [
        (Binary::Order, "order", &[][..]),
        (Binary::Inventory, "reservation", &["--kafka", kafka][..]),
    ] {
        let command = |command| [&[command], address].concat();
        let (check, apply) = (command("check-outbox"), command("apply-topics"));
        run(&world, binary, &check).unwrap();
        let shorter =
            AlterConfig::new(ResourceSpecifier::Topic(name)).set("retention.ms", "518400000");
        admin
            .alter_configs([&shorter], &AdminOptions::new())
            .await
            .unwrap();
        let drift =
            format!("topic {name}, retention.ms: the outbox needs 604800000, and has 518400000");
        eventually(
            Duration::from_secs(20),
            "the drift is named",
            async || match run(&world, binary, &check) {
                Err(said) if said.contains(&drift) => Ok(()),
                other => Err(format!("{other:?}")),
            },
        )
        .await;
        let applied = run(&world, binary, &apply).unwrap();
        let change = format!("topic {name}: retention.ms is 604800000, was 518400000");
        assert!(applied.contains(&change), "{applied}");
        let checked = run(&world, binary, &check).unwrap();
        assert_eq!(
            checked,
            "database and topics are as the outbox needs them\n"
        );
    }
    let unknown = run(&world, Binary::Inventory, &["apply-topics"]).unwrap_err();
    assert!(unknown.contains("--kafka ADDRESS"), "{unknown}");
}

/// Messages go with the topic, and Kafka Connect's producer waits for the topic that it has seen: a limit of that wait would let a
/// key's later event overtake an earlier one. So the listener names the topic, and reading the outbox again recreates it.
#[tokio::test]
async fn a_deleted_topic_is_recreated_or_named_within_a_minute_and_reread_heals_it() {
    let flow = Flow::new().await;
    let world = &flow.world;
    world.orders_are_carried().await;
    let from = Instant::now();
    topic::delete(&world.stack.kafka, "order").await.unwrap();
    for _ in 0..20 {
        world.place(flow.product, PRICE, 1).await;
    }
    eventually(NOTICED, "the topic is recreated, or named", async || {
        if topic::exists(&world.stack.kafka, "order").unwrap() {
            return Ok(());
        }
        let (_, body) = world.readiness(&world.stack.worker_url).await;
        let said = body["checks"]["listener"].to_string();
        if said.contains("topic order") {
            Ok(())
        } else {
            Err(said)
        }
    })
    .await;
    println!("recreated or named after {:.1?}", from.elapsed());
    // The first recreates the topic if Kafka Connect has not; it is as declared either way.
    run(world, Binary::Order, &["apply-topics"]).unwrap();
    run(world, Binary::Order, &["check-outbox"]).unwrap();
    reread(world);
    flow.heals("topic deleted, outbox read again", from).await;
}
