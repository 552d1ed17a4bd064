//! A listener's progress: for readiness, and as metrics.
//!
//! Both come from the same records. The gauge of a revoked partition is set to 0, since another worker reports it now.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::metrics;
use super::open_transaction::OpenTransaction;
use super::partition::Partition;

/// The time without a broker after which there is a warning. Statistics come every 2 s.
const WARN_WITHOUT_BROKER: Duration = Duration::from_secs(6);
/// The time for which an open Kafka transaction hides messages, after which there is a warning: before that about stalled messages,
/// which would name the wrong cause.
const WARN_OPEN_TRANSACTION: Duration = Duration::from_secs(20);
/// The time for which messages wait while none is settled, after which there is a warning.
const WARN_STALLED: Duration = Duration::from_secs(30);

/// What the poll loop sees of its consumer.
#[derive(Default)]
pub(super) struct Observation<'a> {
    /// Messages of each partition that are not settled yet.
    pub(super) lag: BTreeMap<Partition, u64>,
    /// For how long no broker was connected.
    pub(super) without_broker: Duration,
    /// The error that keeps the consumer from its messages.
    pub(super) consumer_error: Option<String>,
    /// The open Kafka transaction that has stood still for the longest time.
    pub(super) open_transaction: Option<OpenTransaction>,
    /// Kafka's addresses.
    pub(super) bootstrap_servers: &'a str,
}

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
    /// listener is so far behind that it fetches no more, newer ones are not counted. Those that an open Kafka transaction hides
    /// are counted.
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
    /// What to do about an open Kafka transaction that stands still.
    #[serde(skip)]
    open_transaction: Option<String>,
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
            open_transaction: None,
            advice: None,
            gauged: BTreeSet::new(),
            last_broker: Instant::now(),
            last_settled: Instant::now(),
        }
    }

    /// What keeps the listener from settling messages, if anything: an open circuit breaker, a retried batch, Kafka out of reach, a
    /// missing topic or authorization, an open Kafka transaction, or messages that wait while none is settled.
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
        if self.open_transaction.is_some() {
            return self.open_transaction.clone();
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

    /// Records an observation.
    pub(super) fn observe(&mut self, observation: Observation<'_>) {
        self.observe_transaction(&observation);
        let Observation {
            lag,
            without_broker,
            consumer_error,
            ..
        } = observation;
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

    fn observe_transaction(&mut self, observation: &Observation<'_>) {
        let open = observation.open_transaction.as_ref();
        let age = open.map_or(Duration::ZERO, OpenTransaction::age);
        metrics::set_open_transaction(&self.listener, age);
        self.open_transaction = open
            .filter(|_| age > WARN_OPEN_TRANSACTION && !self.paused)
            .map(|open| {
                let (seconds, servers) = (age.as_secs(), observation.bootstrap_servers);
                let OpenTransaction {
                    partition: Partition { topic, number },
                    offset,
                    hidden,
                    ..
                } = open;
                format!(
                    "a Kafka transaction on {topic}-{number} has been open at offset {offset} for {seconds} s, and hides {hidden} \
                     messages; its producer must commit or abort it. If the producer is gone, see `kafka-transactions.sh --bootstrap-server \
                     {servers} describe-producers --topic {topic} --partition {number}`, and run `kafka-transactions.sh \
                     --bootstrap-server {servers} abort --topic {topic} --partition {number} --start-offset {offset}`"
                )
            });
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
        let waiting = |messages| Observation {
            lag: [(partition(), messages)].into(),
            bootstrap_servers: "kafka:9092",
            ..Observation::default()
        };
        progress.observe(waiting(7));
        assert_eq!((progress.lag, progress.warning()), (7, None));
        progress.last_settled = Instant::now().checked_sub(WARN_STALLED * 2).unwrap();
        let warning = progress.warning().unwrap();
        assert!(
            warning.contains("7 messages wait") && warning.contains("look for"),
            "{warning}"
        );
        let open = |age: Duration| Observation {
            open_transaction: Some(OpenTransaction {
                partition: partition(),
                offset: 5,
                hidden: 7,
                since: Instant::now().checked_sub(age).unwrap(),
            }),
            ..waiting(7)
        };
        progress.observe(open(WARN_OPEN_TRANSACTION * 2));
        let warning = progress.warning().unwrap();
        for part in [
            "order-3 has been open at offset 5 for 40 s, and hides 7 messages",
            "--bootstrap-server kafka:9092 abort --topic order --partition 3 --start-offset 5`",
        ] {
            assert!(warning.contains(part), "{warning}");
        }
        progress.observe(open(WARN_OPEN_TRANSACTION / 2));
        assert!(progress.warning().unwrap().contains("stalled"));
        progress.observe(waiting(0));
        assert_eq!(progress.warning(), None);
        let denied = Some("topic authorization failed".to_owned());
        progress.observe(Observation {
            consumer_error: denied,
            ..Observation::default()
        });
        assert!(progress.warning().unwrap().contains("authorization"));
        progress.observe(Observation {
            without_broker: WARN_WITHOUT_BROKER * 2,
            ..Observation::default()
        });
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
