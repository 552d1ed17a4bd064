//! A release that is rolled back: the older programs on the newer schema.

use stack::services;
use stack::testing::{Binary, Service};

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
    alter table outbox drop newer;
    alter table inbox drop newer;
    drop table newer;
    delete from _outbox_publisher_migrations where version = 1000;
    delete from _outbox_listener_migrations where version = 1000;
    delete from _sqlx_migrations where version = 1000";

#[tokio::test]
async fn an_older_release_migrates_starts_and_serves_on_a_newer_additive_schema() {
    let world = World::alone().await;
    let databases = [&world.order_db, &world.inventory_db];
    for database in databases {
        sqlx::raw_sql(NEWER).execute(database).await.unwrap();
    }
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
    for database in databases {
        sqlx::raw_sql(AS_BEFORE).execute(database).await.unwrap();
    }
    world.still_flows().await;
}
