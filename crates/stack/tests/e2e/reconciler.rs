//! The reconciler: connectors are as a folder declares them, and failed ones are restarted.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use connect::{Client, Reconciler, State};
use serde_json::{Map, Value, json};
use stack::context::Context;
use stack::testing::{self, Binary};
use uuid::Uuid;

use crate::world::{World, eventually};

/// A folder, its reconciler, and a connector of a database of its own.
pub(crate) struct Fixture {
    pub(crate) world: World,
    client: Client,
    folder: PathBuf,
    reconciler: Reconciler,
    pub(crate) name: String,
    pub(crate) config: Map<String, Value>,
    database: testing::Database,
}

impl Fixture {
    pub(crate) async fn new(world: World) -> Self {
        let database = testing::database(Context::Order).await;
        let stack = testing::Description {
            order_db: database.clone(),
            ..world.stack.clone()
        };
        stack::services::migrate(&stack, Binary::Order)
            .await
            .unwrap();
        let mut config = stack::services::connector(&stack, Binary::Order)
            .await
            .unwrap()
            .config;
        let name = format!("made_{}", Uuid::now_v7().simple());
        for key in ["slot.name", "topic.prefix"] {
            config.insert(key.to_owned(), name.clone().into());
        }
        // Its heartbeats are not events.
        let heartbeat = format!(r"{name}\.public\.heartbeat");
        config.insert("predicates.heartbeat.pattern".to_owned(), heartbeat.into());
        let topics = format!(r"order,__debezium-heartbeat\.{name}");
        config.insert("topic.creation.events.include".to_owned(), topics.into());
        let client = Client::new(&world.stack.connect_url).unwrap();
        let folder = world.stack.logs.join(&name);
        std::fs::create_dir(&folder).unwrap();
        let reconciler = Reconciler::new(client.clone(), &folder, &name);
        Self {
            world,
            client,
            folder,
            reconciler,
            name,
            config,
            database,
        }
    }

    pub(crate) fn declare(&self, config: &Map<String, Value>) {
        self.declare_in("running", config);
    }

    fn declare_in(&self, state: &str, config: &Map<String, Value>) {
        let text = json!({ "name": self.name, "config": config, "state": state }).to_string();
        std::fs::write(self.folder.join("it.json"), text).unwrap();
    }

    /// The command `connect diff` of the folder: its exit code, and what it says.
    fn diff(&self) -> (Option<i32>, String) {
        let url = &self.world.stack.connect_url;
        let output = Command::new(self.world.stack.binaries.join("connect"))
            .args(["--url", url, "diff", "--owner", &self.name])
            .arg(&self.folder)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), said)
    }

    /// Whether its connector has the mark of a re-read.
    pub(crate) async fn is_rereading(&self) -> bool {
        self.client.all().await.unwrap()[&self.name].is_rereading()
    }

    pub(crate) async fn is_running(&self) -> bool {
        self.client.status(&self.name).await.unwrap().is_running()
    }

    /// Waits until its connector runs by itself.
    pub(crate) async fn runs(&self) {
        eventually(Duration::from_secs(60), "the connector runs", async || {
            let status = self.client.status(&self.name).await;
            let status = status.map_err(|error| error.to_string())?;
            if status.is_running() {
                Ok(())
            } else {
                Err(status.to_string())
            }
        })
        .await;
    }

    /// Removes the connector.
    pub(crate) async fn end(mut self) {
        std::fs::remove_file(self.folder.join("it.json")).unwrap();
        self.reconciler.pass().await.unwrap();
        self.world.still_flows().await;
    }

    /// Runs passes until nothing is left to do.
    pub(crate) async fn settle(&mut self) {
        let reconciler = tokio::sync::Mutex::new(&mut self.reconciler);
        eventually(
            Duration::from_secs(60),
            "the connectors are as declared",
            async || match reconciler.lock().await.pass().await {
                Ok(pass) if pass.is_settled() => Ok(()),
                other => Err(format!("{other:?}")),
            },
        )
        .await;
    }
}

#[tokio::test]
async fn connectors_are_created_changed_and_removed_as_their_files_say() {
    let mut fixture = Fixture::new(World::new().await).await;
    let before = fixture.client.list().await.unwrap();
    assert!(before.len() >= 2 && !before.contains(&fixture.name));
    fixture.declare(&fixture.config);
    let (code, said) = fixture.diff();
    assert_eq!(code, Some(3));
    assert!(said.contains("would be created"), "{said}");
    fixture.settle().await;
    assert_eq!(fixture.diff(), (Some(0), String::new()));
    assert!(
        fixture
            .client
            .status(&fixture.name)
            .await
            .unwrap()
            .is_running()
    );

    let mut changed = fixture.config.clone();
    changed.insert("poll.interval.ms".to_owned(), 20.into());
    fixture.declare(&changed);
    let shown = format!("{}\n  poll.interval.ms: 10 -> 20\n", fixture.name);
    assert_eq!(fixture.diff(), (Some(3), shown));
    let pass = fixture.reconciler.pass().await.unwrap();
    assert_eq!(pass.put, [fixture.name.clone()]);
    fixture.settle().await;
    let all = fixture.client.all().await.unwrap();
    assert_eq!(all[&fixture.name].info.config["poll.interval.ms"], "20");

    // Neither a broken file nor a missing folder removes anything.
    std::fs::write(fixture.folder.join("broken.json"), "{").unwrap();
    assert!(
        fixture
            .reconciler
            .pass()
            .await
            .unwrap_err()
            .to_string()
            .contains("broken.json")
    );
    std::fs::remove_file(fixture.folder.join("broken.json")).unwrap();
    let hidden = fixture.folder.with_extension("hidden");
    std::fs::rename(&fixture.folder, &hidden).unwrap();
    fixture.reconciler.pass().await.unwrap_err();
    assert!(fixture.client.list().await.unwrap().contains(&fixture.name));
    std::fs::rename(&hidden, &fixture.folder).unwrap();

    // A connector that another reconciler created is left alone, whether it is declared here or not.
    let foreign =
        json!({ "name": "order-outbox", "config": { "connector.class": "x" } }).to_string();
    std::fs::write(fixture.folder.join("foreign.json"), foreign).unwrap();
    let pass = fixture.reconciler.pass().await.unwrap();
    assert_eq!(pass.foreign, ["order-outbox"]);
    std::fs::remove_file(fixture.folder.join("foreign.json")).unwrap();

    std::fs::remove_file(fixture.folder.join("it.json")).unwrap();
    let pass = fixture.reconciler.pass().await.unwrap();
    assert_eq!(pass.removed, [fixture.name.clone()]);
    eventually(
        Duration::from_secs(30),
        "only that connector is gone",
        async || {
            let list = fixture.client.list().await.unwrap();
            let all_others = before.iter().all(|name| list.contains(name));
            assert!(all_others, "{list:?}");
            if list.contains(&fixture.name) {
                Err("it still exists".to_owned())
            } else {
                Ok(())
            }
        },
    )
    .await;
    fixture.world.still_flows().await;
}

