//! A part that dies while the demo shows its stack.

use std::fs::File;

use nix::sys::signal::{Signal, kill};
use stack::testing::pid;

use crate::home::Home;
use crate::world::{World, eventually};

#[tokio::test]
async fn up_resumes_a_connector_that_was_stopped_before_it_went_down() {
    let home = Home::new();
    home.run(&["up"]).await;
    let stack = home.description();
    // The reconciler would resume it at once.
    kill(pid(stack, "reconciler").unwrap(), Signal::SIGSTOP).unwrap();
    let client = connect::Client::new(&stack.connect_url).unwrap();
    client.stop("order-outbox").await.unwrap();
    eventually(
        std::time::Duration::from_secs(20),
        "the connector is stopped",
        async || {
            let status = client.status("order-outbox").await.unwrap().to_string();
            if status == "stopped" {
                Ok(())
            } else {
                Err(status)
            }
        },
    )
    .await;
    let mut status = home.start(&["status"]);
    assert!(!status.ended().await.success());
    let resume = format!(
        "connector order-outbox: stopped; resume it: curl -X PUT {}/connectors/order-outbox/resume",
        stack.connect_url
    );
    assert!(status.said().contains(&resume), "{}", status.said());
    home.run(&["down"]).await;
    home.run(&["up"]).await;
    assert!(client.status("order-outbox").await.unwrap().is_running());
    let world = World::on(home.description(), File::lock_shared).await;
    world.still_flows().await;
}

#[tokio::test]
async fn a_part_that_dies_under_the_demo_is_restarted_and_the_demo_reports_it() {
    let home = Home::new();
    let mut demo = home.start(&["demo"]);
    demo.says("Everything stays up until Ctrl-C").await;
    let world = World::on(home.description(), File::lock_shared).await;
    for part in ["order", "inventory-worker"] {
        let killed = pid(world.stack, part).unwrap();
        kill(killed, Signal::SIGKILL).unwrap();
        demo.says(&format!(
            "{part} ended (signal: 9 (SIGKILL)); restarting it"
        ))
        .await;
        eventually(
            std::time::Duration::from_secs(20),
            "another process has replaced it",
            async || match pid(world.stack, part) {
                Some(now) if now != killed => Ok(()),
                other => Err(format!("{other:?}")),
            },
        )
        .await;
    }
    let product = world.product(5, 5).await;
    world.place_in_the_end(product, 5).await;
    world.adopt_all().await;
    world.invariant_holds().await;

    demo.signal(Signal::SIGINT);
    assert!(demo.ended().await.success(), "{}", demo.said());
    assert!(demo.said().contains("everything is stopped"));
    home.is_quiet().await;
}
