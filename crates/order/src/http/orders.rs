//! `POST /orders`, `GET /orders/{id}`.

use axum::body::Bytes;
use axum::extract::{Path, State as Shared};
use axum::http::{HeaderName, StatusCode, header};
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use service::http::Problem;
use uuid::Uuid;

use super::state::State;
use crate::db::{self, Order};
use crate::domain::{NewOrder, Refused};
use crate::intake;

pub(super) fn router() -> Router<State> {
    Router::new()
        .route("/orders", post(place))
        .route("/orders/{id}", get(show))
}

#[derive(Serialize)]
struct Placed {
    id: Uuid,
}

async fn place(
    Shared(state): Shared<State>,
    body: Bytes,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Placed>), Problem> {
    let order = NewOrder::parse(&body).map_err(refused)?;
    let id = state
        .intake
        .place(order)
        .await
        .map_err(|error| not_taken(&error))?;
    let location = [(header::LOCATION, format!("/orders/{id}"))];
    Ok((StatusCode::CREATED, location, Json(Placed { id })))
}

fn refused(refused: Refused) -> Problem {
    let (status, error, fields) = match refused {
        Refused::Malformed(fields) => (StatusCode::UNPROCESSABLE_ENTITY, "malformed order", fields),
        Refused::Invalid(fields) => (StatusCode::BAD_REQUEST, "invalid order", fields),
    };
    Problem::new(status, error).with_fields(fields)
}

fn not_taken(error: &intake::Error) -> Problem {
    let why = match error {
        intake::Error::Full => "too many orders are waiting; try again",
        intake::Error::Stopping => "the service is stopping; try again",
        // The writer has logged it, once for all orders of the transaction.
        intake::Error::Database(_) | intake::Error::Event(_) => {
            "the database did not store the order; try again"
        }
    };
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, why)
}

/// An order as `GET /orders/{id}` answers it.
#[derive(Serialize)]
struct Shown {
    id: Uuid,
    product_id: Uuid,
    quantity: i32,
    estimated_price: i32,
    status: String,
    placed_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    settled_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actual_price: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requested: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    available: Option<i32>,
}

impl From<Order> for Shown {
    fn from(order: Order) -> Self {
        Self {
            id: order.id,
            product_id: order.product_id,
            quantity: order.quantity,
            estimated_price: order.estimated_price,
            status: order.status,
            placed_at: timestamp(order.placed_at),
            settled_at: order.settled_at.map(timestamp),
            reason: order.reason,
            actual_price: order.actual_price,
            requested: order.available.map(|_| order.quantity),
            available: order.available,
        }
    }
}

fn timestamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

async fn show(
    Shared(state): Shared<State>,
    Path(id): Path<String>,
) -> Result<Json<Shown>, Problem> {
    let id = Uuid::try_parse(&id)
        .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the order's id is not a UUID"))?;
    let order = db::find(&state.pool, id)
        .await
        .map_err(|error| Problem::unavailable(&error))?;
    order
        .map(|order| Json(order.into()))
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "there is no such order"))
}
