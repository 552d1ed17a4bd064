//! The poll loop: one batch in flight, the next one gathering.
//!
//! Polling never waits for the database. A consumer that does not poll within `max.poll.interval.ms` loses its partitions, and a
//! database may stand still for longer than that. So a batch is applied in a task of its own, and messages gather meanwhile in a
//! bounded buffer. If the buffer stays full, the partitions are paused (back-pressure), and polling goes on.
//!
//! Each iteration of the loop
//!
//! 1. follows changes of the assignment, and reads superseded partitions again;
//! 2. pauses or resumes partitions;
//! 3. starts the next batch, or the next attempt of the in-flight one;
//! 4. waits for whichever comes first: shutdown, the end of the batch, a message, a change of the assignment, a tick.
//!
//! Offsets are committed after the transaction, and asynchronously: a commit that is lost costs a redelivery, which the inbox
//! absorbs. A batch never closes by a timer: it starts as soon as the one before it is settled, with what has arrived until then.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::CommitMode;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::apply::Applier;
use super::assignment::Assignment;
use super::backoff::Backoff;
use super::batch::{Batch, Settled, Unsettled};
use super::buffer::{Buffer, is_full};
use super::clock::Moment;
use super::consumer::Consumer;
use super::consumer_context::Change;
use super::error::Error;
use super::failpoint::Step;
use super::failure::Failure;
use super::handler::Handler;
use super::in_flight::{InFlight, Joined};
use super::partition::Partition;
use super::progress::Progress;
use super::stop::Blocker;
use crate::message::Message;

/// The waits between attempts of a batch.
const BACKOFF: Backoff = Backoff {
    initial: Duration::from_millis(50),
    max: Duration::from_secs(2),
};
/// How long the buffer may be full before partitions are paused. Pausing discards fetched messages, so it is for trouble, not for
/// load.
const PAUSE_AFTER: Duration = Duration::from_secs(1);
/// How long the in-flight batch may take to finish when the listener stops.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The poll loop's state. It owns the consumer; the applier is shared with the task of the in-flight batch.
pub(super) struct PollLoop<H: Handler> {
    consumer: Consumer,
    applier: Arc<Applier<H>>,
    max_batch: usize,
    progress: watch::Sender<Progress>,
    assignment: Assignment,
    buffer: Buffer,
    in_flight: InFlight,
    /// Failed attempts of the in-flight batch in a row.
    failures: u32,
    paused: bool,
    last_poll: Instant,
    last_iteration: Moment,
}

impl<H: Handler> PollLoop<H> {
    pub(super) fn new(consumer: Consumer, applier: Arc<Applier<H>>, max_batch: usize) -> Self {
        Self {
            consumer,
            progress: applier.progress.clone(),
            applier,
            max_batch,
            assignment: Assignment::default(),
            buffer: Buffer::new(2 * max_batch),
            in_flight: InFlight::Empty,
            failures: 0,
            paused: false,
            last_poll: Instant::now(),
            last_iteration: Moment::now(),
        }
    }

    /// Runs until `shutdown` is cancelled, then lets the in-flight batch finish.
    ///
    /// # Errors
    /// [`Error::Fatal`] and [`Error::Config`].
    pub(super) async fn run(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        let outcome = self.poll(&shutdown).await;
        self.stop().await;
        outcome
    }

