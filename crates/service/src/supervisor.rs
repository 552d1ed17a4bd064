//! What a service tells whoever started it, be it systemd or another that speaks its protocol (`sd_notify`), at the socket
//! that `NOTIFY_SOCKET` names:
//!
//! - `READY=1` once `/health/ready` first says so, that is, the service serves and its database answers and is migrated.
//!   Whatever is started after it (`After=`) can use it. Until then the status says what it waits for.
//! - `WATCHDOG=1` twice in the time that `WATCHDOG_USEC` gives, from the very task that serves: if that is stuck, it stops. A
//!   database that is away is no reason to be killed.
//! - `STOPPING=1` when the service begins to stop, for whatever reason.
//!
//! Without the variable nothing is said, and nothing is looked at.

use std::convert::Infallible;
use std::env;
use std::future::pending;
use std::time::Duration;

use sd_notify::NotifyState::{self, Ready, Status, Stopping, Watchdog};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::health::Health;

/// How often it is looked whether the service is ready, until it is.
const LOOK: Duration = Duration::from_millis(100);

/// Does `work` to its end, and meanwhile tells the supervisor what becomes of it.
pub fn told<T>(
    health: Health,
    shutdown: CancellationToken,
    work: impl Future<Output = T>,
) -> impl Future<Output = T> {
    // A whole service is large, and would be moved from future to future.
    let work = Box::pin(work);
    async {
        if env::var_os("NOTIFY_SOCKET").is_none() {
            return work.await;
        }
        tokio::select! {
            // In this order, that it is told that the service stops before it has stopped.
            biased;
            never = tell(health, shutdown) => match never {},
            done = work => done,
        }
    }
}

async fn tell(health: Health, shutdown: CancellationToken) -> Infallible {
    let states = async {
        if shutdown.run_until_cancelled(ready(health)).await.is_some() {
            send(&[Ready, Status("ready")]);
            shutdown.cancelled().await;
        }
        send(&[Stopping, Status("stopping")]);
        pending().await
    };
    tokio::select! {
        never = states => never,
        never = alive() => never,
    }
}

/// Waits until every check has been passed, saying which ones are not.
async fn ready(health: Health) {
    let mut said = String::new();
    loop {
        let failures = health.failures().await;
        if failures.is_empty() {
            return;
        }
        let status = format!("waiting: {}", failures.join("; "));
        if status != said {
            send(&[Status(&status)]);
            said = status;
        }
        sleep(LOOK).await;
    }
}

async fn alive() -> Infallible {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else {
        return pending().await;
    };
    let mut turns = interval(limit / 2);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        send(&[Watchdog]);
    }
}

/// A supervisor that does not listen is told nothing; it is its loss, and no reason not to serve.
fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the supervisor cannot be told: see NOTIFY_SOCKET");
    }
}

#[cfg(test)]
mod tests;
