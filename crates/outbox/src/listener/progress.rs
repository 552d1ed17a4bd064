//! How a listener is doing: for readiness, and as numbers for a monitoring system.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use metrics::{counter, gauge, histogram};
use serde::Serialize;

use super::dead_letter::Kind;
use super::ledger::Partition;

/// How long no broker may be reached before that is worth a warning. Statistics come every 2 s.
const UNREACHED: Duration = Duration::from_secs(6);
/// How long messages may wait without any being settled before that is worth a warning.
const STALLED: Duration = Duration::from_secs(30);

const SETTLED: &str = "outbox_listener_settled_total";
const DEAD_LETTERS: &str = "outbox_listener_dead_lettered_total";
const RETRIES: &str = "outbox_listener_retries_total";

/// How a listener is doing.
#[derive(Debug, Clone, Serialize)]
pub struct Progress {
    /// The listener's name.
    pub listener: String,
    /// Partitions that it holds.
    pub partitions: usize,
    /// Messages that wait in them, in the in-flight batch too. Those not fetched yet are counted by their offsets, which
    /// a transaction's end takes one of, and are known as of the last fetch: while the listener is so far behind that it
    /// fetches no more, what arrives since is not counted.
    pub lag: u64,
    /// Whether reading rests, since as many messages as it may hold wait in memory for the database.
    pub paused: bool,
    /// Events settled since it started; those that came again are not counted.
    pub settled: u64,
    /// Messages dead-lettered since it started.
    pub dead_lettered: u64,
    /// Batches committed since it started.
    pub batches: u64,
    /// Batches that failed and came again since it started.
    pub retries: u64,
    /// Whether the circuit breaker is open: too many messages were dead-lettered, nothing is tried for a while, and then one
    /// message at a time until one is applied.
    pub breaker_open: bool,
    /// In which way the in-flight batch failed, if it is being retried: `transient` or `unknown`.
    pub retrying: Option<&'static str>,
    /// What keeps it from its messages: a topic that is not there, or a right that it lacks.
    pub trouble: Option<String>,
    /// What somebody is to do about that.
    #[serde(skip)]
    advice: Option<&'static str>,
    #[serde(skip)]
    shown: BTreeSet<Partition>,
    #[serde(skip)]
    reached: Instant,
    #[serde(skip)]
    advanced: Instant,
}

