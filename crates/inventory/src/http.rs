//! The Inventory Service's HTTP interface.

mod products;

use axum::Router;
use sqlx::PgPool;

/// All routes, over the products in `pool`'s database.
pub fn router(pool: PgPool) -> Router {
    products::router().with_state(pool)
}
