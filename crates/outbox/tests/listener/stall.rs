//! A worker that is blocked for so long that retention deletes the inbox rows of events that another worker settles meanwhile.

use std::time::Duration;

use crate::cluster::Cluster;
use crate::plan::{Action, Behavior, Cause, Plan, ToProduce};

const PARTITIONS: u8 = 3;

/// The worker blocks in a transaction whose handler refuses some events: as soon as it continues, it begins another one for the
/// rest, with the epochs that it knows. The emptied inbox would accept them, as after its retention; only the epoch does not.
pub(crate) async fn writes_nothing_after_retention() -> Result<(), String> {
    let plan = Plan {
        partitions: PARTITIONS,
        two_listeners: false,
        steps: Vec::new(),
    };
    let mut cluster = Cluster::open(&plan).await;
    let first_worker = Action::Start {
        listener: 0,
        max_batch: 20,
        delay_ms: 100,
    };
    cluster.perform(&first_worker).await;
    // Alternately, so that each batch has both.
    let fails = Behavior::FailsTimes(Cause::Poison, 1);
    let to_produce = |number: u16| {
        let partition = u8::try_from(number / 2 % u16::from(PARTITIONS)).unwrap();
        let behavior = [fails, Behavior::Applies][usize::from(number % 2)];
        ToProduce::New(None, partition, behavior)
    };
    let stream = Action::Produce {
        messages: (0..600).map(to_produce).collect(),
        gap_ms: 10,
    };
    cluster.perform(&stream).await;
    // The worker has claimed all partitions by then. Only the check of the age stops a late claim, and it would take an hour.
    let group = cluster.group(&cluster.scripts[0]);
    while cluster.topic.committed_offsets(&group).await.len() < PARTITIONS.into() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let gate = cluster.freeze_first_worker();
    let second_worker = Action::Start {
        listener: 0,
        max_batch: 20,
        delay_ms: 0,
    };
    cluster.perform(&second_worker).await;
    cluster.until_settled().await?;

    sqlx::raw_sql("create table remembered as table inbox; delete from inbox")
        .execute(&cluster.pool)
        .await
        .unwrap();
    gate.open();
    cluster.stop().await?;
    let written: i64 = sqlx::query_scalar("select count(*) from inbox")
        .fetch_one(&cluster.pool)
        .await
        .unwrap();
    if written != 0 {
        return Err(format!("{written} events are settled again"));
    }
    sqlx::raw_sql("insert into inbox select * from remembered")
        .execute(&cluster.pool)
        .await
        .unwrap();
    cluster.check_final().await
}
