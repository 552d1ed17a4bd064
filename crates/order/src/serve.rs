//! The running service.

use std::time::Duration;

use outbox::keeper::Keeper;
use outbox::listener::Listener;
use service::health::{Health, Report};
use service::listener::run_beside;
use service::metrics::Metrics;
use service::{Error, database, http, supervisor};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::domain::Pending;
use crate::http::{State, router};
use crate::intake::Intake;
use crate::outcomes::Outcomes;
use crate::pending;

/// How long the orders in flight may take when the service stops.
const LAST_ORDERS: Duration = Duration::from_secs(5);

/// Serves until `shutdown` is cancelled.
///
/// # Errors
/// [`Error`].
pub async fn serve(config: &Config, shutdown: CancellationToken) -> Result<(), Error> {
    database::probe(&config.database).await?;
    let metrics = Metrics::collect(shutdown.clone())?;
    let socket = http::bind(&config.http).await?;
    let intake_pool = database::pool(&config.database, "order")?;
    // A pool of its own, so that outcomes that wait for a connection delay no order.
    let listener_pool = database::pool(&config.database, "order-listener")?;
    let listener = Listener::new(&config.kafka, listener_pool, Outcomes)?;

    let keeper_pool = database::pool(&config.database.as_role(&config.keeper), "order-keeper")?;
    let keeper = Keeper::new(config.outbox()?, keeper_pool);

    let warn_after_s = config.pending.warn_after_s;
    let (count, counted) = watch::channel(Pending::default());
    let health = Health::default()
        .with_database(intake_pool.clone(), "orders")
        .with_outbox(keeper.observation(), config.warnings)
        .with("orders", move || {
            let pending = *counted.borrow();
            async move { Report::warnings(pending.warning(warn_after_s)).with_facts(&pending) }
        })
        .with_listener(listener.progress());
    let tasks = TaskTracker::new();
    tasks.spawn(keeper.run(shutdown.clone()));
    let counting = pending::count(intake_pool.clone(), warn_after_s, count, shutdown.clone());
    tasks.spawn(counting);
    let state = State {
        intake: Intake::start(&intake_pool, &tasks),
        pool: intake_pool,
    };
    let routes = router(state)
        .merge(health.clone().router())
        .merge(metrics.router());
    tracing::info!(address = %config.http.listen, "order service is up");

    let server = http::serve(socket, routes, &config.http, shutdown.clone());
    let work = async {
        let listened = run_beside(server, listener, shutdown.clone()).await;
        // The routes held the intake; its tasks end with them.
        tasks.close();
        if tokio::time::timeout(LAST_ORDERS, tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                within = ?LAST_ORDERS,
                "orders in flight did not finish in time and are stored whole or not at all; their clients got no answer: check the \
                 database before the service starts again"
            );
        }
        listened
    };
    Ok(supervisor::supervised(health, shutdown.clone(), work).await?)
}
