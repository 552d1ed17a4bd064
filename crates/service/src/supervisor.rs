//! The readiness notification (`sd_notify`) to a service's supervisor, systemd or another one with its protocol, at the socket that
//! `NOTIFY_SOCKET` names:
//!
//! - `READY=1` once `/health/ready` first answers 200: the service serves, and its database answers and is migrated. Units after it
//!   (`After=`) can use it. Until then the status names what it waits for.
//! - `WATCHDOG=1` twice in each `WATCHDOG_USEC`, from the task that serves: a task that hangs sends none. A database that is down is
//!   no reason to be killed.
//! - `STOPPING=1` when the service begins to stop, for whatever reason.
//!
//! Without the variable it sends nothing and runs no check.

use std::convert::Infallible;
use std::env;
use std::future::pending;
use std::time::Duration;

use sd_notify::NotifyState::{self, Ready, Status, Stopping, Watchdog};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::health::Health;

/// The pause between two checks of readiness, until the service is ready.
const PERIOD: Duration = Duration::from_millis(100);

/// Runs `work` to its end, and notifies the supervisor meanwhile.
pub fn supervised<T>(
    health: Health,
    shutdown: CancellationToken,
    work: impl Future<Output = T>,
) -> impl Future<Output = T> {
    // On the heap: the future of a whole service is large, and would be moved several times.
    let work = Box::pin(work);
    async move {
        if env::var_os("NOTIFY_SOCKET").is_none() {
            return work.await;
        }
        // Also cancelled when the work ends without a shutdown, or right after it.
        let stopping = shutdown.child_token();
        let both = async {
            let work = async {
                let done = work.await;
                stopping.cancel();
                done
            };
            tokio::join!(work, notify(health, &stopping)).0
        };
        tokio::select! {
            done = both => done,
            never = feed_watchdog() => match never {},
        }
    }
}

async fn notify(health: Health, stopping: &CancellationToken) {
    if stopping.run_until_cancelled(ready(health)).await.is_some() {
        send(&[Ready, Status("ready")]);
        stopping.cancelled().await;
    }
    send(&[Stopping, Status("stopping")]);
}

/// Waits until every check passes; the status names those that fail.
async fn ready(health: Health) {
    let mut sent = String::new();
    loop {
        let failures = health.failures().await;
        if failures.is_empty() {
            return;
        }
        let status = format!("waiting: {}", failures.join("; "));
        if status != sent {
            send(&[Status(&status)]);
            sent = status;
        }
        sleep(PERIOD).await;
    }
}

async fn feed_watchdog() -> Infallible {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else {
        return pending().await;
    };
    let mut ticks = interval(limit / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        send(&[Watchdog]);
    }
}

/// Sends a notification. A supervisor that does not answer is no reason to stop.
fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot notify the supervisor; check that the socket of NOTIFY_SOCKET exists");
    }
}

#[cfg(test)]
mod tests;
