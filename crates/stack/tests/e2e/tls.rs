//! The flow over TLS: Kafka with `SASL_SSL` and SCRAM, PostgreSQL with `verify-full`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::{Value, json};
use sqlx::ConnectOptions;
use stack::kafka::KAFKA_CLIENT;
use stack::testing::{self, Binary, Service, pid};

use crate::world::health::logs;
use crate::world::{World, eventually};

/// How long a service may take to log a refusal.
const LOGGED: Duration = Duration::from_secs(30);

/// A stopped process. Dropping this continues it.
struct Frozen(Pid);

impl Frozen {
    fn new(process: Pid) -> Self {
        kill(process, Signal::SIGSTOP).unwrap();
        Self(process)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGCONT).unwrap();
    }
}

/// The number of consumers in a group.
fn members(kafka: &str, group: &str) -> usize {
    let admin: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .create()
        .unwrap();
    let groups = admin.fetch_group_list(Some(group), LOGGED).unwrap();
    groups.groups().iter().map(|it| it.members().len()).sum()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[tokio::test]
async fn a_worker_consumes_over_tls_with_a_password_and_is_refused_without_either() {
    let world = World::alone().await;
    let stack = world.stack;
    let certificates = stack.inventory_db.certificates();
    let (right, untrusted) = (
        text(&certificates.authority()),
        text(&certificates.untrusted()),
    );
    let password = text(&stack.inventory_db.secrets.join(KAFKA_CLIENT));
    let wrong = stack.file.with_file_name("wrong-password");
    fs::write(&wrong, "wrong\n").unwrap();
    let wrong = text(&wrong);
    let address = stack.kafka_tls.clone().unwrap();
    let by_number = address.replace("localhost", "127.0.0.1");
    let settings = |address: &str, authority: &str, password: &str| {
        [
            ("KAFKA__BOOTSTRAP_SERVERS", address),
            ("KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SASL_SSL"),
            ("KAFKA__PROPERTIES__SASL_MECHANISM", "SCRAM-SHA-512"),
            ("KAFKA__PROPERTIES__SASL_USERNAME", KAFKA_CLIENT),
            ("KAFKA__PROPERTY_FILES__SASL_PASSWORD", password),
            ("KAFKA__PROPERTIES__SSL_CA_LOCATION", authority),
        ]
        .map(|(key, value)| (key, value.to_owned()))
    };
    let spawn = |settings: &[(&str, String)]| {
        let settings: Vec<(&str, &str)> = settings
            .iter()
            .map(|(key, value)| (*key, value.as_str()))
            .collect();
        Service::spawn(stack, Binary::InventoryWorker, &settings).unwrap()
    };

    // The stack's own worker, which uses no TLS, is stopped: every order settled from now on came over TLS.
    let frozen = Frozen::new(pid(stack, "inventory-worker").unwrap());
    let product = world.product(5, 5).await;
    let order = world.place(product, 5, 2).await;
    for (address, authority, password, why) in [
        (&address, &untrusted, &password, "certificate verify failed"),
        (&by_number, &right, &password, "certificate verify failed"),
        (&address, &right, &wrong, "SASL authentication error"),
    ] {
        // In a group of its own without other members, an accepted worker would become a member at once.
        let group = format!("refused-{}", uuid::Uuid::now_v7().simple());
        let own = ["KAFKA__GROUP", "KAFKA__NAME"].map(|key| (key, group.clone()));
        let refused = spawn(&[&settings(address, authority, password)[..], &own].concat());
        logs(&refused, LOGGED, why).await;
        assert_eq!(members(&stack.kafka, &group), 0, "{why}");
        assert_eq!(world.undecided(&[order]).await, 1, "{why}");
    }
    let worker = spawn(&settings(&address, &right, &password));
    let settled = world.settled(order).await;
    // The stopped worker and this one.
    assert!((1..=2).contains(&members(&stack.kafka, "inventory-worker")));
    assert_eq!(settled["status"], "confirmed");
    let log = fs::read_to_string(&worker.log).unwrap();
    let secret = fs::read_to_string(&password).unwrap();
    assert!(!log.contains(&secret), "the password is in the log");
    drop(frozen);
    world.invariant_holds().await;
}

#[tokio::test]
async fn the_order_service_works_over_tls_with_the_databases_certificate_verified_in_full() {
    let world = World::new().await;
    let stack = world.stack;
    let certificates = stack.order_db.certificates();
    let (right, untrusted) = (
        text(&certificates.authority()),
        text(&certificates.untrusted()),
    );
    let group = format!("tls-{}", uuid::Uuid::now_v7().simple());
    let settings = |host: &'static str, authority| {
        [
            ("KAFKA__GROUP", group.as_str()),
            ("KAFKA__NAME", "tls"),
            ("DATABASE__HOST", host),
            ("DATABASE__SSLMODE", "verify-full"),
            ("DATABASE__SSLROOTCERT", authority),
        ]
    };

    let service = Service::start(stack, Binary::Order, &settings("localhost", &right)).await;
    let product = world.product(4, 10).await;
    let body = json!({ "product_id": product, "estimated_price": 4, "quantity": 1 });
    let url = format!("{}/orders", service.url);
    let placed = world
        .http
        .post(&url)
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(placed.status(), 201);
    let placed: Value = placed.json().await.unwrap();
    let order = placed["id"].as_str().unwrap().parse().unwrap();
    world.adopt(order);
    assert_eq!(world.settled(order).await["status"], "confirmed");
    eventually(LOGGED, "intake and listener are encrypted", async || {
        let encrypted: Vec<(String, String)> = sqlx::query_as(
            "select distinct application_name, version from pg_stat_ssl join pg_stat_activity using (pid)
             where ssl and usename = 'order_service' and datname = $1 order by 1",
        )
        .bind(&stack.order_db.name)
        .fetch_all(&world.order_db)
        .await
        .unwrap();
        let expected = ["order", "order-listener"].map(|name| (name.to_owned(), "TLSv1.3".to_owned()));
        if encrypted == expected { Ok(()) } else { Err(format!("{encrypted:?}")) }
    })
    .await;

    let distrustful =
        Service::spawn(stack, Binary::Order, &settings("localhost", &untrusted)).unwrap();
    logs(
        &distrustful,
        LOGGED,
        "no trusted authority; set `sslrootcert` of `database`",
    )
    .await;
    let other_name = Service::spawn(stack, Binary::Order, &settings("127.0.0.1", &right)).unwrap();
    logs(
        &other_name,
        LOGGED,
        "is for another host; set `host` of `database`",
    )
    .await;

    // The owner's connections are verified too.
    for (authority, is_right) in [(&right, true), (&untrusted, false)] {
        let migrated = Command::new(stack.binaries.join("order"))
            .arg("migrate")
            .envs(Binary::Order.settings(stack))
            .envs(
                settings("localhost", authority)
                    .map(|(key, value)| (format!("ORDER__{key}"), value)),
            )
            .env(
                "ORDER__OWNER__PASSWORD_FILE",
                stack.order_db.secrets.join("order_owner"),
            )
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&migrated.stderr);
        assert_eq!(migrated.status.success(), is_right, "{said}");
    }
    world.invariant_holds().await;
}

