//! What the routes share.

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
