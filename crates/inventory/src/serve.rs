//! The running service.

use outbox::keeper::Keeper;
use service::health::Health;
use service::metrics::Metrics;
use service::{Error, database, http, supervisor};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::http::router;

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
    let keeper = Keeper::new(config.outbox()?, keeper_pool);
    let health = Health::default()
        .with_database(pool.clone(), "products")
        .with_outbox(keeper.observation(), config.warnings);
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
    supervisor::supervised(health, shutdown.clone(), work).await;
    Ok(())
}
