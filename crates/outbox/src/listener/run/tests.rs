//! The loop's own account, without Kafka and without a database.

use std::mem::ManuallyDrop;

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgTransaction};

use super::*;
use crate::Outgoing;
use crate::listener::{Config, Received};
use crate::message::Position;

struct Nobody;

impl Handler for Nobody {
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
    ("payment".to_owned(), 0)
}

/// A loop that holds the partition. It is not dropped: closing waits long for a broker that is not there.
fn holding() -> ManuallyDrop<Run<Nobody>> {
    // Nobody listens there.
    let config = Config::new("127.0.0.1:1", "till", "payment");
    let pool = PgPool::connect_lazy_with(PgConnectOptions::new().host("127.0.0.1").port(1));
    let mut run = Run::new(Listener::new(&config, pool, Nobody).unwrap());
    run.follow(Change::Assigned([partition()].into()));
    ManuallyDrop::new(run)
}

impl Run<Nobody> {
    /// Takes what is left over, and messages with these offsets, in flight.
    fn takes(&mut self, offsets: &[i64]) {
        for offset in offsets {
            self.buffer.push(Message {
                at: Position {
                    topic: partition().0,
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
        self.take_in_hand();
    }

    /// All in flight is settled, but for what is left, by its indices; returns the offset to commit.
    fn settles(&mut self, left: &[usize]) -> Option<i64> {
        let mut settled = Settled::default();
        if left.len() < self.in_flight.messages().len() {
            settled.held.insert(partition(), 7);
        }
        let outcome = if left.is_empty() {
            Ok(settled)
        } else {
            Err(Box::new(Unsettled {
                failure: Failure::Transient("the weather".into()),
                settled,
                left: left.to_vec(),
            }))
        };
        self.finish(Some(Ok(outcome)));
        self.next().get(&partition()).copied()
    }
}

#[tokio::test]
async fn what_is_left_over_is_committed_only_when_it_is_settled() {
    let mut run = holding();
    run.takes(&[5, 6, 7]);
    assert_eq!(run.settles(&[0, 1, 2]), None, "nothing is settled");
    run.takes(&[]);
    assert_eq!(run.settles(&[1, 2]), Some(6));
    run.takes(&[8, 9]);
    assert_eq!(run.settles(&[0, 3]), Some(6));
    run.takes(&[10]);
    assert_eq!(run.settles(&[0]), Some(6));
    run.takes(&[]);
    assert_eq!(run.settles(&[]), Some(11));
}

#[tokio::test]
async fn what_is_left_over_of_a_topic_that_was_made_again_passes_over_none_of_the_new() {
    let mut run = holding();
    run.takes(&[1000, 1001, 1002]);
    assert_eq!(run.settles(&[0]), Some(1000));
    run.takes(&[0, 1]);
    assert_eq!(run.settles(&[0]), Some(2));
    run.takes(&[2, 3]);
    assert_eq!(run.settles(&[2]), Some(3));
    run.takes(&[]);
    assert_eq!(run.settles(&[]), Some(4));
}

#[tokio::test]
async fn of_a_partition_that_was_lost_in_between_nothing_is_committed() {
    let mut run = holding();
    run.takes(&[5]);
    run.follow(Change::Lost);
    run.follow(Change::Assigned([partition()].into()));
    assert_eq!(run.settles(&[]), None);
    run.takes(&[5]);
    assert_eq!(run.settles(&[]), Some(6));
}
