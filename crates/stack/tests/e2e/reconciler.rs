//! The reconciler: connectors are as a folder declares them, and failed ones are restarted.

use std::path::PathBuf;
use std::time::Duration;

use connect::{Client, Reconciler, State};
use serde_json::{Map, Value, json};
use stack::context::Context;
use stack::testing::{self, Binary};
use uuid::Uuid;

use crate::world::{World, eventually};

/// A folder, its reconciler, and a connector of a database of its own.
struct Fixture {
    world: World,
    client: Client,
    folder: PathBuf,
    reconciler: Reconciler,
    name: String,
    config: Map<String, Value>,
    database: testing::Database,
}

impl Fixture {
    async fn new(world: World) -> Self {
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

    fn declare(&self, config: &Map<String, Value>) {
        let text = json!({ "name": self.name, "config": config }).to_string();
        std::fs::write(self.folder.join("it.json"), text).unwrap();
    }

    /// Runs passes until nothing is left to do.
    async fn settle(&mut self) {
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
    fixture.settle().await;
    assert!(
        fixture
            .client
            .status(&fixture.name)
            .await
            .unwrap()
            .is_running()
    );

    let mut changed = fixture.config.clone();
    changed.insert("poll.interval.ms".to_owned(), "20".into());
    fixture.declare(&changed);
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
async fn a_task_that_failed_is_restarted_until_it_runs() {
    // Alone, since a role belongs to the whole server.
    let mut fixture = Fixture::new(World::alone().await).await;
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
            if pass.restarted.contains_key(&fixture.name) {
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
