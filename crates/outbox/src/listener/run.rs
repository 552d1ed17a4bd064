//! The listener's loop: one in-flight batch, the next one gathering.
//!
//! Polling never waits for the database: while a batch is in flight, messages gather in a bounded buffer; when that
//! is full and the database does not come back within a moment, partitions are paused and polling goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::CommitMode;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::batch::{Batcher, Settled, Work};
use super::bisect::Unsettled;
use super::buffer::{Buffer, is_full};
use super::clock::Moment;
use super::consumer::{Change, Consumer};
use super::failpoint::Step;
use super::in_flight::{InFlight, Outcome};
use super::ledger::Partition;
use super::{Error, Failure, Handler, Listener, Progress};
use crate::message::Message;

/// The first wait before a failed batch is tried again; it doubles up to [`RETRY_MOST`].
const RETRY_FIRST: Duration = Duration::from_millis(50);
/// The longest wait before a failed batch is tried again.
const RETRY_MOST: Duration = Duration::from_secs(2);
/// How long polling may rest while the buffer is full, before partitions are paused. Pausing throws fetched
/// messages away, so it is for trouble, not for load.
const REST: Duration = Duration::from_secs(1);
/// How long no broker may be reached before the consumer begins again.
const UNREACHED: Duration = Duration::from_secs(15);
/// Consumers that may be closing at the same time.
const MOST_CLOSING: usize = 4;
/// How long what is in flight may take to finish when the listener is to stop.
pub(super) const LAST_BATCH: Duration = Duration::from_secs(5);

pub(super) struct Run<H: Handler> {
    consumer: Consumer,
    batcher: Arc<Batcher<H>>,
    most: usize,
    progress: watch::Sender<Progress>,
    assigned: BTreeSet<Partition>,
    epochs: BTreeMap<Partition, i64>,
    /// Superseded while still assigned: to be read again from the committed offset.
    rewind: BTreeSet<Partition>,
    /// Lost, perhaps only for a moment, since the in-flight batch was taken.
    gone: BTreeSet<Partition>,
    /// Where each partition held goes on after what was taken in flight last. What comes later is lower where the topic was made
    /// again.
    reached: BTreeMap<Partition, i64>,
    buffer: Buffer,
    in_flight: InFlight,
    retry: Duration,
    paused: bool,
    polled: Instant,
    /// When the consumer began, or was last tried to.
    begun: Instant,
    /// When the loop came by last.
    passed: Moment,
    /// Held by each consumer that is still closing.
    closing: Arc<()>,
}

impl<H: Handler> Run<H> {
    pub(super) fn new(listener: Listener<H>) -> Self {
        Self {
            consumer: listener.consumer,
            batcher: listener.batcher,
            most: listener.max_batch,
            progress: listener.progress,
            assigned: BTreeSet::new(),
            epochs: BTreeMap::new(),
            rewind: BTreeSet::new(),
            gone: BTreeSet::new(),
            reached: BTreeMap::new(),
            buffer: Buffer::new(2 * listener.max_batch),
            in_flight: InFlight::Empty,
            retry: RETRY_FIRST,
            paused: false,
            polled: Instant::now(),
            begun: Instant::now(),
            passed: Moment::now(),
            closing: Arc::default(),
        }
    }

    pub(super) async fn until(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        let outcome = self.turn(&shutdown).await;
        self.stop().await;
        outcome
    }

