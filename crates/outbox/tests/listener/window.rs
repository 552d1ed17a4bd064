//! What fails for no known reason, before more of its key than a listener takes in flight.

use std::time::{Duration, Instant};

use crate::office::Office;
use crate::plan::{Action, Flaw, Manner, Plan, Sent};

const OF_KEY: usize = 150;
const WITHIN: Duration = Duration::from_secs(30);

/// What comes after them on the partition is applied all the same, whether they wait behind the one that fails or were
/// settled before.
pub(crate) async fn passes(again: bool) -> Result<(), String> {
    let mut office = opened(4).await;
    let mut waiting = new(1, Manner::Applies);
    if again {
        let first = vec![new(2, Manner::Applies)];
        office.does(&produce(first)).await;
        applies(&office, 1).await?;
        waiting = Sent::Again(0, 0);
    }
    let mut messages = vec![new(1, Manner::Curable(Flaw::Strange))];
    messages.extend(std::iter::repeat_n(waiting.clone(), OF_KEY));
    messages.extend([0; 3].map(|key| new(key, Manner::Applies)));
    office.does(&produce(messages)).await;
    applies(&office, 3 + i64::from(again)).await?;
    commits(&office).await?;
    if again {
        // Settled alone, after what came later.
        let mut messages = vec![new(3, Manner::Curable(Flaw::Strange))];
        messages.extend(std::iter::repeat_n(waiting, 20));
        let before = office.clerks[0].failures();
        office.does(&produce(messages)).await;
        // More often than its batch is split: what is left over of that is tried again, too.
        eventually(async || match office.clerks[0].failures() - before {
            10.. => Ok(()),
            times => Err(format!("it has failed {times} times")),
        })
        .await?;
        office.does(&Action::Heal(u8::MAX)).await;
        commits(&office).await?;
    }
    office.settles().await
}

/// What comes after them is applied where two keys are so: it shows that they are to blame, and these are dead-lettered.
pub(crate) async fn passes_two() -> Result<(), String> {
    let mut office = opened(20).await;
    let mut messages = [1, 2]
        .map(|key| new(key, Manner::Curable(Flaw::Strange)))
        .to_vec();
    messages.extend((0..OF_KEY).flat_map(|_| [1, 2].map(|key| new(key, Manner::Applies))));
    messages.extend([0; 3].map(|key| new(key, Manner::Applies)));
    office.does(&produce(messages)).await;
    applies(&office, 3).await?;
    commits(&office).await?;
    office.settles().await
}

/// An office with one worker.
async fn opened(max_batch: u8) -> Office {
    let plan = Plan {
        partitions: 1,
        two_listeners: false,
        steps: Vec::new(),
    };
    let mut office = Office::open(&plan).await;
    let start = Action::Start {
        listener: 0,
        max_batch,
        dwell_ms: 0,
    };
    office.does(&start).await;
    office
}

fn new(key: u8, manner: Manner) -> Sent {
    Sent::New(Some(key), 0, manner)
}

fn produce(messages: Vec<Sent>) -> Action {
    Action::Produce {
        messages,
        gap_ms: 0,
    }
}

/// Waits until so many are applied.
async fn applies(office: &Office, count: i64) -> Result<(), String> {
    eventually(async || {
        let notes = sqlx::query_scalar("select count(*) from note");
        let notes: i64 = notes.fetch_one(&office.pool).await.unwrap();
        if notes >= count {
            return Ok(());
        }
        Err(format!("{notes} of {count} are applied"))
    })
    .await
}

/// Waits until the offsets after the last messages are committed.
async fn commits(office: &Office) -> Result<(), String> {
    let group = office.group(&office.clerks[0]);
    eventually(async || {
        let committed = office.topic.committed(&group).await;
        if committed == office.topic.ends() {
            return Ok(());
        }
        Err(format!("{committed:?} is committed"))
    })
    .await
}

async fn eventually(holds: impl AsyncFn() -> Result<(), String>) -> Result<(), String> {
    let began = Instant::now();
    loop {
        match holds().await {
            Err(_) if began.elapsed() <= WITHIN => {}
            outcome => return outcome,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
