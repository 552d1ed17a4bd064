//! The examples of the crate, started as programs against the real stack.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{ConnectOptions, PgConnection};
use stack::testing::{self, Context};

/// How long the listener may take from its start to the last balance.
const TIMEOUT: Duration = Duration::from_secs(60);

struct Environment(BTreeMap<&'static str, String>);

impl Environment {
    fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(testing::example(&format!("examples/{name}.rs")));
        command.args(arguments).envs(&self.0);
        command
    }

    fn run(&self, name: &str, arguments: &[&str]) -> String {
        let Output {
            status,
            stdout,
            stderr,
        } = self.command(name, arguments).output().unwrap();
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }
}

async fn balances(connection: &mut PgConnection) -> Vec<(String, i64)> {
    // Not created before the listener has started.
    let balances = sqlx::query_as("select account, cents::bigint from balance order by account");
    balances.fetch_all(connection).await.unwrap_or_default()
}

#[tokio::test]
async fn what_the_publisher_appends_the_listener_applies_once() {
    let stack = testing::stack().await;
    let database = testing::database(Context::Order).await;
    let owner = database.options("order_owner");
    let secrets = stack.order_db.secrets.display();
    let environment = Environment(BTreeMap::from([
        ("DATABASE_URL", owner.to_url_lossy().to_string()),
        ("KAFKA", stack.kafka.clone()),
        ("CDC_ROLE", "order_cdc".to_owned()),
        (
            "CDC_PASSWORD",
            format!("${{dir:{secrets}/connect:order_cdc}}"),
        ),
    ]));
    environment.run("publisher", &["alice", "2500"]);

    let connector: serde_json::Value =
        serde_json::from_str(&environment.run("connector", &[])).unwrap();
    let (name, config) = (connector["name"].as_str(), connector["config"].as_object());
    let client = connect::Client::new(&stack.connect_url).unwrap();
    client
        .put_config(name.unwrap(), config.unwrap())
        .await
        .unwrap();

    let mut listener = environment
        .command("listener", &[])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    environment.run("publisher", &["bob", "100"]);
    environment.run("publisher", &["alice", "-500"]);
    let mut connection = owner.connect().await.unwrap();
    let expected = [("alice".to_owned(), 2000), ("bob".to_owned(), 100)];
    let deadline = Instant::now() + TIMEOUT;
    while balances(&mut connection).await != expected {
        assert!(
            Instant::now() < deadline,
            "{:?}",
            client.status(name.unwrap()).await
        );
        assert!(
            listener.try_wait().unwrap().is_none(),
            "the listener runs on"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // Ctrl-C lets it finish, and it leaves no connection open.
    let pid = Pid::from_raw(listener.id().try_into().unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    assert!(listener.wait().unwrap().success());
    client.delete(name.unwrap()).await.unwrap();
    // The server has room for few slots.
    let mut superuser = database.superuser().connect().await.unwrap();
    let drop = "select pg_drop_replication_slot('payment_outbox')";
    while let Err(error) = sqlx::query(drop).execute(&mut superuser).await {
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