    async fn poll(&mut self, shutdown: &CancellationToken) -> Result<(), Error> {
        self.consumer.subscribe()?;
        let mut tick = tokio::time::interval(PAUSE_AFTER / 2);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.last_iteration.is_long_ago()
                && !self.replace_consumer(
                    "the process stood still for longer than messages may be held",
                )
            {
                tokio::select! {
                    () = shutdown.cancelled() => return Ok(()),
                    _ = tick.tick() => continue,
                }
            }
            self.last_iteration = Moment::now();
            self.follow_assignment();
            if !self.assignment.to_rewind().is_empty() {
                tokio::select! {
                    () = shutdown.cancelled() => return Ok(()),
                    () = self.rewind_superseded() => {}
                }
            }
            self.apply_back_pressure();
            self.start_batch();
            let has_capacity = self.paused || !self.buffer.is_full();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                outcome = self.in_flight.ended() => self.finish_batch(outcome),
                received = self.consumer.receive(), if has_capacity => self.gather(received?)?,
                () = self.consumer.assignment_changed() => {}
                _ = tick.tick() => {
                    self.observe();
                    if self.consumer.lacks_broker() {
                        self.replace_consumer("no broker has been reached for 15 s");
                    }
                }
            }
        }
    }

    /// Puts a message, and all others that are fetched already, into the buffer.
    fn gather(&mut self, first: Option<Message>) -> Result<(), Error> {
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

    /// Starts the next batch, or the next attempt of the in-flight one if it is time.
    fn start_batch(&mut self) {
        let (mut messages, max) = match std::mem::replace(&mut self.in_flight, InFlight::Empty) {
            InFlight::Waiting {
                mut messages,
                until,
                window,
            } if Instant::now() >= until => {
                // Some partitions may have been revoked meanwhile.
                messages.retain(|message| self.assignment.is_ours(&Partition::of(message)));
                (messages, self.max_batch.max(window))
            }
            InFlight::Empty => (Vec::new(), self.max_batch),
            in_flight => {
                self.in_flight = in_flight;
                return;
            }
        };
        let is_full = is_full(&messages, max);
        let left_over = messages.len();
        self.buffer.fill(&mut messages, max);
        self.assignment.take(&messages[left_over..]);
        if messages.is_empty() {
            self.clear_failure();
            return;
        }
        let batch = Arc::new(Batch {
            epochs: self.assignment.epochs(&messages),
            messages,
            taken_at: Moment::now(),
            max_transaction: self.max_batch,
            is_full,
        });
        let task = tokio::spawn({
            let (batch, applier) = (Arc::clone(&batch), Arc::clone(&self.applier));
            // A task of its own: its transaction completes even if this loop ends.
            async move { applier.apply(&batch).await }
        });
        self.in_flight = InFlight::Applying(batch, task);
    }

    /// Follows up on a batch whose task has ended: commits the offsets of what is settled, and keeps the rest for its next attempt.
    fn finish_batch(&mut self, outcome: Option<Joined>) {
        let Some(outcome) = outcome else { return };
        let InFlight::Applying(batch, _) = std::mem::replace(&mut self.in_flight, InFlight::Empty)
        else {
            return;
        };
        let count = batch.messages.len();
        match outcome {
            Ok(Ok(settled)) => {
                self.clear_failure();
                self.commit(settled, count);
            }
            Ok(Err(unsettled)) => {
                let Unsettled {
                    blocker,
                    settled,
                    left,
                } = *unsettled;
                let done = count - left.len();
                let mut messages = Arc::unwrap_or_clone(batch).messages;
                let (mut left, mut index) = (left.into_iter().peekable(), 0..);
                messages.retain(|_| left.next_if_eq(&index.next().unwrap_or_default()).is_some());
                if done > 0 {
                    // Newer messages need not wait for what failed.
                    self.failures = 0;
                }
                self.wait(messages, &blocker);
                if done > 0 {
                    self.commit(settled, done);
                }
            }
            Err(ended) => {
                let messages = Arc::unwrap_or_clone(batch).messages;
                self.wait(messages, &Failure::Unknown(ended.into()).into());
            }
        }
    }

    /// Keeps messages for the next attempt.
    fn wait(&mut self, messages: Vec<Message>, blocker: &Blocker) {
        let count = messages.len();
        let now = Instant::now();
        let until = match blocker {
            Blocker::KeyLocked => {
                tracing::debug!(
                    messages = count,
                    "waiting for another transaction to release keys"
                );
                self.clear_retrying();
                now + BACKOFF.initial
            }
            Blocker::BreakerOpen => {
                // It was logged when it opened, and readiness shows it.
                tracing::debug!(messages = count, "waiting for the circuit breaker");
                self.clear_retrying();
                self.next_attempt(now)
            }
            Blocker::Failed(failure) => {
                let until = self.next_attempt(now);
                let (wait, advice) = (until - now, failure.advice());
                if let Some(advice) = advice {
                    tracing::error!(error = %failure, advice, messages = count, ?wait,
                        "retrying the batch until an operator follows the advice");
                } else {
                    tracing::warn!(error = %failure, messages = count, ?wait, "retrying the batch");
                }
                self.progress
                    .send_modify(|progress| progress.record_retry(failure.kind(), advice));
                until
            }
        };
        self.show_breaker();
        self.in_flight = InFlight::waiting(messages, until, blocker);
    }

    /// When a batch that failed is attempted again: after its back-off, and not while the circuit breaker is open.
    fn next_attempt(&mut self, now: Instant) -> Instant {
        self.failures += 1;
        let half_open = self.applier.open_until().map_or(now, Instant::from_std);
        half_open.max(now + BACKOFF.after(self.failures))
    }

    /// Commits the offsets of what was settled.
    fn commit(&mut self, settled: Settled, messages: usize) {
        let offsets = self.assignment.settle(&settled, self.in_flight.messages());
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
                "wrote nothing of a partition that another consumer has claimed, or whose messages were held for too long"
            );
        }
        self.progress
            .send_modify(|progress| progress.record_batch(messages));
        self.show_breaker();
    }

    /// Records that the in-flight batch is not failing any more: its next failure starts with the shortest back-off.
    fn clear_failure(&mut self) {
        self.failures = 0;
        self.clear_retrying();
    }

    fn clear_retrying(&self) {
        self.progress
            .send_if_modified(|progress| progress.retrying.take().is_some());
    }

    fn show_breaker(&self) {
        let open = !self.applier.is_closed();
        self.progress
            .send_modify(|progress| progress.set_breaker_open(open));
    }

    /// Records the lag, here and on the broker, and the state of the circuit breaker. Revoked partitions have no lag of ours.
    fn observe(&self) {
        let mut lag = self.consumer.lag();
        for (partition, unfetched) in &mut lag {
            if !self.assignment.assigned().contains(partition) {
                *unfetched = 0;
            }
        }
        for message in self.buffer.iter().chain(self.in_flight.messages()) {
            *lag.entry(Partition::of(message)).or_default() += 1;
        }
        let without_broker = self.consumer.time_without_broker();
        let error = self.consumer.error();
        self.progress
            .send_modify(|progress| progress.observe(&lag, without_broker, error));
        self.show_breaker();
    }

    fn follow_assignment(&mut self) {
        for change in self.consumer.changes() {
            self.follow(change);
        }
    }

    /// Follows one change. What was read of revoked partitions is dropped: their new consumer reads it.
    fn follow(&mut self, change: Change) {
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

    /// Reads superseded partitions again from their committed offsets; the next batch claims them.
    async fn rewind_superseded(&mut self) {
        for partition in self.assignment.to_rewind().clone() {
            self.buffer
                .retain(|message| Partition::of(message) != partition);
            match self.consumer.rewind(partition.clone()).await {
                Ok(()) => self.assignment.rewound(&partition),
                Err(error) => tracing::warn!(
                    %error, topic = partition.topic, partition = partition.number,
                    "cannot read the partition again yet; trying again"
                ),
            }
        }
    }

    /// Pauses partitions when the buffer has been full for a while, and resumes them when there is room again.
    fn apply_back_pressure(&mut self) {
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
    fn replace_consumer(&mut self, reason: &str) -> bool {
        if !self.consumer.replace(reason) {
            return false;
        }
        self.set_paused(false);
        self.follow(Change::Lost);
        true
    }

    /// Lets the in-flight batch finish, commits its offsets, and leaves the group so that others take over at once.
    async fn stop(mut self) {
        if matches!(self.in_flight, InFlight::Applying(..)) {
            if let Ok(outcome) = tokio::time::timeout(STOP_TIMEOUT, self.in_flight.ended()).await {
                self.follow_assignment();
                self.finish_batch(outcome);
            } else {
                tracing::warn!("the last batch did not finish in time; it will be delivered again");
            }
        }
        let offsets = self.assignment.offsets_to_commit(self.in_flight.messages());
        self.consumer.close(offsets).await;
    }
}

#[cfg(test)]
mod tests;