    async fn turn(&mut self, shutdown: &CancellationToken) -> Result<(), Error> {
        self.consumer.subscribe()?;
        let mut tick = tokio::time::interval(REST / 2);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.passed.is_long_ago()
                && !self.begin_again("the process has stood still for long")
            {
                tokio::select! {
                    () = shutdown.cancelled() => return Ok(()),
                    _ = tick.tick() => continue,
                }
            }
            self.passed = Moment::now();
            self.follow_assignment();
            if !self.rewind.is_empty() {
                tokio::select! {
                    () = shutdown.cancelled() => return Ok(()),
                    () = self.rewind_superseded() => {}
                }
            }
            self.breathe();
            self.take_in_hand();
            let room = self.paused || !self.buffer.is_full();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                outcome = self.in_flight.settled() => self.finish(outcome),
                received = self.consumer.receive(), if room => self.gather(received?)?,
                () = self.consumer.changed() => {}
                _ = tick.tick() => {
                    self.look();
                    self.look_at_breaker();
                    if self.consumer.unreached().min(self.begun.elapsed()) > UNREACHED {
                        self.begin_again("no broker has been reached for long");
                    }
                }
            }
        }
    }

    /// Takes a new consumer, and forgets what the old one has read. So where that one has reached no broker for long: librdkafka
    /// can end with no broker that it would still ask, once the only one that it knew was fenced and came back. Returns whether
    /// it could.
    fn begin_again(&mut self, why: &str) -> bool {
        self.begun = Instant::now();
        if Arc::strong_count(&self.closing) > MOST_CLOSING {
            // Each is a client with its threads.
            tracing::warn!("earlier Kafka consumers are still closing; waiting for them");
            return false;
        }
        tracing::warn!(why, "the Kafka consumer begins again");
        let fresh = match self.consumer.again() {
            Ok(fresh) => fresh,
            Err(error) => {
                // Such as a file of TLS that is just being changed. It is no reason to end.
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "it cannot; it goes on as it is"
                );
                return false;
            }
        };
        let old = std::mem::replace(&mut self.consumer, fresh);
        self.pause(false);
        self.follow(Change::Lost);
        let closing = Arc::clone(&self.closing);
        tokio::spawn(old.close(BTreeMap::new(), closing));
        true
    }

    /// Takes note of what waits, here and on the broker. A partition that was lost has nothing of ours any more.
    fn look(&self) {
        let mut lag = self.consumer.lag();
        for (partition, unfetched) in &mut lag {
            if !self.assigned.contains(partition) {
                *unfetched = 0;
            }
        }
        for message in self.buffer.iter().chain(self.in_flight.messages()) {
            *lag.entry(message.partition()).or_default() += 1;
        }
        let (unreached, trouble) = (self.consumer.unreached(), self.consumer.trouble());
        self.progress
            .send_modify(|progress| progress.look(&lag, unreached, trouble));
    }

    /// Takes a message, and whatever else is waiting, into the buffer.
    fn gather(&mut self, first: Option<Message>) -> Result<(), Error> {
        self.polled = Instant::now();
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

    /// Starts the next batch, or the one in flight again when its time has come.
    fn take_in_hand(&mut self) {
        let (mut messages, most) = match std::mem::replace(&mut self.in_flight, InFlight::Empty) {
            InFlight::Waiting {
                mut messages,
                until,
                window,
            } if Instant::now() >= until => {
                // Some of it may belong to others by now.
                messages.retain(|message| self.is_mine(&message.partition()));
                (messages, self.most.max(window))
            }
            InFlight::Empty => (Vec::new(), self.most),
            busy => {
                self.in_flight = busy;
                return;
            }
        };
        // What waits has come since: nothing of what was lost is among it.
        self.gone.clear();
        let full = is_full(&messages, most);
        let left_over = messages.len();
        self.buffer.fill(&mut messages, most);
        for message in &messages[left_over..] {
            let partition = message.partition();
            if self.assigned.contains(&partition) {
                self.reached.insert(partition, message.at.offset + 1);
            }
        }
        if messages.is_empty() {
            self.calm();
            return;
        }
        let work = Arc::new(self.work(messages, full));
        let task = tokio::spawn({
            let (work, batcher) = (Arc::clone(&work), Arc::clone(&self.batcher));
            // A task of its own: whatever becomes of this loop, the transaction ends in order.
            async move { batcher.settle(&work).await }
        });
        self.in_flight = InFlight::Settling(work, task);
    }

    /// Whether the in-flight batch may still speak for a partition: held, and not lost in between.
    fn is_mine(&self, partition: &Partition) -> bool {
        self.assigned.contains(partition) && !self.gone.contains(partition)
    }

    /// Nothing is being retried any more.
    fn calm(&mut self) {
        self.retry = RETRY_FIRST;
        self.fails_no_more();
    }

    fn fails_no_more(&self) {
        self.progress
            .send_if_modified(|progress| progress.retrying.take().is_some());
    }

    /// Messages with the epochs known of their partitions.
    fn work(&self, messages: Vec<Message>, full: bool) -> Work {
        let partitions = messages.iter().map(Message::partition);
        let epochs = partitions
            .map(|partition| {
                let epoch = self.epochs.get(&partition).copied();
                (partition, epoch)
            })
            .collect();
        let taken = Moment::now();
        Work {
            messages,
            epochs,
            taken,
            most: self.most,
            full,
        }
    }

    fn finish(&mut self, outcome: Option<Outcome>) {
        let Some(outcome) = outcome else { return };
        let InFlight::Settling(work, _) = std::mem::replace(&mut self.in_flight, InFlight::Empty)
        else {
            return;
        };
        match outcome {
            Ok(Ok(settled)) => {
                self.calm();
                self.move_on(settled, work.messages.len());
            }
            Ok(Err(unsettled)) => {
                let Unsettled {
                    failure,
                    settled,
                    left,
                } = *unsettled;
                let done = work.messages.len() - left.len();
                let mut messages = Arc::unwrap_or_clone(work).messages;
                let (mut left, mut index) = (left.into_iter().peekable(), 0..);
                messages.retain(|_| left.next_if_eq(&index.next().unwrap_or_default()).is_some());
                if done > 0 {
                    // What waits need not wait for what failed.
                    self.retry = RETRY_FIRST;
                }
                self.wait(messages, &failure);
                if done > 0 {
                    self.move_on(settled, done);
                }
            }
            Err(error) => {
                let messages = Arc::unwrap_or_clone(work).messages;
                self.wait(messages, &Failure::Unknown(error.into()));
            }
        }
    }

    fn wait(&mut self, messages: Vec<Message>, failure: &Failure) {
        let (advice, count) = (failure.advice(), messages.len());
        if failure.is_busy_keys() {
            tracing::debug!(error = %failure, messages = count, "what is left over waits for others");
            self.fails_no_more();
            self.in_flight = InFlight::waiting(messages, Instant::now() + RETRY_FIRST, failure);
            return;
        }
        if failure.is_breaker_open() {
            // It has said so itself, and is shown by itself.
            tracing::debug!(
                messages = count,
                "what is left over waits for the circuit breaker"
            );
            self.fails_no_more();
        } else {
            if let Some(advice) = advice {
                tracing::error!(error = %failure, advice, messages = count, wait = ?self.retry,
                    "batch failed; it is retried, in vain until somebody does something");
            } else {
                tracing::warn!(error = %failure, messages = count, wait = ?self.retry,
                    "batch failed; it is retried");
            }
            self.progress
                .send_modify(|progress| progress.retry(failure.class(), advice));
        }
        self.look_at_breaker();
        let (now, open) = (Instant::now(), self.batcher.open_until());
        let closes = open.map_or(now, Instant::from_std);
        self.in_flight = InFlight::waiting(messages, closes.max(now + self.retry), failure);
        self.retry = (self.retry * 2).min(RETRY_MOST);
    }

    fn move_on(&mut self, settled: Settled, messages: usize) {
        for (partition, epoch) in &settled.held {
            if self.is_mine(partition) {
                self.epochs.insert(partition.clone(), *epoch);
            }
        }
        let mut offsets = self.next();
        offsets.retain(|partition, _| settled.held.contains_key(partition));
        self.consumer.commit(&offsets, CommitMode::Async);
        if !offsets.is_empty() {
            Step::OffsetsSent.reached();
        }
        for partition in settled.superseded {
            tracing::warn!(
                topic = partition.0,
                partition = partition.1,
                "another consumer has claimed the partition since, or its messages were held for too long; they are read again"
            );
            if self.is_mine(&partition) {
                self.epochs.remove(&partition);
                self.reached.remove(&partition);
                self.rewind.insert(partition);
            }
        }
        self.progress
            .send_modify(|progress| progress.commit(messages));
        self.look_at_breaker();
    }

    /// The offsets to commit, of partitions of which anything was settled: what is in flight comes again.
    fn next(&self) -> BTreeMap<Partition, i64> {
        let mut next = self.reached.clone();
        next.retain(|partition, _| self.epochs.contains_key(partition));
        for message in self.in_flight.messages() {
            if let Some(next) = next.get_mut(&message.partition()) {
                *next = message.at.offset.min(*next);
            }
        }
        next
    }

    fn look_at_breaker(&self) {
        let open = !self.batcher.is_closed();
        self.progress.send_modify(|progress| progress.open(open));
    }

    fn follow_assignment(&mut self) {
        for change in self.consumer.changes() {
            self.follow(change);
        }
    }

    fn follow(&mut self, change: Change) {
        match change {
            Change::Assigned(partitions) => {
                if self.paused {
                    // What is assigned during a pause starts unpaused.
                    self.consumer.pause(&partitions);
                }
                self.assigned.extend(partitions);
            }
            Change::Revoked(partitions) => self.forget(&partitions),
            Change::Lost => self.forget(&self.assigned.clone()),
        }
        let held = self.assigned.len();
        self.progress.send_modify(|progress| progress.hold(held));
    }

    fn forget(&mut self, partitions: &BTreeSet<Partition>) {
        if self.paused {
            // librdkafka remembers the pause, and if the partition came back would never read it.
            self.consumer.resume(partitions);
        }
        self.assigned.retain(|held| !partitions.contains(held));
        self.rewind.retain(|held| !partitions.contains(held));
        self.reached.retain(|held, _| !partitions.contains(held));
        self.gone.extend(partitions.iter().cloned());
        self.epochs.retain(|held, _| !partitions.contains(held));
        self.buffer
            .retain(|message| !partitions.contains(&message.partition()));
    }

    /// Reads superseded partitions again from the committed offset; the next batch claims them again.
    async fn rewind_superseded(&mut self) {
        for superseded in self.rewind.clone() {
            self.buffer
                .retain(|message| message.partition() != superseded);
            match self.consumer.rewind(superseded.clone()).await {
                Ok(()) => {
                    self.rewind.remove(&superseded);
                }
                Err(error) => {
                    tracing::warn!(%error, topic = superseded.0, partition = superseded.1,
                        "partition not read again yet");
                }
            }
        }
    }

    /// Pauses when the buffer has been full for a while, resumes when there is room again.
    fn breathe(&mut self) {
        if !self.paused && self.buffer.is_full() && self.polled.elapsed() > REST {
            self.consumer.pause(&self.assigned);
            self.pause(true);
        } else if self.paused && self.buffer.is_half_empty() {
            self.consumer.resume(&self.assigned);
            self.pause(false);
        }
    }

    fn pause(&mut self, paused: bool) {
        self.paused = paused;
        self.progress
            .send_modify(|progress| progress.paused = paused);
    }

    async fn stop(mut self) {
        if matches!(self.in_flight, InFlight::Settling(..)) {
            if let Ok(outcome) = tokio::time::timeout(LAST_BATCH, self.in_flight.settled()).await {
                self.follow_assignment();
                self.finish(outcome);
            } else {
                tracing::warn!("the last batch did not finish in time; it comes again");
            }
        }
        let next = self.next();
        self.consumer.close(next, self.closing).await;
    }
}

#[cfg(test)]
mod tests;
