//! Which offsets the poll loop commits, without Kafka and without a database.

use std::mem::ManuallyDrop;

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgTransaction};

use super::*;
use crate::event::Outgoing;
use crate::listener::breaker::BreakerPolicy;
use crate::listener::config::Config;
use crate::listener::consumer_context::Change;
use crate::listener::handler::Received;
use crate::listener::partition::Partition;
use crate::listener::retry::RetryPolicy;
use crate::listener::testing::applier;
use crate::message::Position;

struct NoEffect;

impl Handler for NoEffect {
    type Event = serde_json::Value;

    async fn handle(
        &self,
        _: &mut PgTransaction<'_>,
        _: &[Received<serde_json::Value>],
    ) -> Result<Vec<Outgoing>, Failure> {
        Ok(Vec::new())
    }
}

fn partition() -> Partition {
    Partition {
        topic: "payment".to_owned(),
        number: 0,
    }
}

/// A poll loop to which the partition is assigned. It is not dropped: closing waits long for an absent broker.
fn assigned() -> ManuallyDrop<PollLoop<NoEffect>> {
    // No broker and no database listen there.
    let config = Config::new("127.0.0.1:1", "payments", "payment");
    let pool = PgPool::connect_lazy_with(PgConnectOptions::new().host("127.0.0.1").port(1));
    let (breaker, retry) = (BreakerPolicy::default(), RetryPolicy::default());
    let applier = Arc::new(applier(&config.name, pool, NoEffect, breaker, retry));
    let consumer = Consumer::new(&config).unwrap();
    let mut poll_loop = PollLoop::new(consumer, applier, config.max_batch);
    poll_loop
        .fetcher
        .follow(Change::Assigned([partition()].into()));
    poll_loop.fetcher.verify(&partition());
    ManuallyDrop::new(poll_loop)
}

impl PollLoop<NoEffect> {
    /// Starts a batch of the messages that are left over and of new ones with these offsets.
    fn starts(&mut self, offsets: &[i64]) {
        for offset in offsets {
            self.fetcher.push(Message {
                at: Position {
                    topic: partition().topic,
                    partition: 0,
                    offset: *offset,
                },
                timestamp: None,
                key: None,
                headers: Vec::new(),
                value: None,
            });
        }
        if let InFlight::Waiting { until, .. } = &mut self.in_flight {
            *until = Instant::now();
        }
        self.start_batch();
    }

    /// Settles the in-flight batch, but for the messages that are left, by their indices. Returns the offset to commit.
    fn settles(&mut self, left: &[usize]) -> Option<i64> {
        let mut settled = Settled::default();
        if left.len() < self.in_flight.messages().len() {
            settled.held.insert(partition(), 7);
        }
        let outcome = if left.is_empty() {
            Ok(settled)
        } else {
            Err(Box::new(Unsettled {
                blocker: Failure::Transient("the weather".into()).into(),
                settled,
                left: left.to_vec(),
            }))
        };
        self.finish_batch(Some(Ok(outcome)));
        let unsettled = self.in_flight.messages();
        self.fetcher.offset_to_commit(&partition(), unsettled)
    }
}

#[tokio::test]
async fn messages_left_over_hold_back_the_offset_until_they_are_settled() {
    let mut poll_loop = assigned();
    poll_loop.starts(&[5, 6, 7]);
    assert_eq!(poll_loop.settles(&[0, 1, 2]), None, "nothing is settled");
    poll_loop.starts(&[]);
    assert_eq!(poll_loop.settles(&[1, 2]), Some(6));
    poll_loop.starts(&[8, 9]);
    assert_eq!(poll_loop.settles(&[0, 3]), Some(6));
    poll_loop.starts(&[10]);
    assert_eq!(poll_loop.settles(&[0]), Some(6));
    poll_loop.starts(&[]);
    assert_eq!(poll_loop.settles(&[]), Some(11));
}

#[tokio::test]
async fn messages_left_over_from_before_a_topic_was_recreated_skip_none_of_its_new_messages() {
    let mut poll_loop = assigned();
    poll_loop.starts(&[1000, 1001, 1002]);
    assert_eq!(poll_loop.settles(&[0]), Some(1000));
    poll_loop.starts(&[0, 1]);
    assert_eq!(poll_loop.settles(&[0]), Some(2));
    poll_loop.starts(&[2, 3]);
    assert_eq!(poll_loop.settles(&[2]), Some(3));
    poll_loop.starts(&[]);
    assert_eq!(poll_loop.settles(&[]), Some(4));
}

#[tokio::test]
async fn no_offset_is_committed_for_a_partition_that_was_lost_while_its_batch_was_in_flight() {
    let mut poll_loop = assigned();
    poll_loop.starts(&[5]);
    poll_loop.fetcher.follow(Change::Lost);
    poll_loop
        .fetcher
        .follow(Change::Assigned([partition()].into()));
    poll_loop.fetcher.verify(&partition());
    assert_eq!(poll_loop.settles(&[]), None);
    poll_loop.starts(&[5]);
    assert_eq!(poll_loop.settles(&[]), Some(6));
}
