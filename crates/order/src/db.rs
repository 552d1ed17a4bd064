//! The order context's SQL.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use sqlx::migrate::Migrator;
use sqlx::postgres::PgTransaction;
use sqlx::{FromRow, PgConnection, PgPool};
use uuid::Uuid;

use crate::domain::{Outcome, Pending, Placed};
use events::Rejection;
use outbox::schema::{self, Part, Roles};

/// The service's own migrations.
static MIGRATOR: Migrator = sqlx::migrate!("../../migrations/order");

/// Brings `order_db` up to date, as its owner: the library's tables and grants, then the service's own.
///
/// # Errors
/// The first migration that fails; those before it stay applied.
pub async fn migrate(owner: &mut PgConnection, roles: &Roles) -> Result<(), schema::Error> {
    schema::migrate(owner, &[Part::Publisher, Part::Listener], roles).await?;
    schema::migrate_own(owner, &MIGRATOR).await
}

/// An order as it stands.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Order {
    /// The order's id.
    pub id: Uuid,
    /// The product that is ordered.
    pub product_id: Uuid,
    /// Pieces.
    pub quantity: i32,
    /// The price per piece that the customer was shown.
    pub estimated_price: i32,
    /// `pending`, `confirmed` or `rejected`.
    pub status: String,
    /// When the client placed it.
    pub placed_at: DateTime<Utc>,
    /// When its outcome arrived.
    pub settled_at: Option<DateTime<Utc>>,
    /// Why it was rejected.
    pub reason: Option<String>,
    /// The price per piece, if that is the reason.
    pub actual_price: Option<i32>,
    /// The pieces in stock, if that is the reason.
    pub available: Option<i32>,
}

/// Stores orders, pending, in one statement.
///
/// # Errors
/// The database's.
pub async fn insert(tx: &mut PgTransaction<'_>, orders: &[Placed]) -> Result<(), sqlx::Error> {
    let column = |of: fn(&Placed) -> i32| orders.iter().map(of).collect::<Vec<i32>>();
    sqlx::query(
        "insert into orders (id, product_id, quantity, estimated_price, placed_at)
         select * from unnest($1::uuid[], $2::uuid[], $3::integer[], $4::integer[], $5::timestamptz[])",
    )
    .bind(orders.iter().map(|placed| placed.id).collect::<Vec<_>>())
    .bind(orders.iter().map(|placed| placed.order.product_id).collect::<Vec<_>>())
    .bind(column(|placed| placed.order.quantity))
    .bind(column(|placed| placed.order.estimated_price))
    .bind(orders.iter().map(|placed| placed.at).collect::<Vec<_>>())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// An order, if there is one with this id.
///
/// # Errors
/// The database's.
pub async fn find(pool: &PgPool, id: Uuid) -> Result<Option<Order>, sqlx::Error> {
    sqlx::query_as(
        "select id, product_id, quantity, estimated_price, status, placed_at, settled_at, reason, actual_price,
                available
         from orders where id = $1",
    )
    .bind(id)
    .fetch_optional(pool)
    .await
}

/// Orders without an outcome; overdue are those older than `overdue_after_s` seconds.
///
/// # Errors
/// The database's.
pub async fn pending(
    connection: &mut PgConnection,
    overdue_after_s: u32,
) -> Result<Pending, sqlx::Error> {
    let (pending, overdue, oldest_s) = sqlx::query_as(
        "select count(*), count(*) filter (where placed_at < now() - make_interval(secs => $1)),
                coalesce(extract(epoch from now() - min(placed_at)), 0)::bigint
         from orders where status = 'pending'",
    )
    .bind(f64::from(overdue_after_s))
    .fetch_one(connection)
    .await?;
    Ok(Pending {
        pending,
        overdue,
        oldest_s,
        uncounted: false,
    })
}

/// Locks the orders among `ids`, in id order, and returns those that exist.
///
/// # Errors
/// The database's, a lock time-out among them.
pub async fn lock(tx: &mut PgTransaction<'_>, ids: &[Uuid]) -> Result<BTreeSet<Uuid>, sqlx::Error> {
    let ids: Vec<Uuid> =
        sqlx::query_scalar("select id from orders where id = any($1) order by id for update")
            .bind(ids)
            .fetch_all(&mut **tx)
            .await?;
    Ok(ids.into_iter().collect())
}

/// Settles orders whose rows are locked; one that is settled already keeps its outcome.
///
/// # Errors
/// The database's.
pub async fn settle(
    tx: &mut PgTransaction<'_>,
    outcomes: &BTreeMap<Uuid, Outcome>,
) -> Result<(), sqlx::Error> {
    let rejections: Vec<Option<Rejection>> = outcomes
        .values()
        .map(|outcome| match outcome {
            Outcome::Confirmed => None,
            Outcome::Rejected(rejection) => Some(*rejection),
        })
        .collect();
    let reasons: Vec<Option<&str>> = rejections
        .iter()
        .map(|r| r.as_ref().map(Rejection::reason))
        .collect();
    let fact = |of: fn(Rejection) -> Option<i32>| -> Vec<Option<i32>> {
        rejections
            .iter()
            .map(|rejection| rejection.and_then(of))
            .collect()
    };
    sqlx::query(
        "update orders
         set status = case when outcome.reason is null then 'confirmed' else 'rejected' end,
             settled_at = now(),
             reason = outcome.reason,
             actual_price = outcome.actual_price,
             available = outcome.available
         from unnest($1::uuid[], $2::text[], $3::integer[], $4::integer[])
              as outcome (id, reason, actual_price, available)
         where orders.id = outcome.id and orders.status = 'pending'",
    )
    .bind(outcomes.keys().copied().collect::<Vec<_>>())
    .bind(reasons)
    .bind(fact(|rejection| match rejection {
        Rejection::PriceMismatch { actual_price, .. } => Some(actual_price),
        _ => None,
    }))
    .bind(fact(|rejection| match rejection {
        Rejection::InsufficientStock { available, .. } => Some(available),
        _ => None,
    }))
    .execute(&mut **tx)
    .await?;
    Ok(())
}
