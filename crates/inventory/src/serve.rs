//! The running service.

use service::health::Health;
use service::{database, http};
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
}

/// Serves until `shutdown` is cancelled.
///
/// # Errors
/// [`Error`].
pub async fn serve(config: &Config, shutdown: CancellationToken) -> Result<(), Error> {
    database::probe(&config.database).await?;
    let socket = http::bind(&config.http).await?;
    let pool = database::pool(&config.database, "inventory")?;
    let health = Health::default().with_database(pool.clone(), "products");
    tracing::info!(address = %config.http.listen, "inventory service is up");
    http::serve(
        socket,
        router(pool).merge(health.router()),
        &config.http,
        shutdown,
    )
    .await;
    Ok(())
}
