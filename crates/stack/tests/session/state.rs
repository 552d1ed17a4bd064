//! The state that `up` creates, `down` keeps and `down --clean` removes.

use std::fs::{self, File};
use std::net::TcpListener;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stack::ports::Ports;

use crate::home::Home;
use crate::world::World;

const PRICE: i32 = 7;

#[tokio::test]
async fn orders_and_stock_survive_down_and_up_and_are_gone_after_down_clean() {
    let home = Home::new();
    home.run(&["up"]).await;
    let stack = home.description();
    let world = World::on(stack, File::lock_shared).await;
    let product = world.product(PRICE, 10).await;
    let order = world.place(product, PRICE, 3).await;
    assert_eq!(world.settled(order).await["status"], "confirmed");
    assert_eq!(world.stock(product).await, 7);
    // A new connector may not have read yet, which is a warning.
    let said = home.run(&["status"]).await;
    for line in [
        "order: ready",
        "inventory-worker: ready",
        "connector order-outbox: running",
        "connector inventory-outbox: running",
        "everything is up",
    ] {
        assert!(said.contains(line), "no {line:?} in:\n{said}");
    }

    home.run(&["down"]).await;
    let mut status = home.start(&["status"]);
    assert!(!status.ended().await.success());
    assert!(status.said().contains("nothing is up"), "{}", status.said());
    home.is_quiet().await;
    home.run(&["up"]).await;
    assert_eq!(
        home.description().addresses(),
        stack.addresses(),
        "the addresses are the same"
    );
    let (status, shown) = world.show(&order.to_string()).await;
    assert_eq!(
        (status, &shown["status"]),
        (200, &"confirmed".into()),
        "{shown}"
    );
    assert_eq!(world.stock(product).await, 7);
    let another = world.place(product, PRICE, 2).await;
    assert_eq!(world.settled(another).await["status"], "confirmed");
    assert_eq!(world.stock(product).await, 5, "no order was applied twice");
    world.invariant_holds().await;

    home.run(&["down", "--clean"]).await;
    home.is_quiet().await;
    assert!(!home.state().exists(), "the data is removed");
}

/// `up` is interrupted, as by Ctrl-C, or its supervisor killed while only some parts are up.
#[tokio::test]
async fn an_interrupted_up_leaves_no_process_and_the_next_one_works() {
    let home = Home::new();
    let mut up = home.start(&["up"]);
    up.says("PostgreSQL with order_db is ready").await;
    for arguments in [&["status"][..], &["demo", "--once"]] {
        let mut early = home.start(arguments);
        assert!(!early.ended().await.success());
        assert!(early.said().contains("starting"), "{}", early.said());
    }
    up.signal(Signal::SIGINT);
    assert!(!up.ended().await.success());
    assert!(up.said().contains("interrupted"), "{}", up.said());
    home.is_quiet().await;

    let mut up = home.start(&["up"]);
    up.says("Kafka is ready").await;
    let supervisor = fs::read_to_string(home.state().join("run/lock")).unwrap();
    kill(Pid::from_raw(supervisor.parse().unwrap()), Signal::SIGKILL).unwrap();
    assert!(!up.ended().await.success());
    assert!(
        up.said().contains("the stack did not become ready"),
        "{}",
        up.said()
    );
    home.is_quiet().await;

    home.run(&["up"]).await;
    let world = World::on(home.description(), File::lock_shared).await;
    world.still_flows().await;
}

#[tokio::test]
async fn two_ups_at_once_start_one_stack() {
    let home = Home::new();
    let (one, other) = tokio::join!(home.run(&["up"]), home.run(&["up"]));
    let already = |said: &str| said.contains("the stack is up already");
    assert!(already(&one) != already(&other), "{one}\n{other}");
    let addresses = home.description().addresses();
    for said in [one, other] {
        assert!(said.contains(&addresses), "{said}");
    }
    let processes = home.processes();
    for part in [
        "supervise",
        "kafka.Kafka",
        "ConnectDistributed",
        "reconcile",
    ] {
        let running = processes
            .iter()
            .filter(|(_, command)| command.contains(part))
            .count();
        assert_eq!(running, 1, "{part}: {processes:?}");
    }
    assert!(home.run(&["up"]).await.contains("the stack is up already"));
    home.run(&["down"]).await;
    home.is_quiet().await;
}

#[tokio::test]
async fn a_busy_port_is_named_with_its_part_and_its_owner() {
    let home = Home::new();
    let ports = Ports::free().unwrap();
    let run = home.state().join("run");
    fs::create_dir_all(&run).unwrap();
    fs::write(run.join("ports.json"), serde_json::to_vec(&ports).unwrap()).unwrap();
    let taken = TcpListener::bind(("127.0.0.1", ports.order)).unwrap();
    let mut up = home.start(&["up"]);
    assert!(!up.ended().await.success());
    let (said, owner) = (up.said(), std::process::id());
    let expected = format!(
        "port {}, for the Order Service, is taken by process {owner}",
        ports.order
    );
    assert!(said.contains(&expected), "{said}");
    home.is_quiet().await;
    drop(taken);
}
