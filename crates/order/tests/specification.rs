//! Table, grants, publication and connector cannot drift apart: each is broken in turn, and the check names it.

use order::config::Config;
use order::db;
use outbox::specification::Error;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use stack::testing::{Context, database};

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of breakages")]
async fn a_migrated_database_is_as_the_outbox_needs_it_and_every_drift_from_it_is_named() {
    let database = database(Context::Order).await;
    let mut owner = PgConnection::connect_with(&database.options("order_owner"))
        .await
        .unwrap();
    let config = Config::default();
    db::migrate(&mut owner, &config.roles().unwrap())
        .await
        .unwrap();
    let outbox = config.outbox().unwrap();

    let mut service = PgConnection::connect_with(&database.options("order_service"))
        .await
        .unwrap();
    outbox.check(&mut service).await.unwrap();

    let mut superuser = PgConnection::connect_with(&database.superuser())
        .await
        .unwrap();
    for (breakage, named) in [
        (
            "alter table outbox drop column traceparent",
            "table outbox, column traceparent",
        ),
        (
            "alter table outbox rename aggregateid to aggregate",
            "table outbox, column aggregateid",
        ),
        (
            "alter table outbox alter payload type text",
            "table outbox, column payload",
        ),
        (
            "alter table outbox alter seq drop identity",
            "table outbox, column seq",
        ),
        (
            "alter table outbox add strange text not null",
            "table outbox, column strange",
        ),
        (
            "alter table outbox drop constraint outbox_pkey",
            "table outbox, primary key",
        ),
        (
            "alter table outbox drop constraint outbox_payload_size",
            "table outbox, payload",
        ),
        (
            "alter table outbox drop constraint outbox_topic_name",
            "table outbox, aggregatetype",
        ),
        (
            "alter table outbox drop constraint outbox_topics",
            "table outbox, constraint outbox_topics",
        ),
        (
            "alter table outbox drop constraint outbox_topics, add constraint outbox_topics check (aggregatetype in ('a', 'order'))",
            "table outbox, constraint outbox_topics",
        ),
        ("drop index outbox_in_order", "table outbox, column seq"),
        ("drop table outbox", "table outbox, column id"),
        ("drop table heartbeat", "table heartbeat, column at"),
        ("drop publication outbox", "publication outbox"),
        (
            "alter publication outbox set (publish = 'insert, update')",
            "publication outbox",
        ),
        (
            "alter publication outbox drop table heartbeat",
            "publication outbox, tables",
        ),
        (
            "alter publication outbox add table orders",
            "publication outbox, tables",
        ),
        (
            "revoke select on outbox from order_cdc",
            "grants of order_cdc on outbox",
        ),
        (
            "revoke delete on heartbeat from order_cdc",
            "grants of order_cdc on heartbeat",
        ),
        (
            "grant update on outbox to order_cdc",
            "grants of order_cdc on outbox",
        ),
        (
            "revoke insert on outbox from order_service",
            "grants of order_service on outbox",
        ),
        (
            "grant delete on outbox to order_service",
            "grants of order_service on outbox",
        ),
        (
            "revoke select on sequence outbox_seq_seq from order_keeper",
            "grants of order_keeper on the sequence of outbox.seq",
        ),
        (
            "revoke delete on inbox from order_keeper",
            "grants of order_keeper on inbox",
        ),
        ("revoke order_cdc from order_keeper", "role order_keeper"),
        ("alter role order_cdc noreplication", "role order_cdc"),
        ("alter role order_cdc superuser", "role order_cdc"),
        ("alter role order_cdc rename to another", "role order_cdc"),
    ] {
        // Never committed: roles belong to the whole database cluster.
        let mut tx = superuser.begin().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(breakage))
            .execute(&mut *tx)
            .await
            .unwrap();
        let found = outbox.check(&mut tx).await;
        let Err(Error::Drifted(drifts)) = &found else {
            panic!("{breakage}: {found:?}");
        };
        assert!(
            drifts.iter().any(|drift| drift.what == named),
            "{breakage}: {drifts:?}"
        );
        tx.rollback().await.unwrap();
    }
    outbox.check(&mut superuser).await.unwrap();
}
