//! The poll loop's side to Kafka: the consumer, its assignment, and the buffer of what it has fetched.

use std::time::Duration;

use rdkafka::consumer::CommitMode;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::watch;
use tokio::time::Instant;

use super::assignment::Assignment;
use super::batch::{Epochs, Settled};
use super::buffer::Buffer;
use super::consumer::Consumer;
use super::consumer_context::Change;
use super::error::Error;
use super::failpoint::Step;
use super::lookup::Lookup;
use super::partition::Partition;
use super::progress::{Observation, Progress};
use crate::message::Message;

/// How long the buffer may be full before partitions are paused. Pausing discards fetched messages, so it is for trouble, not for
/// load.
const PAUSE_AFTER: Duration = Duration::from_secs(1);

/// How often the topics' ids are looked up.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(2);
/// The wait before a failed lookup or seek is repeated.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Fetches messages, and commits the offsets of those that are settled.
pub(super) struct Fetcher {
    consumer: Consumer,
    assignment: Assignment,
    buffer: Buffer,
    paused: bool,
    last_poll: Instant,
    /// When the last lookup was started, and for which version of the assignment.
    last_lookup: Option<(Instant, u64)>,
    /// When a seek failed last.
    seek_failed: Option<Instant>,
    /// The topic that the last lookup missed, and why.
    missing: Option<String>,
    /// Whether the last lookup of the topics' ids failed.
    lookup_failed: bool,
    progress: watch::Sender<Progress>,
}

impl Fetcher {
    /// A fetcher that buffers `max` messages.
    pub(super) fn new(consumer: Consumer, progress: watch::Sender<Progress>, max: usize) -> Self {
        Self {
            consumer,
            assignment: Assignment::default(),
            buffer: Buffer::new(max),
            paused: false,
            last_poll: Instant::now(),
            last_lookup: None,
            seek_failed: None,
            missing: None,
            lookup_failed: false,
            progress,
        }
    }

    /// Joins the group.
    pub(super) fn subscribe(&mut self) -> Result<(), Error> {
        self.consumer.subscribe()
    }

    /// Whether to poll: there is room for a message, or the partitions are paused and no message comes.
    pub(super) fn polls(&self) -> bool {
        self.paused || !self.buffer.is_full()
    }

    /// The next message; none after an error that librdkafka recovers from.
    pub(super) async fn receive(&self) -> Result<Option<Message>, Error> {
        self.consumer.receive().await
    }

    /// Resolves when the assignment has changed.
    pub(super) async fn assignment_changed(&self) {
        self.consumer.assignment_changed().await;
    }

    /// Puts a message, and all others that are fetched already, into the buffer.
    pub(super) fn gather(&mut self, first: Option<Message>) -> Result<(), Error> {
        self.last_poll = Instant::now();
        let mut next = first;
        while let Some(message) = next {
            self.buffer.push(message);
            if self.buffer.is_full() {
                break;
            }
            next = self.consumer.receive_now()?;
        }
        if !self.buffer.is_empty() {
            Step::Received.reached();
        }
        Ok(())
    }

    /// Whether the in-flight batch may speak for the message's partition.
    pub(super) fn is_ours(&self, message: &Message) -> bool {
        self.assignment.is_ours(&Partition::of(message))
    }

    /// Adds buffered messages to those of a batch that were left over, up to `max`.
    pub(super) fn fill(&mut self, batch: &mut Vec<Message>, max: usize) {
        let left_over = batch.len();
        let assignment = &self.assignment;
        self.buffer.fill(batch, max, |message| {
            assignment.is_ready(&Partition::of(message))
        });
        self.assignment.take(&batch[left_over..]);
    }

    /// The known epochs of the messages' partitions.
    pub(super) fn epochs(&self, messages: &[Message]) -> Epochs {
        self.assignment.epochs(messages)
    }

