//! The running worker.

use axum::Router;
use outbox::listener::Listener;
use service::health::Health;
use service::listener::run_beside;
use service::metrics::Metrics;
use service::{Error, database, http, supervisor};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::orders::Orders;

/// Listens to orders, and answers health and metrics, until `shutdown` is cancelled.
///
/// # Errors
/// [`Error`].
pub async fn serve(config: &Config, shutdown: CancellationToken) -> Result<(), Error> {
    database::probe(&config.database).await?;
    let metrics = Metrics::collect(shutdown.clone())?;
    let socket = http::bind(&config.http).await?;
    let pool = database::pool(&config.database, "inventory-worker")?;
    let listener = Listener::new(&config.kafka, pool.clone(), Orders)?;
    let health = Health::default()
        .with_database(pool, "reservations")
        .with_listener(listener.progress());
    tracing::info!(address = %config.http.listen, "inventory worker is up");

    let routes = Router::new()
        .merge(health.clone().router())
        .merge(metrics.router());
    let server = http::serve(socket, routes, &config.http, shutdown.clone());
    let work = run_beside(server, listener, shutdown.clone());
    Ok(supervisor::supervised(health, shutdown, work).await?)
}
