//! A listener's progress: for readiness, and as metrics.
//!
//! Both come from the same records. The gauge of a revoked partition is set to 0, since another worker reports it now.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::metrics;
use super::partition::Partition;

/// The time without a broker after which there is a warning. Statistics come every 2 s.
const WARN_WITHOUT_BROKER: Duration = Duration::from_secs(6);
/// The time for which messages wait while none is settled, after which there is a warning.
const WARN_STALLED: Duration = Duration::from_secs(30);

/// A listener's progress, as [`Listener::progress`](super::Listener::progress) publishes it.
///
/// ```no_run
/// # async fn ready<H: outbox::listener::Handler>(listener: &outbox::listener::Listener<H>) {
/// let mut progress = listener.progress();
/// // Readiness: the listener works as long as there is no warning.
/// if let Some(warning) = progress.borrow().warning() {
///     println!("not ready: {warning}");
/// }
/// // Tests: wait until a message was settled.
/// progress.wait_for(|progress| progress.settled > 0).await.unwrap();
/// # }
/// ```
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Progress {
    /// The listener's name.
    pub listener: String,
    /// How many partitions are assigned to it.
    pub partitions: usize,
    /// Messages that are not settled yet: in the partitions assigned, in the buffer and in the in-flight batch. Those not fetched
    /// yet are counted by their offsets, of which the end of a Kafka transaction takes one, and as of the last fetch: while the
    /// listener is so far behind that it fetches no more, newer ones are not counted.
    pub lag: u64,
    /// Whether back-pressure pauses fetching: the buffer is full, and the database is slower than Kafka.
    pub paused: bool,
    /// Events settled since the start; redelivered ones do not count.
    pub settled: u64,
    /// Messages that became dead letters since the start.
    pub dead_lettered: u64,
    /// Batches committed since the start.
    pub batches: u64,
    /// Failed attempts of batches since the start; the listener retries each.
    pub retries: u64,
    /// Whether the circuit breaker is open or half-open: too many messages became dead letters.
    pub breaker_open: bool,
    /// The failure kind of the in-flight batch while the listener retries it: `transient` or `unknown`.
    pub retrying: Option<&'static str>,
    /// The error that keeps the consumer from its messages: a missing topic, or a missing authorization in Kafka.
    pub consumer_error: Option<String>,
    /// What an operator must do before the retried batch can succeed.
    #[serde(skip)]
    advice: Option<&'static str>,
    /// Partitions whose lag has a gauge.
    #[serde(skip)]
    gauged: BTreeSet<Partition>,
    #[serde(skip)]
    last_broker: Instant,
    #[serde(skip)]
    last_settled: Instant,
}

impl Progress {
    pub(super) fn new(listener: &str) -> Self {
        metrics::start_counters(listener);
        Self {
            listener: listener.to_owned(),
            partitions: 0,
            lag: 0,
            paused: false,
            settled: 0,
            dead_lettered: 0,
            batches: 0,
            retries: 0,
            breaker_open: false,
            retrying: None,
            consumer_error: None,
            advice: None,
            gauged: BTreeSet::new(),
            last_broker: Instant::now(),
            last_settled: Instant::now(),
        }
    }

