//! The running service.

use std::time::Duration;

use outbox::keeper::Keeper;
use outbox::listener::{self, Listener};
use service::health::{Health, Report};
use service::metrics::{self, Metrics};
use service::{database, http, supervisor};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::http::{State, router};
use crate::intake::Intake;
use crate::outcomes::Outcomes;
use crate::pending::{self, Pending};

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
    /// The listener cannot go on.
    #[error(transparent)]
    Listener(#[from] listener::Error),
}

/// How long orders in flight may take to finish when the service stops.
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
    // A pool of its own: orders are taken however long an outcome waits for a connection.
    let listener_pool = database::pool(&config.database, "order-listener")?;
    let listener = Listener::new(&config.kafka, listener_pool, Outcomes)?;

    let keeper_pool = database::pool(&config.database.as_role(&config.keeper), "order-keeper")?;
    let keeper = Keeper::new(config.outbox(), keeper_pool);

    let (limits, warn_after_s) = (config.warnings, config.pending.warn_after_s);
    let (observation, progress) = (keeper.observation(), listener.progress());
    let (count, counted) = watch::channel(Pending::default());
    let health = Health::default()
        .with_database(intake_pool.clone(), "orders")
        .with("outbox", move || {
            let observation = observation.borrow().clone();
            async move { Report::warnings(observation.warnings(&limits)).with_facts(&observation) }
        })
        .with("orders", move || {
            let pending = *counted.borrow();
            async move { Report::warnings(pending.warning(warn_after_s)).with_facts(&pending) }
        })
        .with("listener", move || {
            let progress = progress.borrow().clone();
            async move { Report::warnings(progress.warning()).with_facts(&progress) }
        });
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

    // Whichever ends first takes the other with it.
    let (stop, guard) = (shutdown.clone(), shutdown.clone().drop_guard());
    let work = async {
        let (consumed, ()) = tokio::join!(
            async {
                let _guard = guard;
                listener.run(shutdown.clone()).await
            },
            http::serve(socket, routes, &config.http, stop),
        );
        // The routes held the intake: with them gone, its writers end.
        tasks.close();
        if tokio::time::timeout(LAST_ORDERS, tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                "orders in flight did not finish in time; their clients know of no answer"
            );
        }
        consumed
    };
    Ok(supervisor::told(health, shutdown.clone(), work).await?)
}
