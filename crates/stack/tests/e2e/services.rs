//! Services as processes: they stop gracefully, name what is wrong, and survive clients that disconnect.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use stack::testing::{Binary, Service};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixDatagram};

use crate::world::{World, eventually};

#[tokio::test]
async fn sigterm_finishes_the_work_in_flight_within_seconds() {
    let world = World::new().await;
    for binary in [Binary::Order, Binary::Inventory, Binary::InventoryWorker] {
        // With a group of its own the stack's services keep their partitions.
        let group = format!("stopped-{}", uuid::Uuid::now_v7().simple());
        let settings = [("KAFKA__GROUP", group.as_str()), ("KAFKA__NAME", "stopped")];
        let settings: &[(&str, &str)] = if binary == Binary::Inventory {
            &[]
        } else {
            &settings
        };
        let service = Service::start(world.stack, binary, settings).await;
        let (_, live) = world.get(&format!("{}/health/live", service.url)).await;
        assert_eq!(live, json!({ "state": "live" }));
        let began = Instant::now();
        let status = service.terminate();
        assert!(status.success(), "{binary:?}: {status}");
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{binary:?}: {:?}",
            began.elapsed()
        );
    }
    world.still_flows().await;
}

/// systemd starts the units that are ordered after a service when that one has notified it.
#[tokio::test]
async fn a_service_notifies_its_supervisor_when_it_is_ready_and_when_it_stops() {
    let world = World::new().await;
    for binary in [Binary::Order, Binary::Inventory, Binary::InventoryWorker] {
        let unique = uuid::Uuid::now_v7().simple().to_string();
        let path = std::env::temp_dir().join(format!("notify-{unique}"));
        let socket = UnixDatagram::bind(&path).unwrap();
        let settings = [
            ("KAFKA__GROUP", unique.as_str()),
            ("KAFKA__NAME", "notifies"),
        ];
        let settings: &[(&str, &str)] = if binary == Binary::Inventory {
            &[]
        } else {
            &settings
        };
        let service = Service::spawn_under(
            &[("NOTIFY_SOCKET", path.as_os_str())],
            world.stack,
            binary,
            settings,
        )
        .unwrap();
        notified(&socket, "READY=1").await;
        let (ready, _) = world.readiness(&service.url).await;
        assert_eq!(ready, 200, "{binary:?}");
        let status = tokio::task::spawn_blocking(|| service.terminate());
        notified(&socket, "STOPPING=1").await;
        assert!(status.await.unwrap().success(), "{binary:?}");
        std::fs::remove_file(path).unwrap();
    }
    world.still_flows().await;
}

/// Waits for a notification with the line `word`.
async fn notified(socket: &UnixDatagram, word: &str) {
    let mut bytes = [0; 1024];
    loop {
        let length = tokio::time::timeout(Duration::from_secs(30), socket.recv(&mut bytes)).await;
        let length = length
            .unwrap_or_else(|_| panic!("no notification {word}"))
            .unwrap();
        if std::str::from_utf8(&bytes[..length])
            .unwrap()
            .lines()
            .any(|line| line == word)
        {
            return;
        }
    }
}

#[tokio::test]
async fn orders_in_flight_at_sigterm_are_either_answered_or_not_stored_and_none_is_lost() {
    let world = World::new().await;
    let product = world.product(4, 1_000).await;
    let group = format!("stopped-{}", uuid::Uuid::now_v7().simple());
    let settings = [("KAFKA__GROUP", group.as_str()), ("KAFKA__NAME", "stopped")];
    let service = Service::start(world.stack, Binary::Order, &settings).await;
    let body = json!({ "product_id": product, "estimated_price": 4, "quantity": 1 }).to_string();
    let url = format!("{}/orders", service.url);
    let requests = (0..200).map(|_| {
        let request = world.http.post(&url).body(body.clone());
        tokio::spawn(async move {
            request
                .send()
                .await?
                .error_for_status()?
                .json::<Value>()
                .await
        })
    });
    let requests: Vec<_> = requests.collect();
    eventually(
        Duration::from_secs(10),
        "the first order is stored",
        async || {
            if world.stored(product).await > 0 {
                Ok(())
            } else {
                Err("none".to_owned())
            }
        },
    )
    .await;
    service.signal(Signal::SIGTERM);
    let mut answered = 0;
    for request in requests {
        if let Ok(answer) = request.await.unwrap() {
            let id = answer["id"].as_str().unwrap();
            assert_eq!(
                world.show(id).await.0,
                200,
                "an order that was answered is stored"
            );
            world.adopt(id.parse().unwrap());
            answered += 1;
        }
    }
    assert!(service.terminate().success());
    assert_eq!(world.stored(product).await, answered);
    world.invariant_holds().await;
}

