//! The Order Service's HTTP interface.

mod orders;
mod state;

use axum::Router;

pub use state::State;

/// All routes.
pub fn router(state: State) -> Router {
    orders::router().with_state(state)
}
