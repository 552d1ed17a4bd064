//! A release that is rolled back: the older programs on the newer schema.

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};
use stack::services;
use stack::testing::{Binary, Description, Service};

use crate::world::World;

/// What a newer release may add to any database of the flow, and how it records that.
const NEWER: &str = "
    alter table outbox add newer text;
    alter table inbox add newer integer default 1 not null;
    create table newer (id integer);
    insert into _outbox_publisher_migrations (version, description, success, checksum, execution_time)
        values (1000, 'newer', true, 'x', 0);
    insert into _outbox_listener_migrations select * from _outbox_publisher_migrations where version = 1000;
    insert into _sqlx_migrations select * from _outbox_publisher_migrations where version = 1000";

const AS_BEFORE: &str = "
    alter table outbox drop if exists newer;
    alter table inbox drop if exists newer;
    drop table if exists newer;
    delete from _outbox_publisher_migrations where version = 1000;
    delete from _outbox_listener_migrations where version = 1000;
    delete from _sqlx_migrations where version = 1000";

async fn execute(database: &PgConnectOptions, statements: &'static str) -> sqlx::Result<()> {
    let mut connection = database.connect().await?;
    sqlx::raw_sql(statements).execute(&mut connection).await?;
    connection.close().await
}

/// The newer schema. Dropping it restores the older one, since other tests use the same databases.
struct Newer([PgConnectOptions; 2]);

impl Newer {
    async fn create(stack: &Description) -> Self {
        let newer = Self([stack.order_db.superuser(), stack.inventory_db.superuser()]);
        for database in &newer.0 {
            execute(database, NEWER).await.unwrap();
        }
        newer
    }
}

impl Drop for Newer {
    fn drop(&mut self) {
        // The runtime of the test cannot wait here, so another one does, on a thread of its own.
        let restored = std::thread::scope(|scope| {
            let restoring = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    for database in &self.0 {
                        execute(database, AS_BEFORE).await.unwrap();
                    }
                });
            });
            restoring.join()
        });
        // A test that fails has its own message.
        assert!(
            restored.is_ok() || std::thread::panicking(),
            "cannot restore the older schema"
        );
    }
}

#[tokio::test]
async fn an_older_release_migrates_starts_and_serves_on_a_newer_additive_schema() {
    let world = World::alone().await;
    let newer = Newer::create(world.stack).await;
    for binary in [Binary::Order, Binary::Inventory] {
        services::migrate(world.stack, binary).await.unwrap();
        services::check_outbox(world.stack, binary).await.unwrap();
    }
    let mut started = Vec::new();
    for binary in [Binary::Order, Binary::Inventory, Binary::InventoryWorker] {
        started.push(Service::start(world.stack, binary, &[]).await);
    }
    world.still_flows().await;
    for service in started {
        assert!(service.terminate().success());
    }
    drop(newer);
    world.still_flows().await;
}