    /// Commits the offsets of what was settled, up to the first of the `unsettled` messages.
    pub(super) fn commit(&mut self, settled: Settled, unsettled: &[Message]) {
        let offsets = self.assignment.settle(&settled, unsettled);
        self.consumer.commit(&offsets, CommitMode::Async);
        if !offsets.is_empty() {
            Step::OffsetsSent.reached();
        }
        for partition in settled.superseded {
            let rereads = self.assignment.supersede(&partition);
            tracing::warn!(
                topic = partition.topic,
                partition = partition.number,
                rereads,
                "wrote nothing of a partition that another consumer has claimed, or whose messages have waited for too long"
            );
        }
    }

    /// Records the lag, here and on the broker, what hides messages, and whether a broker is connected. Revoked partitions have no lag
    /// of ours.
    pub(super) fn observe(&self, in_flight: &[Message]) {
        let mut lag = self.consumer.lag();
        for (partition, unfetched) in &mut lag {
            if !self.assignment.assigned().contains(partition) {
                *unfetched = 0;
            }
        }
        for message in self.buffer.iter().chain(in_flight) {
            *lag.entry(Partition::of(message)).or_default() += 1;
        }
        let observation = Observation {
            lag,
            without_broker: self.consumer.time_without_broker(),
            consumer_error: self.missing.clone().or_else(|| self.consumer.error()),
            open_transaction: self.consumer.open_transaction(self.assignment.assigned()),
            bootstrap_servers: self.consumer.bootstrap_servers(),
        };
        self.progress
            .send_modify(|progress| progress.observe(observation));
    }

    pub(super) fn follow_assignment(&mut self) {
        for change in self.consumer.changes() {
            self.follow(change);
        }
    }

    /// Follows one change. Drops what it has read of revoked partitions: their new consumer reads it.
    pub(super) fn follow(&mut self, change: Change) {
        let revoked = match change {
            Change::Assigned(partitions) => {
                if self.paused {
                    // Partitions that are assigned during a pause start unpaused.
                    self.consumer.pause(&partitions);
                }
                self.assignment.assign(partitions);
                None
            }
            Change::Revoked(partitions) => Some(partitions),
            Change::Lost => Some(self.assignment.assigned().clone()),
        };
        if let Some(partitions) = revoked {
            if self.paused {
                // librdkafka remembers the pause, and would never read the partition if it were assigned again.
                self.consumer.resume(&partitions);
            }
            self.assignment.revoke(&partitions);
            self.buffer
                .retain(|message| !partitions.contains(&Partition::of(message)));
        }
        let partitions = self.assignment.assigned().len();
        self.progress
            .send_modify(|progress| progress.set_partitions(partitions));
    }

    /// Looks up the topics' ids, and follows the answer.
    pub(super) fn follow_topics(&mut self) {
        match self.consumer.ended_lookup() {
            None => {}
            Some(Ok(lookup)) => {
                self.lookup_failed = false;
                self.follow_lookup(&lookup);
            }
            // Said once: the broker may be away for hours.
            Some(Err(_)) if self.lookup_failed => {}
            Some(Err(error)) => {
                self.lookup_failed = true;
                tracing::warn!(
                    %error,
                    "cannot look up the topics' ids; newly assigned partitions wait for them; trying again"
                );
            }
        }
        if self.consumer.awaits_lookup() {
            return;
        }
        let request = self.assignment.request(self.consumer.topics());
        let starts = match self.last_lookup {
            None => true,
            Some((_, version)) if version != request.version => true,
            Some((at, _)) if request.partitions.is_empty() => at.elapsed() > LOOKUP_INTERVAL,
            Some((at, _)) => at.elapsed() > RETRY_AFTER,
        };
        if starts {
            self.last_lookup = Some((Instant::now(), request.version));
            self.consumer.start_lookup(request);
        }
    }

