//! The running worker.

use axum::Router;
use outbox::listener::{self, Listener};
use service::health::{Health, Report};
use service::metrics::{self, Metrics};
use service::{database, http, supervisor};
use tokio_util::sync::CancellationToken;

use crate::Orders;
use crate::config::Config;

/// Why the worker ended, other than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] database::Error),
    /// The port cannot be used.
    #[error(transparent)]
    Bind(#[from] http::BindError),
    /// The numbers cannot be collected.
    #[error(transparent)]
    Metrics(#[from] metrics::Error),
    /// The listener cannot go on.
    #[error(transparent)]
    Listener(#[from] listener::Error),
}

/// Works, and shows its health, until `shutdown` is cancelled.
///
/// # Errors
/// [`Error`].
pub async fn serve(config: &Config, shutdown: CancellationToken) -> Result<(), Error> {
    database::probe(&config.database).await?;
    let metrics = Metrics::collect(shutdown.clone())?;
    let socket = http::bind(&config.http).await?;
    let pool = database::pool(&config.database, "inventory-worker")?;
    let listener = Listener::new(&config.kafka, pool.clone(), Orders)?;
    let progress = listener.progress();
    let health =
        Health::default()
            .with_database(pool, "reservations")
            .with("listener", move || {
                let progress = progress.borrow().clone();
                async move { Report::warnings(progress.warning()).with_facts(&progress) }
            });
    tracing::info!(address = %config.http.listen, "inventory worker is up");

    // Whichever ends first takes the other with it.
    let (stop, guard) = (shutdown.clone(), shutdown.clone().drop_guard());
    let routes = Router::new()
        .merge(health.clone().router())
        .merge(metrics.router());
    let work = async {
        tokio::join!(
            async {
                let _guard = guard;
                listener.run(shutdown.clone()).await
            },
            http::serve(socket, routes, &config.http, stop),
        )
    };
    let (consumed, ()) = supervisor::told(health, shutdown.clone(), work).await;
    Ok(consumed?)
}
