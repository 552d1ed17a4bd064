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
    async move {
        if env::var_os("NOTIFY_SOCKET").is_none() {
            return work.await;
        }
        // Also cancelled when the work ends by itself, or so soon after its shutdown that nobody has looked at that.
        let stopping = shutdown.child_token();
        let both = async {
            let work = async {
                let done = work.await;
                stopping.cancel();
                done
            };
            tokio::join!(work, tell(health, &stopping)).0
        };
        tokio::select! {
            done = both => done,
            never = alive() => match never {},
        }
    }
}

async fn tell(health: Health, stopping: &CancellationToken) {
    if stopping.run_until_cancelled(ready(health)).await.is_some() {
        send(&[Ready, Status("ready")]);
        stopping.cancelled().await;
    }
    send(&[Stopping, Status("stopping")]);
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
