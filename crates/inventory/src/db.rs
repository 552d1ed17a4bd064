//! The inventory's SQL.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgTransaction;
use sqlx::{FromRow, PgConnection, PgPool};
use uuid::Uuid;

use crate::domain::{Decision, Stocked};
use outbox::schema::{self, Part, Roles};

/// The service's own migrations.
static MIGRATOR: Migrator = sqlx::migrate!("../../migrations/inventory");

/// Brings `inventory_db` up to date, as its owner: the library's tables and grants, then the service's own.
///
/// # Errors
/// The first migration that fails; those before it stay applied.
pub async fn migrate(owner: &mut PgConnection, roles: &Roles) -> Result<(), schema::Error> {
    schema::migrate(owner, &[Part::Publisher, Part::Listener], roles).await?;
    schema::migrate_own(owner, &MIGRATOR).await
}

/// A product, as `GET /products` answers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct Product {
    /// The product's id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Its price per piece.
    pub price: i32,
    /// The pieces in stock.
    pub stock: i32,
}

/// All products, by name.
///
/// # Errors
/// The database's.
pub async fn products(pool: &PgPool) -> Result<Vec<Product>, sqlx::Error> {
    sqlx::query_as("select id, name, price, stock from products order by name, id")
        .fetch_all(pool)
        .await
}

/// Locks the products among `ids` in id order, so that two batches cannot deadlock.
///
/// # Errors
/// The database's, a lock time-out among them.
pub async fn lock_products(
    tx: &mut PgTransaction<'_>,
    ids: &[Uuid],
) -> Result<BTreeMap<Uuid, Stocked>, sqlx::Error> {
    let rows: Vec<(Uuid, i32, i32)> = sqlx::query_as(
        "select id, price, stock from products where id = any($1) order by id for update",
    )
    .bind(ids)
    .fetch_all(&mut **tx)
    .await?;
    let stocked = |(id, price, stock)| (id, Stocked { price, stock });
    Ok(rows.into_iter().map(stocked).collect())
}

/// The orders among `ids` that have a decision.
///
/// # Errors
/// The database's.
pub async fn decided(
    tx: &mut PgTransaction<'_>,
    ids: &[Uuid],
) -> Result<BTreeSet<Uuid>, sqlx::Error> {
    let ids: Vec<Uuid> =
        sqlx::query_scalar("select order_id from reservations where order_id = any($1)")
            .bind(ids)
            .fetch_all(&mut **tx)
            .await?;
    Ok(ids.into_iter().collect())
}

/// Records decisions, each under its order's id, and a placed one also under its reservation's. Returns how many were recorded:
/// fewer than given if another transaction decided one of the orders at the same time.
///
/// # Errors
/// The database's.
pub async fn record_decisions(
    tx: &mut PgTransaction<'_>,
    decisions: &[(Uuid, &Decision<'_>)],
    at: DateTime<Utc>,
) -> Result<u64, sqlx::Error> {
    let column = |of: fn(&Decision<'_>) -> Uuid| -> Vec<Uuid> {
        decisions.iter().map(|(_, decision)| of(decision)).collect()
    };
    let reservations: Vec<Uuid> = decisions.iter().map(|(id, _)| *id).collect();
    let quantities: Vec<i32> = decisions
        .iter()
        .map(|(_, decision)| decision.request.quantity)
        .collect();
    let reasons: Vec<Option<&str>> = decisions
        .iter()
        .map(|(_, decision)| decision.outcome.reason())
        .collect();
    let recorded = sqlx::query(
        "insert into reservations (order_id, id, product_id, quantity, reason, decided_at)
         select order_id, case when reason is null then id end, product_id, quantity, reason, $6
         from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::integer[], $5::text[])
              as decision (order_id, id, product_id, quantity, reason)
         order by order_id
         on conflict (order_id) do nothing",
    )
    .bind(column(|decision| decision.request.order_id))
    .bind(reservations)
    .bind(column(|decision| decision.request.product_id))
    .bind(quantities)
    .bind(reasons)
    .bind(at)
    .execute(&mut **tx)
    .await?;
    Ok(recorded.rows_affected())
}

/// Takes pieces off the stock of products whose rows are locked.
///
/// # Errors
/// The database's; constraint `products_stock`, if more is taken than there is.
pub async fn take(
    tx: &mut PgTransaction<'_>,
    pieces: &BTreeMap<Uuid, i32>,
) -> Result<(), sqlx::Error> {
    if pieces.is_empty() {
        return Ok(());
    }
    let (ids, quantities): (Vec<Uuid>, Vec<i32>) = pieces.iter().unzip();
    sqlx::query(
        "update products set stock = products.stock - taken.quantity
         from unnest($1::uuid[], $2::integer[]) as taken (id, quantity)
         where products.id = taken.id",
    )
    .bind(ids)
    .bind(quantities)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
