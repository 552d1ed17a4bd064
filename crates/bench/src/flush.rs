//! What it costs that a single broker flushes every batch to disk before it acknowledges it
//! (`log.flush.interval.messages=1`): a producer alone and Debezium write alternately to topics with and without it.

mod debezium;
mod producer;
mod taken;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};
use stack::description::Description;
use stack::services::Topic;
use stack::session::Home;
use stack::{say, topic};

use self::debezium::Hop;
use self::taken::Taken;
use crate::measurement::{on_stack, sorted};

/// Rounds, each with both ways; the way that goes first alternates. One more round warms up before them.
const ROUNDS: usize = 5;
/// The partitions of each topic, as many as the flow's topics have.
const PARTITIONS: i32 = 6;

/// Measures and prints a table.
///
/// # Errors
/// If the stack does not start, or the broker does not take what is sent.
pub async fn run(home: &Home) -> Result<()> {
    show(&on_stack(home, measure).await?);
    Ok(())
}

/// Flushed and unflushed.
type Ways = [Taken; 2];

struct Round {
    producer: Ways,
    debezium: Ways,
}

async fn measure(stack: &Description) -> Result<Vec<Round>> {
    // The broker's maximum, which is its default, means never.
    let ways = [
        ("flushed", "1".to_owned()),
        ("unflushed", i64::MAX.to_string()),
    ];
    let mut topics = Vec::new();
    for by in ["producer", "debezium"] {
        for (way, flush) in &ways {
            topics.push(Topic {
                name: format!("{by}-{way}"),
                partitions: PARTITIONS,
                replication_factor: 1,
                config: BTreeMap::from([("flush.messages".to_owned(), flush.clone())]),
            });
        }
    }
    topic::create(&stack.kafka, &topics).await?;
    let (by_producer, by_debezium) = topics.split_at(ways.len());
    let producer = producer::producer(&stack.kafka)?;
    let mut hop = Hop::new(stack, by_debezium).await?;
    let mut rounds = Vec::new();
    for round in 0..=ROUNDS {
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        let produced = both(order, async |way| {
            producer::produce(&producer, &by_producer[way].name).await
        });
        let produced = produced.await?;
        let carried = both(order, async |way| hop.carry(&by_debezium[way].name).await).await?;
        if round == 0 {
            say!("  warm");
        } else {
            say!("  round {round} of {ROUNDS}");
            rounds.push(Round {
                producer: produced,
                debezium: carried,
            });
        }
    }
    Ok(rounds)
}

async fn both(
    order: [usize; 2],
    mut take: impl AsyncFnMut(usize) -> Result<Taken>,
) -> Result<Ways> {
    let mut taken = [None, None];
    for way in order {
        taken[way] = Some(take(way).await?);
    }
    let [Some(flushed), Some(unflushed)] = taken else {
        bail!("a round lacks one of its two ways");
    };
    Ok([flushed, unflushed])
}

/// Prints times only beside their ratio: times depend on this machine's disk.
#[expect(clippy::print_stdout, reason = "the table is the result")]
fn show(rounds: &[Round]) {
    println!(
        "One broker, {ROUNDS} interleaved rounds: the median round; in brackets the lowest and the highest.\n\n\
         | | flushed | not flushed | ratio |\n| --- | --- | --- | --- |"
    );
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;
    let middle = |taken: &Taken| millis(taken.alone[taken.alone.len() / 2]);
    let late = |taken: &Taken| millis(taken.alone[taken.alone.len() * 95 / 100]);
    let burst = |taken: &Taken| millis(taken.burst);
    let producer: Vec<&Ways> = rounds.iter().map(|round| &round.producer).collect();
    line(
        &producer,
        "a producer's row until it is acknowledged, median",
        middle,
    );
    line(&producer, "the same, 95th percentile", late);
    let what = format!("a producer's {} rows at once", producer::BURST);
    line(&producer, &what, burst);
    let debezium: Vec<&Ways> = rounds.iter().map(|round| &round.debezium).collect();
    line(
        &debezium,
        "an outbox row until a consumer has it, median",
        middle,
    );
    line(&debezium, "the same, 95th percentile", late);
    let what = format!("{} outbox rows at once", debezium::BURST);
    line(&debezium, &what, burst);
}

#[expect(clippy::print_stdout, reason = "the table is the result")]
fn line(rounds: &[&Ways], what: &str, of: impl Fn(&Taken) -> f64) {
    let median = |figures: &[f64]| figures[figures.len() / 2];
    let flushed = sorted(rounds, |[flushed, _]| of(flushed));
    let unflushed = sorted(rounds, |[_, unflushed]| of(unflushed));
    let ratios = sorted(rounds, |[flushed, unflushed]| of(flushed) / of(unflushed));
    println!(
        "| {what} | {:.1} ms | {:.1} ms | {:.2} ({:.2} to {:.2}) |",
        median(&flushed),
        median(&unflushed),
        median(&ratios),
        ratios[0],
        ratios[ratios.len() - 1]
    );
}
