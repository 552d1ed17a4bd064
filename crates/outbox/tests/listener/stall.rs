//! A worker that stands still for so long that the inbox forgets what others settle meanwhile.

use std::time::Duration;

use crate::office::Office;
use crate::plan::{Action, Flaw, Manner, Plan, Sent};

const PARTITIONS: u8 = 3;

/// The worker stands still in a transaction whose handler refuses some: as soon as it goes on, it begins another one for
/// the rest, with the epochs that it knows. The inbox would let them pass, as after its retention; only the epoch does not.
pub(crate) async fn forgotten() -> Result<(), String> {
    let plan = Plan {
        partitions: PARTITIONS,
        two_listeners: false,
        steps: Vec::new(),
    };
    let mut office = Office::open(&plan).await;
    let stalls = Action::Start {
        listener: 0,
        max_batch: 20,
        dwell_ms: 100,
    };
    office.does(&stalls).await;
    // By turns, so that each batch has some of both.
    let fails = Manner::Fails(Flaw::Poison, 1);
    let sent = |number: u16| {
        let partition = u8::try_from(number / 2 % u16::from(PARTITIONS)).unwrap();
        let manner = [fails, Manner::Applies][usize::from(number % 2)];
        Sent::New(None, partition, manner)
    };
    let stream = Action::Produce {
        messages: (0..600).map(sent).collect(),
        gap_ms: 10,
    };
    office.does(&stream).await;
    // What it holds, it has claimed: a claim that comes late is kept out by its age alone, and the test has no hour.
    let group = office.group(&office.clerks[0]);
    while office.topic.committed(&group).await.len() < PARTITIONS.into() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let gate = office.freeze_first();
    let takes_over = Action::Start {
        listener: 0,
        max_batch: 20,
        dwell_ms: 0,
    };
    office.does(&takes_over).await;
    office.until_settled().await?;

    sqlx::raw_sql("create table remembered as table inbox; delete from inbox")
        .execute(&office.pool)
        .await
        .unwrap();
    gate.open();
    office.stop().await?;
    let written: i64 = sqlx::query_scalar("select count(*) from inbox")
        .fetch_one(&office.pool)
        .await
        .unwrap();
    if written != 0 {
        return Err(format!("{written} events are settled once more"));
    }
    sqlx::raw_sql("insert into inbox select * from remembered")
        .execute(&office.pool)
        .await
        .unwrap();
    office.holds_at_the_end().await
}
