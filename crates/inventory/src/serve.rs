//! The running service.

use outbox::keeper::Keeper;
use service::health::{Health, Report};
use service::metrics::{self, Metrics};
use service::{database, http, supervisor};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::http::router;

/// Why the service ended, other than by being told to.
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
}

/// Serves until `shutdown` is cancelled.
///
/// # Errors
/// [`Error`].
pub async fn serve(config: &Config, shutdown: CancellationToken) -> Result<(), Error> {
    database::probe(&config.database).await?;
    let metrics = Metrics::collect(shutdown.clone())?;
    let socket = http::bind(&config.http).await?;
    let pool = database::pool(&config.database, "inventory")?;
    let keeper_pool = database::pool(&config.database.as_role(&config.keeper), "inventory-keeper")?;
    let keeper = Keeper::new(config.outbox(), keeper_pool);
    let (limits, observation) = (config.warnings, keeper.observation());
    let health = Health::default()
        .with_database(pool.clone(), "products")
        .with("outbox", move || {
            let observation = observation.borrow().clone();
            async move { Report::warnings(observation.warnings(&limits)).with_facts(&observation) }
        });
    let routes = router(pool)
        .merge(health.clone().router())
        .merge(metrics.router());
    tracing::info!(address = %config.http.listen, "inventory service is up");
    let work = async {
        tokio::join!(
            keeper.run(shutdown.clone()),
            http::serve(socket, routes, &config.http, shutdown.clone()),
        )
    };
    supervisor::told(health, shutdown.clone(), work).await;
    Ok(())
}
