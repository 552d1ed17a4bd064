//! The poll loop: one batch in flight, the next one gathering.
//!
//! Polling never waits for the database. A consumer that does not poll within `max.poll.interval.ms` loses its partitions, and a
//! database may stand still for longer than that. So a task of its own applies the batch, and messages gather meanwhile in a
//! bounded buffer. If the buffer stays full, the loop pauses the partitions (back-pressure), and polling goes on.
//!
//! Each iteration of the loop
//!
//! 1. follows changes of the assignment and of the topics, and reads superseded partitions and recreated topics again;
//! 2. pauses or resumes partitions;
//! 3. starts the next batch, or the next attempt of the in-flight one;
//! 4. waits for whichever comes first: shutdown, the end of the batch, a message, a change of the assignment, a tick.
//!
//! The loop commits offsets after the transaction, and asynchronously: a lost commit costs a redelivery, which the inbox
//! absorbs. A batch never closes by a timer: it starts as soon as the one before it is settled, with what has arrived until
//! then.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::apply::Applier;
use super::backoff::Backoff;
use super::batch::{Batch, Settled, Unsettled};
use super::buffer::is_full;
use super::clock::Moment;
use super::consumer::Consumer;
use super::error::Error;
use super::failure::Failure;
use super::fetcher::Fetcher;
use super::handler::Handler;
use super::in_flight::{InFlight, Joined};
use super::progress::Progress;
use super::stop::Blocker;
use crate::message::Message;

/// The waits between attempts of a batch.
const BACKOFF: Backoff = Backoff {
    initial: Duration::from_millis(50),
    max: Duration::from_secs(2),
};
/// How often the loop observes its consumer. It runs at least so often.
const TICK: Duration = Duration::from_millis(500);
/// How long the in-flight batch may take to finish when the listener stops.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The poll loop's state. The task of the in-flight batch shares the applier.
pub(super) struct PollLoop<H: Handler> {
    fetcher: Fetcher,
    applier: Arc<Applier<H>>,
    max_batch: usize,
    progress: watch::Sender<Progress>,
    in_flight: InFlight,
    /// Failed attempts of the in-flight batch in a row.
    failures: u32,
    last_iteration: Moment,
}

impl<H: Handler> PollLoop<H> {
    pub(super) fn new(consumer: Consumer, applier: Arc<Applier<H>>, max_batch: usize) -> Self {
        Self {
            fetcher: Fetcher::new(consumer, applier.progress.clone(), 2 * max_batch),
            progress: applier.progress.clone(),
            applier,
            max_batch,
            in_flight: InFlight::Empty,
            failures: 0,
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
        self.fetcher.subscribe()?;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.last_iteration.is_long_ago()
                && !self.fetcher.replace_consumer(
                    "the process stood still for longer than it may hold messages",
                )
            {
                tokio::select! {
                    () = shutdown.cancelled() => return Ok(()),
                    _ = tick.tick() => continue,
                }
            }
            self.last_iteration = Moment::now();
            self.fetcher.follow_assignment();
            self.fetcher.follow_topics();
            tokio::select! {
                biased;
                () = self.fetcher.reposition() => {}
                () = shutdown.cancelled() => return Ok(()),
            }
            self.fetcher.apply_back_pressure();
            self.start_batch();
            let polls = self.fetcher.polls();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                outcome = self.in_flight.ended() => self.finish_batch(outcome),
                received = self.fetcher.receive(), if polls => self.fetcher.gather(received?)?,
                () = self.fetcher.assignment_changed() => {}
                _ = tick.tick() => {
                    self.fetcher.observe(self.in_flight.messages());
                    self.show_breaker();
                    self.fetcher.replace_consumer_without_broker();
                }
            }
        }
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
                messages.retain(|message| self.fetcher.is_ours(message));
                (messages, self.max_batch.max(window))
            }
            InFlight::Empty => (Vec::new(), self.max_batch),
            in_flight => {
                self.in_flight = in_flight;
                return;
            }
        };
        let is_full = is_full(&messages, max);
        self.fetcher.fill(&mut messages, max);
        if messages.is_empty() {
            self.clear_failure();
            return;
        }
        let batch = Arc::new(Batch {
            epochs: self.fetcher.epochs(&messages),
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
                // The log has it since it opened, and readiness shows it.
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

    /// When the next attempt of a failed batch begins: after its back-off, and not while the circuit breaker is open.
    fn next_attempt(&mut self, now: Instant) -> Instant {
        self.failures += 1;
        let half_open = self.applier.open_until().map_or(now, Instant::from_std);
        half_open.max(now + BACKOFF.after(self.failures))
    }

    /// Commits the offsets of what was settled.
    fn commit(&mut self, settled: Settled, messages: usize) {
        self.fetcher.commit(settled, self.in_flight.messages());
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

    /// Lets the in-flight batch finish, commits its offsets, and leaves the group so that others take over at once.
    async fn stop(mut self) {
        if matches!(self.in_flight, InFlight::Applying(..)) {
            if let Ok(outcome) = tokio::time::timeout(STOP_TIMEOUT, self.in_flight.ended()).await {
                self.fetcher.follow_assignment();
                self.finish_batch(outcome);
            } else {
                tracing::warn!("the last batch did not finish in time; Kafka delivers it again");
            }
        }
        self.fetcher.close(self.in_flight.messages()).await;
    }
}

#[cfg(test)]
mod tests;
