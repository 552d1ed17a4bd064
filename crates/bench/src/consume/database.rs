//! The database that messages are applied to: the library's tables and those that the events change.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use outbox::schema::{self, Part, Roles};
use sqlx::postgres::{PgConnection, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgPool};
use stack::context::Context;
use stack::{description, postgres};
use uuid::Uuid;

use super::events::Placed;

/// Products, each ordered equally often.
const PRODUCTS: usize = 100;
const PIECES: i32 = 1_000_000_000;

const TABLES: &str = "
    create table stock (product_id uuid primary key, pieces integer not null);
    create table reserved (order_id uuid primary key, product_id uuid not null, quantity integer not null)";

pub(super) struct Database {
    pub(super) pool: PgPool,
    pub(super) products: Vec<Uuid>,
}

impl Database {
    /// Creates it beside the flow's own on `server`, where no connector reads it.
    pub(super) async fn make(server: &description::Database) -> Result<Self> {
        let maintenance = server.superuser().database("postgres");
        let mut connection = maintenance.connect().await?;
        postgres::create(&mut connection, Context::Inventory, "consumed").await?;
        connection.close().await?;
        let pool = PgPoolOptions::new()
            .max_connections(2)
            .connect_with(server.superuser().database("consumed"))
            .await?;
        let mut owner = pool.acquire().await?;
        let parts = [Part::Publisher, Part::Listener];
        schema::migrate(&mut owner, &parts, &Roles::default()).await?;
        sqlx::raw_sql(TABLES).execute(&mut *owner).await?;
        drop(owner);
        let products: Vec<Uuid> = (0..PRODUCTS).map(|_| Uuid::now_v7()).collect();
        Ok(Self { pool, products })
    }

    /// Restores the state before the first message.
    pub(super) async fn clear(&self) -> Result<()> {
        sqlx::raw_sql("truncate inbox, epoch, outbox, reserved, stock")
            .execute(&self.pool)
            .await?;
        sqlx::query("insert into stock select id, $2 from unnest($1::uuid[]) as product (id)")
            .bind(&self.products)
            .bind(PIECES)
            .execute(&self.pool)
            .await?;
        // Otherwise the next way would pay for flushing what was written before.
        sqlx::raw_sql("checkpoint").execute(&self.pool).await?;
        Ok(())
    }

    /// Verifies that exactly `messages` messages have been applied, each once.
    pub(super) async fn holds(&self, messages: u64) -> Result<()> {
        let (settled, reserved, published, taken): (i64, i64, i64, i64) = sqlx::query_as(
            "select (select count(*) from inbox), (select count(*) from reserved), (select count(*) from outbox),
                    (select sum($1::bigint - pieces)::bigint from stock)",
        )
        .bind(PIECES)
        .fetch_one(&self.pool)
        .await?;
        let all = i64::try_from(messages)?;
        ensure!(
            [settled, reserved, published, taken] == [all; 4],
            "{messages} messages: {settled} in the inbox, {reserved} reserved, {taken} taken, {published} published"
        );
        Ok(())
    }
}

/// Applies the orders: the handler's work, the same by hand and in the library.
pub(super) async fn apply(tx: &mut PgConnection, orders: &[&Placed]) -> Result<(), sqlx::Error> {
    let mut pieces = BTreeMap::new();
    for placed in orders {
        *pieces.entry(placed.item_id).or_insert(0) += placed.quantity;
    }
    let (products, taken): (Vec<Uuid>, Vec<i32>) = pieces.into_iter().unzip();
    sqlx::query(
        "update stock set pieces = pieces - taken.quantity
         from unnest($1::uuid[], $2::integer[]) as taken (product_id, quantity)
         where stock.product_id = taken.product_id",
    )
    .bind(products)
    .bind(taken)
    .execute(&mut *tx)
    .await?;
    let ids = |of: fn(&Placed) -> Uuid| orders.iter().map(|placed| of(placed)).collect::<Vec<_>>();
    sqlx::query(
        "insert into reserved (order_id, product_id, quantity)
         select * from unnest($1::uuid[], $2::uuid[], $3::integer[])",
    )
    .bind(ids(|placed| placed.order_id))
    .bind(ids(|placed| placed.item_id))
    .bind(
        orders
            .iter()
            .map(|placed| placed.quantity)
            .collect::<Vec<_>>(),
    )
    .execute(&mut *tx)
    .await?;
    Ok(())
}