    /// What keeps the listener from settling messages, if anything: an open circuit breaker, a retried batch, Kafka out of reach, a
    /// missing topic or authorization, or messages that wait while none is settled.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        if self.breaker_open {
            let text = "the circuit breaker is open: too many messages became dead letters; `dead-letters list` shows their \
                        errors. The listener tries one message at a time, less and less often, until it applies one; a restart \
                        tries at once";
            return Some(text.to_owned());
        }
        if let Some(kind) = &self.retrying {
            let advice = self.advice.unwrap_or("see the log for the error");
            return Some(format!("retrying a batch ({kind}); {advice}"));
        }
        let without_broker = self.last_broker.elapsed();
        if without_broker > WARN_WITHOUT_BROKER {
            let seconds = without_broker.as_secs();
            return Some(format!(
                "reached no Kafka broker for {seconds} s; check bootstrap_servers and the brokers"
            ));
        }
        if let Some(error) = &self.consumer_error {
            return Some(format!(
                "cannot read messages: {error}; create the topic, or grant READ on topic and group"
            ));
        }
        let stalled = self.last_settled.elapsed();
        (self.lag > 0 && stalled > WARN_STALLED).then(|| {
            let (lag, seconds) = (self.lag, stalled.as_secs());
            format!(
                "stalled: {lag} messages wait, and the listener has settled none for {seconds} s; look for errors in the log and \
                 for locks in the database"
            )
        })
    }

    /// Records what waits, and since when no broker was connected.
    pub(super) fn observe(
        &mut self,
        lag: &BTreeMap<Partition, u64>,
        without_broker: Duration,
        consumer_error: Option<String>,
    ) {
        self.lag = lag.values().sum();
        self.consumer_error = consumer_error;
        let now = Instant::now();
        self.last_broker = now.checked_sub(without_broker).unwrap_or(now);
        if self.lag == 0 {
            self.last_settled = now;
        }
        self.gauged.extend(lag.keys().cloned());
        for partition in &self.gauged {
            let lag = lag.get(partition).copied().unwrap_or_default();
            metrics::set_lag(&self.listener, partition, lag);
        }
    }

    pub(super) fn set_partitions(&mut self, partitions: usize) {
        self.partitions = partitions;
        metrics::set_partitions(&self.listener, partitions);
    }

    pub(super) fn record_settled(&mut self, fresh: usize, dead_lettered: usize) {
        let (fresh, dead_lettered) = (fresh as u64, dead_lettered as u64);
        self.settled += fresh;
        self.dead_lettered += dead_lettered;
        self.last_settled = Instant::now();
        metrics::add_settled(&self.listener, fresh, dead_lettered);
    }

    /// Records a batch that was settled, as a whole or in part.
    pub(super) fn record_batch(&mut self, messages: usize) {
        self.batches += 1;
        metrics::record_batch(&self.listener, messages);
    }

    pub(super) fn set_breaker_open(&mut self, open: bool) {
        self.breaker_open = open;
        metrics::set_breaker_open(&self.listener, open);
    }

    /// Records a failed attempt of a batch, and what an operator must do about it.
    pub(super) fn record_retry(&mut self, kind: &'static str, advice: Option<&'static str>) {
        self.retries += 1;
        self.retrying = Some(kind);
        self.advice = advice;
        metrics::add_retry(&self.listener);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_says_what_keeps_the_listener_from_its_messages() {
        let partition = || Partition {
            topic: "order".to_owned(),
            number: 3,
        };
        let mut progress = Progress::new("payments");
        progress.observe(&[(partition(), 7)].into(), Duration::ZERO, None);
        assert_eq!((progress.lag, progress.warning()), (7, None));
        progress.last_settled = Instant::now().checked_sub(WARN_STALLED * 2).unwrap();
        let warning = progress.warning().unwrap();
        assert!(
            warning.contains("7 messages wait") && warning.contains("look for"),
            "{warning}"
        );
        progress.observe(&[(partition(), 0)].into(), Duration::ZERO, None);
        assert_eq!(progress.warning(), None);
        let denied = Some("topic authorization failed".to_owned());
        progress.observe(&BTreeMap::new(), Duration::ZERO, denied);
        assert!(progress.warning().unwrap().contains("authorization"));
        progress.observe(&BTreeMap::new(), WARN_WITHOUT_BROKER * 2, None);
        assert!(
            progress
                .warning()
                .unwrap()
                .contains("reached no Kafka broker")
        );
        progress.set_breaker_open(true);
        assert!(progress.warning().unwrap().contains("circuit breaker"));
        progress.set_breaker_open(false);
        progress.record_retry("transient", Some("run `migrate`"));
        let warning = progress.warning().unwrap();
        assert!(warning.contains("transient") && warning.contains("migrate"));
        progress.record_retry("transient", None);
        assert!(
            progress
                .warning()
                .unwrap()
                .ends_with("see the log for the error")
        );
    }
}