    fn follow_lookup(&mut self, lookup: &Lookup) {
        self.missing = lookup.topics.iter().find_map(|(topic, described)| {
            let code = described.as_ref().err()?;
            let lasts = matches!(
                code,
                RDKafkaErrorCode::UnknownTopicOrPartition
                    | RDKafkaErrorCode::TopicAuthorizationFailed
            );
            lasts.then(|| format!("topic {topic}: {code}"))
        });
        for partition in self.assignment.follow_lookup(lookup) {
            let recreated = self.assignment.to_restart().get(&partition);
            // Without an old id, nothing was read before.
            if let Some(recreated) = recreated
                && let Some(old) = &recreated.old
            {
                tracing::warn!(
                    topic = partition.topic, partition = partition.number, %old, new = %recreated.present,
                    "the topic was deleted and recreated; reading it from its beginning"
                );
            }
        }
    }

    /// Reads superseded partitions again from their committed offsets, and those of recreated topics from their beginning; the next
    /// batch claims them.
    pub(super) async fn reposition(&mut self) {
        if self
            .seek_failed
            .is_some_and(|at| at.elapsed() < RETRY_AFTER)
        {
            return;
        }
        self.seek_failed = None;
        self.restart_recreated().await;
        self.rewind_superseded().await;
    }

    async fn restart_recreated(&mut self) {
        let partitions: Vec<Partition> = self.assignment.to_restart().keys().cloned().collect();
        for partition in partitions {
            self.buffer
                .retain(|message| Partition::of(message) != partition);
            match self.consumer.restart(partition.clone()).await {
                Ok(()) => self.assignment.restarted(&partition),
                Err(error) => self.record_failed_seek(&partition, &error),
            }
        }
    }

    fn record_failed_seek(&mut self, partition: &Partition, error: &KafkaError) {
        self.seek_failed = Some(Instant::now());
        tracing::warn!(
            %error, topic = partition.topic, partition = partition.number,
            "cannot read the partition again yet; trying again"
        );
    }

    async fn rewind_superseded(&mut self) {
        for partition in self.assignment.to_rewind().clone() {
            self.buffer
                .retain(|message| Partition::of(message) != partition);
            match self.consumer.rewind(partition.clone()).await {
                Ok(()) => self.assignment.rewound(&partition),
                Err(error) => self.record_failed_seek(&partition, &error),
            }
        }
    }

    /// Pauses partitions when the buffer has been full for a while, and resumes them when there is room again.
    pub(super) fn apply_back_pressure(&mut self) {
        let assigned = self.assignment.assigned();
        if !self.paused && self.buffer.is_full() && self.last_poll.elapsed() > PAUSE_AFTER {
            self.consumer.pause(assigned);
            self.set_paused(true);
        } else if self.paused && self.buffer.is_half_empty() {
            self.consumer.resume(assigned);
            self.set_paused(false);
        }
    }

    fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
        self.progress
            .send_modify(|progress| progress.paused = paused);
    }

    /// Replaces the consumer, and drops all that the old one has read. Returns whether it could.
    pub(super) fn replace_consumer(&mut self, reason: &str) -> bool {
        if !self.consumer.replace(reason) {
            return false;
        }
        self.set_paused(false);
        self.follow(Change::Lost);
        true
    }

    /// Replaces a consumer that has reached no broker for long.
    pub(super) fn replace_consumer_without_broker(&mut self) {
        if self.consumer.lacks_broker() {
            self.replace_consumer("it has reached no broker for 15 s");
        }
    }

    /// Commits the offsets up to the first of the `unsettled` messages, and leaves the group.
    pub(super) async fn close(self, unsettled: &[Message]) {
        let offsets = self.assignment.offsets_to_commit(unsettled);
        self.consumer.close(offsets).await;
    }

    /// Takes a partition's topic as known.
    #[cfg(test)]
    pub(super) fn verify(&mut self, partition: &Partition) {
        self.assignment.verify(partition);
    }

    /// Receives a message that a test has made.
    #[cfg(test)]
    pub(super) fn push(&mut self, message: Message) {
        self.buffer.push(message);
    }

    /// The offset to commit of a partition while these messages are unsettled.
    #[cfg(test)]
    pub(super) fn offset_to_commit(
        &self,
        partition: &Partition,
        unsettled: &[Message],
    ) -> Option<i64> {
        let offsets = self.assignment.offsets_to_commit(unsettled);
        offsets.get(partition).map(|next| next.offset)
    }
}
