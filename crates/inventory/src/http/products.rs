//! `GET /products`.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use service::http::Problem;
use sqlx::PgPool;

use crate::db::{self, Product};

pub(super) fn router() -> Router<PgPool> {
    Router::new().route("/products", get(list))
}

async fn list(State(pool): State<PgPool>) -> Result<Json<Vec<Product>>, Problem> {
    let products = db::products(&pool)
        .await
        .map_err(|error| Problem::unavailable(&error))?;
    Ok(Json(products))
}