impl Progress {
    pub(super) fn new(listener: &str) -> Self {
        // There from the start, so that the first one shows as a rise.
        for name in [RETRIES, DEAD_LETTERS, SETTLED] {
            counter!(name, "listener" => listener.to_owned()).increment(0);
        }
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
            advice: None,
            trouble: None,
            shown: BTreeSet::new(),
            reached: Instant::now(),
            advanced: Instant::now(),
        }
    }

    /// What is worth a look, if anything: Kafka is away, a batch is being retried, messages wait and none is settled.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        if self.breaker_open {
            let text = "the circuit breaker is open: too many messages were dead-lettered; the dead letters say why. Messages are tried one by one, ever more seldom until one is applied; a restart of the listener tries at once";
            return Some(text.to_owned());
        }
        if let Some(why) = &self.retrying {
            let hint = self.advice.unwrap_or("the log says why");
            return Some(format!("a batch is retried ({why}); {hint}"));
        }
        let unreached = self.reached.elapsed();
        if unreached > UNREACHED {
            let seconds = unreached.as_secs();
            return Some(format!("no Kafka broker has been reached for {seconds} s"));
        }
        if let Some(trouble) = &self.trouble {
            return Some(format!("nothing can be read: {trouble}"));
        }
        let still = self.advanced.elapsed();
        (self.lag > 0 && still > STALLED).then(|| {
            let (lag, seconds) = (self.lag, still.as_secs());
            format!("stalled: {lag} messages wait, and none has been settled for {seconds} s")
        })
    }

    /// Takes note of what waits, and of when a broker was last reached.
    pub(super) fn look(
        &mut self,
        lag: &BTreeMap<Partition, u64>,
        unreached: Duration,
        trouble: Option<String>,
    ) {
        self.lag = lag.values().sum();
        self.trouble = trouble;
        let now = Instant::now();
        self.reached = now.checked_sub(unreached).unwrap_or(now);
        if self.lag == 0 {
            self.advanced = now;
        }
        self.shown.extend(lag.keys().cloned());
        for (topic, partition) in &self.shown {
            let lag = lag.get(&(topic.clone(), *partition)).unwrap_or(&0);
            #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
            let lag = *lag as f64;
            gauge!("outbox_listener_lag_messages", "listener" => self.listener.clone(),
                "topic" => topic.clone(), "partition" => partition.to_string())
            .set(lag);
        }
    }

    /// Takes note of the partitions held.
    pub(super) fn hold(&mut self, partitions: usize) {
        self.partitions = partitions;
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        let partitions = partitions as f64;
        gauge!("outbox_listener_partitions", "listener" => self.listener.clone()).set(partitions);
    }

    /// Takes note of events that were settled.
    pub(super) fn settle(&mut self, fresh: usize, dead_lettered: usize) {
        let (fresh, dead_lettered) = (fresh as u64, dead_lettered as u64);
        self.settled += fresh;
        self.dead_lettered += dead_lettered;
        self.advanced = Instant::now();
        let listener = &self.listener;
        counter!(SETTLED, "listener" => listener.clone()).increment(fresh);
        counter!(DEAD_LETTERS, "listener" => listener.clone()).increment(dead_lettered);
    }

    /// Takes note of a batch that has come to its end.
    pub(super) fn commit(&mut self, messages: usize) {
        self.batches += 1;
        let listener = &self.listener;
        #[expect(clippy::cast_precision_loss, reason = "a histogram is of floats")]
        let messages = messages as f64;
        histogram!("outbox_listener_batch_messages", "listener" => listener.clone())
            .record(messages);
    }

    /// Takes note of how the circuit breaker stands.
    pub(super) fn open(&mut self, open: bool) {
        self.breaker_open = open;
        gauge!("outbox_listener_breaker_open", "listener" => self.listener.clone())
            .set(u8::from(open));
    }

    /// Takes note of a batch that failed and comes again, and of what somebody is to do about it.
    pub(super) fn retry(&mut self, why: &'static str, advice: Option<&'static str>) {
        self.retries += 1;
        self.retrying = Some(why);
        self.advice = advice;
        counter!(RETRIES, "listener" => self.listener.clone()).increment(1);
    }
}

/// Takes note of how many dead letters wait, of each kind.
pub(super) fn waiting(listener: &str, kinds: &[(Kind, i64)]) {
    for kind in Kind::ALL {
        let of_kind = kinds.iter().find(|(counted, _)| *counted == kind);
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        let count = of_kind.map_or(0.0, |(_, count)| *count as f64);
        gauge!("outbox_listener_dead_letters", "listener" => listener.to_owned(), "kind" => kind.as_str()).set(count);
    }
}

/// Takes note of how long a handler or a transaction took.
pub(super) fn took(name: &'static str, listener: &str, time: Duration) {
    histogram!(name, "listener" => listener.to_owned()).record(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_says_what_is_wrong() {
        let partition = || ("order".to_owned(), 3);
        let mut progress = Progress::new("till");
        progress.look(&[(partition(), 7)].into(), Duration::ZERO, None);
        assert_eq!((progress.lag, progress.warning()), (7, None));
        progress.advanced = Instant::now().checked_sub(STALLED * 2).unwrap();
        let warning = progress.warning().unwrap();
        assert!(warning.contains("7 messages wait"), "{warning}");
        progress.look(&[(partition(), 0)].into(), Duration::ZERO, None);
        assert_eq!(progress.warning(), None);
        let denied = Some("topic authorization failed".to_owned());
        progress.look(&BTreeMap::new(), Duration::ZERO, denied);
        assert!(progress.warning().unwrap().contains("authorization"));
        progress.look(&BTreeMap::new(), UNREACHED * 2, None);
        assert!(progress.warning().unwrap().contains("no Kafka broker"));
        progress.open(true);
        assert!(progress.warning().unwrap().contains("circuit breaker"));
        progress.open(false);
        progress.retry("transient", Some("run `migrate`"));
        let warning = progress.warning().unwrap();
        assert!(warning.contains("transient") && warning.contains("migrate"));
        progress.retry("transient", None);
        assert!(progress.warning().unwrap().ends_with("the log says why"));
    }
}
