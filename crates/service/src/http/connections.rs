//! Connections at the same time: bounded. Beyond the bound a new connection closes the one that has been idle or slow the
//! longest, so a flood of slow or silent clients shuts out no other: a new one waits at most [`GRACE`] for each
//! [`Connections::most`] that came before it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// How long a connection may be idle in any case: time for an honest client's request to arrive and be read.
const GRACE: Duration = Duration::from_millis(250);

/// The connections that are open.
pub(super) struct Connections {
    most: usize,
    open: Mutex<Open>,
    /// A connection has ended, or has become idle.
    changed: Notify,
}

#[derive(Default)]
struct Open {
    count: usize,
    /// The next number.
    next: u64,
    /// Those without a request in progress, in the order in which they became so.
    waiting: BTreeMap<u64, Waiting>,
}

struct Waiting {
    since: Instant,
    end: CancellationToken,
}

impl Open {
    fn wait(&mut self, end: &CancellationToken) -> u64 {
        let number = self.next;
        self.next += 1;
        let (since, end) = (Instant::now(), end.clone());
        self.waiting.insert(number, Waiting { since, end });
        number
    }

    /// Ends the connection that has waited the longest. Returns when it will have waited long enough, if it has not; none if
    /// all have a request in progress.
    fn give_way(&mut self) -> Option<Result<(), Instant>> {
        let longest = self.waiting.first_entry()?;
        let until = longest.get().since + GRACE;
        if Instant::now() < until {
            return Some(Err(until));
        }
        longest.remove().end.cancel();
        Some(Ok(()))
    }
}

impl Connections {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            open: Mutex::default(),
            changed: Notify::new(),
        })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for a connection, if necessary by ending another one, and returns its place.
    pub(super) async fn admit(self: &Arc<Self>) -> Place {
        let mut ended = false;
        loop {
            let mut until = None;
            {
                let mut open = self.open();
                if open.count < self.most {
                    open.count += 1;
                    let end = CancellationToken::new();
                    let number = open.wait(&end);
                    return Place {
                        connections: Arc::clone(self),
                        number: AtomicU64::new(number),
                        end,
                    };
                }
                if !ended {
                    match open.give_way() {
                        Some(Ok(())) => ended = true,
                        Some(Err(later)) => until = Some(later),
                        None => {}
                    }
                }
            }
            let changed = self.changed.notified();
            match until {
                Some(until) => drop(timeout_at(until, changed).await),
                None => changed.await,
            }
        }
    }

    /// Ends the connection that has waited the longest, if that is long enough.
    pub(super) fn give_way(&self) {
        let _ = self.open().give_way();
    }
}

/// A connection's place; dropping it makes room.
pub(super) struct Place {
    connections: Arc<Connections>,
    /// Its number among the waiting; read and written only under the lock of [`Connections::open`].
    number: AtomicU64,
    end: CancellationToken,
}

impl Place {
    /// Cancelled when the connection has to give way.
    pub(super) fn end(&self) -> &CancellationToken {
        &self.end
    }

    /// Marks a request of the connection as in progress until the value is dropped; none if the connection has given way.
    pub(super) fn work(self: &Arc<Self>) -> Option<Work> {
        let mut open = self.connections.open();
        open.waiting.remove(&self.number.load(Ordering::Relaxed))?;
        Some(Work(Arc::clone(self)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.open();
        open.waiting.remove(&self.number.load(Ordering::Relaxed));
        open.count -= 1;
        drop(open);
        self.connections.changed.notify_one();
    }
}

/// A request in progress.
pub(super) struct Work(Arc<Place>);

impl Drop for Work {
    fn drop(&mut self) {
        let place = &self.0;
        let mut open = place.connections.open();
        place.number.store(open.wait(&place.end), Ordering::Relaxed);
        drop(open);
        place.connections.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_has_waited_longest_gives_way_after_its_grace() {
        let connections = Connections::new(2);
        let first = connections.admit().await;
        advance(Duration::from_millis(1)).await;
        let (second, began) = (connections.admit().await, Instant::now());
        let third = tokio::spawn({
            let connections = Arc::clone(&connections);
            async move { connections.admit().await }
        });
        first.end().cancelled().await;
        assert_eq!(began.elapsed() + Duration::from_millis(1), GRACE);
        assert!(!second.end().is_cancelled() && !third.is_finished());
        drop(first);
        let third = third.await.unwrap();
        assert!(!second.end().is_cancelled() && !third.end().is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_with_a_recent_request_has_waited_the_least() {
        let connections = Connections::new(2);
        let first = Arc::new(connections.admit().await);
        let second = connections.admit().await;
        advance(GRACE).await;
        drop(first.work());
        connections.give_way();
        assert!(!first.end().is_cancelled() && second.end().is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn while_all_have_a_request_in_progress_a_new_one_waits() {
        let connections = Connections::new(1);
        let first = Arc::new(connections.admit().await);
        let work = first.work().unwrap();
        let second = tokio::spawn({
            let connections = Arc::clone(&connections);
            async move { connections.admit().await }
        });
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!second.is_finished() && !first.end().is_cancelled());
        drop(work);
        first.end().cancelled().await;
        assert!(first.work().is_none(), "it has given way");
        drop(first);
        second.await.unwrap();
    }
}