#[tokio::test]
async fn kafka_connect_is_reached_over_tls_with_a_client_certificate_and_not_without() {
    let world = World::new().await;
    let (url, access) = testing::connect_over_tls(world.stack).await;
    let (cert, key) = access.identity.unwrap();
    let (right, cert, key) = (text(&access.ca.unwrap()), text(&cert), text(&key));
    // It has not signed the worker's certificate.
    let untrusted = text(&world.stack.order_db.certificates().authority());
    let folder = world
        .stack
        .logs
        .join(format!("tls-{}", uuid::Uuid::now_v7().simple()));
    fs::create_dir(&folder).unwrap();
    let folder = text(&folder);
    let run = |url: &str, options: &[&str]| {
        let output = Command::new(world.stack.binaries.join("connect"))
            .args(["--url", url])
            .args(options)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    let secure = ["--ca", &right, "--cert", &cert, "--key", &key];
    let with_user = url.replace("//", "//operator:s3cret@");
    for command in [&["status"][..], &["diff", &folder]] {
        let (code, said) = run(&with_user, &[&secure[..], command].concat());
        assert_eq!(code, Some(0), "{said}");
    }
    let by_number = with_user.replace("localhost", "127.0.0.1");
    for (url, options) in [
        (&with_user, &["--ca", &right, "status"][..]),
        (
            &with_user,
            &["--ca", &untrusted, "--cert", &cert, "--key", &key, "status"],
        ),
        (&by_number, &[&secure[..], &["status"]].concat()),
        (&with_user, &["--ca", &right, "--cert", &cert, "status"]),
        (&with_user, &["--ca", &key, "status"]),
    ] {
        let (code, said) = run(url, options);
        assert_eq!(code, Some(1), "{options:?}: {said}");
        assert!(!said.contains("s3cret"), "{said}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_accepted_only_where_sslmode_allows_it() {
    let world = World::alone().await;
    let stack = world.stack;
    let switch = async |statement: &'static str, now: &str| {
        let mut connection = stack.inventory_db.superuser().connect().await.unwrap();
        for statement in [statement, "select pg_reload_conf()"] {
            sqlx::query(statement)
                .execute(&mut connection)
                .await
                .unwrap();
        }
        eventually(LOGGED, "the server has its new setting", async || {
            let mut fresh = stack.inventory_db.superuser().connect().await.unwrap();
            let ssl: String = sqlx::query_scalar("show ssl")
                .fetch_one(&mut fresh)
                .await
                .unwrap();
            if ssl == now { Ok(()) } else { Err(ssl) }
        })
        .await;
    };
    let checked = |sslmode: &str| {
        let output = Command::new(stack.binaries.join("inventory"))
            .arg("check-outbox")
            .envs(Binary::Inventory.settings(stack))
            .env("INVENTORY__DATABASE__SSLMODE", sslmode)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), said)
    };
    switch("alter system set ssl = off", "off").await;
    let (prefer, require, verify) = (
        checked("prefer"),
        checked("require"),
        checked("verify-full"),
    );
    switch("alter system reset ssl", "on").await;
    assert!(prefer.0, "{}", prefer.1);
    for (accepted, said) in [require, verify] {
        assert!(!accepted && said.contains("check `sslmode`"), "{said}");
    }
    world.still_flows().await;
}