/// sqlx's `begin` is not cancel-safe. A handler that is dropped with its client could leave a pooled connection in a
/// transaction, which the connection's next user would write to.
#[tokio::test]
async fn a_client_that_disconnects_cannot_corrupt_a_pooled_connection() {
    let world = World::new().await;
    let product = world.product(4, 10_000).await;
    let address = world
        .stack
        .order_url
        .trim_start_matches("http://")
        .to_owned();
    let body = json!({ "product_id": product, "estimated_price": 4, "quantity": 1 }).to_string();
    let length = body.len();
    let request =
        format!("POST /orders HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}");
    // This lock blocks every insert, so the requests are in their handlers when the clients disconnect.
    let mut holder = world.order_db.begin().await.unwrap();
    sqlx::query("lock table orders in share mode")
        .execute(&mut *holder)
        .await
        .unwrap();
    let mut clients = Vec::new();
    for _ in 0..100 {
        let mut client = TcpStream::connect(&address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        clients.push(client);
    }
    eventually(Duration::from_secs(4), "the service's transactions wait", async || {
        let waiting: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity where usename = 'order_service' and wait_event_type = 'Lock'",
        )
        .fetch_one(&mut *holder)
        .await
        .unwrap();
        if waiting > 0 { Ok(()) } else { Err("none waits".to_owned()) }
    })
    .await;
    drop(clients);
    holder.rollback().await.unwrap();
    let order = world.place(product, 4, 1).await;
    world.settled(order).await;
    let stuck: i64 = sqlx::query_scalar(
        "select count(*) from pg_stat_activity
         where usename = 'order_service' and state like 'idle in transaction%' and now() - state_change > interval '1 s'",
    )
    .fetch_one(&world.order_db)
    .await
    .unwrap();
    assert_eq!(stuck, 0);
    // Every stored order has its event and is settled like any other.
    let stored: Vec<uuid::Uuid> = sqlx::query_scalar("select id from orders where product_id = $1")
        .bind(product)
        .fetch_all(&world.order_db)
        .await
        .unwrap();
    for id in stored {
        world.adopt(id);
    }
    world.invariant_holds().await;
}

#[tokio::test]
async fn a_missing_database_is_a_named_error_with_the_next_step() {
    let world = World::new().await;
    let settings = [("DATABASE__NAME", "nowhere")];
    let service = Service::spawn(world.stack, Binary::Inventory, &settings).unwrap();
    eventually(
        Duration::from_secs(10),
        "the service names what is missing",
        async || {
            let log = std::fs::read_to_string(&service.log).unwrap();
            let named = log.contains("nowhere")
                && log.contains("does not exist")
                && log.contains("migrate");
            if named { Ok(()) } else { Err(log) }
        },
    )
    .await;
    world.still_flows().await;
}

#[tokio::test]
async fn the_outbox_is_append_only() {
    let world = World::new().await;
    for statement in [
        "update outbox set type = 'x'",
        "delete from outbox",
        "select * from outbox",
    ] {
        let options = world.stack.order_db.options("order_service");
        let database = sqlx::postgres::PgPoolOptions::new()
            .connect_with(options)
            .await
            .unwrap();
        let refused = sqlx::query(statement).execute(&database).await.unwrap_err();
        assert_eq!(
            refused.as_database_error().unwrap().code().unwrap(),
            "42501",
            "{statement}"
        );
    }
    world.still_flows().await;
}
