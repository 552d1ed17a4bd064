//! Events that fail for an unknown reason, before more messages of their key than the in-flight batch may hold.

use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::plan::{Action, Behavior, Cause, Plan, ToProduce};

const OF_KEY: usize = 150;
const WITHIN: Duration = Duration::from_secs(30);

/// Later events of other keys on the partition are applied, whether the messages between wait behind the failing one, or with
/// `duplicates` were settled before.
pub(crate) async fn holds_up_no_other(duplicates: bool) -> Result<(), String> {
    let mut cluster = one_worker(4).await;
    let mut waiting = new(1, Behavior::Applies);
    if duplicates {
        let first = vec![new(2, Behavior::Applies)];
        cluster.perform(&produce(first)).await;
        wait_applied(&cluster, 1).await?;
        waiting = ToProduce::Duplicate(0, 0);
    }
    let mut messages = vec![new(1, Behavior::FailsUntilHealed(Cause::Unknown))];
    messages.extend(std::iter::repeat_n(waiting.clone(), OF_KEY));
    messages.extend([0; 3].map(|key| new(key, Behavior::Applies)));
    cluster.perform(&produce(messages)).await;
    wait_applied(&cluster, 3 + i64::from(duplicates)).await?;
    wait_committed(&cluster).await?;
    if duplicates {
        // Healed alone, after the later messages are settled.
        let mut messages = vec![new(3, Behavior::FailsUntilHealed(Cause::Unknown))];
        messages.extend(std::iter::repeat_n(waiting, 20));
        let before = cluster.scripts[0].failures();
        cluster.perform(&produce(messages)).await;
        // More failures than one bisection has: the unsettled messages are retried, too.
        eventually(async || match cluster.scripts[0].failures() - before {
            10.. => Ok(()),
            times => Err(format!("it has failed {times} times")),
        })
        .await?;
        cluster.perform(&Action::Heal(u8::MAX)).await;
        wait_committed(&cluster).await?;
    }
    cluster.settle().await
}

/// Two keys fail. Later events of another key are applied; that shows that the two keys are at fault, and their events are
/// dead-lettered.
pub(crate) async fn two_keys_hold_up_no_other() -> Result<(), String> {
    let mut cluster = one_worker(20).await;
    let mut messages = [1, 2]
        .map(|key| new(key, Behavior::FailsUntilHealed(Cause::Unknown)))
        .to_vec();
    messages.extend((0..OF_KEY).flat_map(|_| [1, 2].map(|key| new(key, Behavior::Applies))));
    messages.extend([0; 3].map(|key| new(key, Behavior::Applies)));
    cluster.perform(&produce(messages)).await;
    wait_applied(&cluster, 3).await?;
    wait_committed(&cluster).await?;
    cluster.settle().await
}

/// A cluster with one worker.
async fn one_worker(max_batch: u8) -> Cluster {
    let plan = Plan {
        partitions: 1,
        two_listeners: false,
        steps: Vec::new(),
    };
    let mut cluster = Cluster::open(&plan).await;
    let start = Action::Start {
        listener: 0,
        max_batch,
        delay_ms: 0,
    };
    cluster.perform(&start).await;
    cluster
}

fn new(key: u8, behavior: Behavior) -> ToProduce {
    ToProduce::New(Some(key), 0, behavior)
}

fn produce(messages: Vec<ToProduce>) -> Action {
    Action::Produce {
        messages,
        gap_ms: 0,
    }
}

/// Waits until `count` events are applied.
async fn wait_applied(cluster: &Cluster, count: i64) -> Result<(), String> {
    eventually(async || {
        let notes = sqlx::query_scalar("select count(*) from note");
        let notes: i64 = notes.fetch_one(&cluster.pool).await.unwrap();
        if notes >= count {
            return Ok(());
        }
        Err(format!("{notes} of {count} are applied"))
    })
    .await
}

/// Waits until the end offsets are committed.
async fn wait_committed(cluster: &Cluster) -> Result<(), String> {
    let group = cluster.group(&cluster.scripts[0]);
    eventually(async || {
        let committed = cluster.topic.committed_offsets(&group).await;
        if committed == cluster.topic.end_offsets() {
            return Ok(());
        }
        Err(format!("{committed:?} is committed"))
    })
    .await
}

/// Waits until it holds.
pub(crate) async fn eventually(holds: impl AsyncFn() -> Result<(), String>) -> Result<(), String> {
    within(WITHIN, holds).await
}

/// Waits until it holds, for a while at most.
pub(crate) async fn within(
    limit: Duration,
    holds: impl AsyncFn() -> Result<(), String>,
) -> Result<(), String> {
    let began = Instant::now();
    loop {
        match holds().await {
            Err(_) if began.elapsed() <= limit => {}
            outcome => return outcome,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