#[tokio::test]
async fn a_connector_is_kept_in_the_state_that_its_file_declares() {
    let mut fixture = Fixture::new(World::new().await).await;
    let (name, config) = (fixture.name.clone(), fixture.config.clone());
    let client = fixture.client.clone();
    let state = async || client.status(&name).await.unwrap().connector.state;
    // It begins stopped, and never runs.
    fixture.declare_in("stopped", &config);
    fixture.settle().await;
    assert_eq!(state().await, State::Stopped);
    fixture.declare_in("running", &config);
    assert_eq!(
        fixture.diff().1,
        format!("{name}\n  state: stopped -> running\n")
    );
    fixture.settle().await;
    assert!(fixture.is_running().await);
    fixture.declare_in("paused", &config);
    fixture.settle().await;
    assert_eq!(state().await, State::Paused);
    // An operator's word by the API alone does not last.
    client.resume(&name).await.unwrap();
    fixture.runs().await;
    fixture.settle().await;
    assert_eq!(state().await, State::Paused);
    fixture.declare(&config);
    fixture.settle().await;
    for held in ["pause", "stop"] {
        match held {
            "pause" => client.pause(&name).await.unwrap(),
            _ => client.stop(&name).await.unwrap(),
        }
        eventually(Duration::from_secs(30), "it is held", async || {
            let state = state().await;
            let is_held = matches!(state, State::Paused | State::Stopped);
            if is_held {
                Ok(())
            } else {
                Err(state.to_string())
            }
        })
        .await;
        fixture.settle().await;
        assert!(fixture.is_running().await);
    }
    fixture.end().await;
}

#[tokio::test]
async fn a_name_of_any_characters_is_one_name_in_kafka_connects_urls() {
    let mut fixture = Fixture::new(World::new().await).await;
    fixture.name = format!("ä b?c#{}", fixture.name);
    fixture.declare(&fixture.config);
    fixture.settle().await;
    assert!(fixture.is_running().await);
    // A connector whose name Kafka Connect's server refuses in a URL does not hold up the others.
    let slash = json!({ "name": "a/b c", "config": fixture.config }).to_string();
    std::fs::write(fixture.folder.join("slash.json"), slash).unwrap();
    let pass = fixture.reconciler.pass().await.unwrap();
    assert!(pass.refused["a/b c"].contains("rename"), "{pass:?}");
    std::fs::remove_file(fixture.folder.join("slash.json")).unwrap();
    fixture.end().await;
}

#[tokio::test]
async fn a_task_that_failed_is_restarted_until_it_runs() {
    // Alone, since a role belongs to the whole server.
    let mut fixture = Fixture::new(World::alone().await).await;
    // As a file may have it: Kafka Connect stores strings.
    fixture.config.insert("tasks.max".to_owned(), 1.into());
    fixture.declare(&fixture.config);
    fixture.settle().await;
    let superuser = sqlx::PgPool::connect_lazy_with(fixture.database.superuser());
    let set =
        async |statement: &'static str| sqlx::raw_sql(statement).execute(&superuser).await.unwrap();
    // Dropping the publication would not do: events written meanwhile could never be decoded.
    set("alter role order_cdc nologin").await;
    set("select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name like 'made%'").await;
    eventually(
        Duration::from_secs(60),
        "the task has failed and is restarted",
        async || {
            let pass = fixture.reconciler.pass().await.unwrap();
            if let Some(why) = pass.restarted.get(&fixture.name) {
                // The last cause, not the exception around it.
                assert!(why.starts_with("org.postgresql"), "{why}");
                Ok(())
            } else {
                Err(format!("{pass:?}"))
            }
        },
    )
    .await;
    set("alter role order_cdc login").await;
    fixture.settle().await;
    let status = fixture.client.status(&fixture.name).await.unwrap();
    assert_eq!(status.tasks[0].state, State::Running);
    std::fs::remove_file(fixture.folder.join("it.json")).unwrap();
    fixture.reconciler.pass().await.unwrap();
    fixture.world.still_flows().await;
}
