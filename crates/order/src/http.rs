//! The Order Service's HTTP interface.

mod orders;

use axum::Router;
use sqlx::PgPool;

use crate::intake::Intake;

/// What the routes share.
#[derive(Clone)]
pub struct State {
    /// Takes new orders.
    pub intake: Intake,
    /// Reads orders.
    pub pool: PgPool,
}

/// All routes.
pub fn router(state: State) -> Router {
    orders::router().with_state(state)
}
