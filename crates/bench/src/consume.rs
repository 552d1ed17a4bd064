//! What it costs that the library applies messages. Four ways alternate over the same messages: a consumer that only counts,
//! set-based SQL written by hand, the library's listener, and SQL by hand with a transaction for each message.

mod database;
mod events;
mod pace;
mod ways;

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use stack::description::Description;
use stack::services::Topic;
use stack::session::Home;
use stack::{say, topic};
use tokio_util::task::AbortOnDropHandle;

use self::database::Database;
use self::events::MESSAGES;
use self::ways::Way;
use crate::measurement::{on_stack, sorted};

/// Rounds, each with all ways; each round begins with the next way. One more round warms up before them.
const ROUNDS: usize = 5;
/// The partitions of each topic, as many as the flow's topics have.
const PARTITIONS: i32 = 6;

/// Measures and prints a table.
///
/// # Errors
/// If the stack does not start, or a way does not apply exactly its messages.
pub async fn run(home: &Home) -> Result<()> {
    // A service has several threads, while this program has a single one.
    let workers = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let measuring = async |stack: &Description| {
        AbortOnDropHandle::new(workers.spawn(measure(stack.clone()))).await?
    };
    let measured = on_stack(home, measuring).await;
    workers.shutdown_background();
    show(&measured?);
    Ok(())
}

/// The rate of each way, in messages a second.
type Round = BTreeMap<Way, f64>;

async fn measure(stack: Description) -> Result<Vec<Round>> {
    let database = Database::make(&stack.inventory_db).await?;
    let topics: Vec<Topic> = (0..=ROUNDS)
        .map(|round| Topic {
            name: format!("consumed-{round}"),
            partitions: PARTITIONS,
            replication_factor: 1,
            config: BTreeMap::new(),
        })
        .collect();
    topic::create(&stack.kafka, &topics).await?;
    // Before the first round, since the broker goes on writing for a while afterwards.
    for topic in &topics {
        events::produce(&stack.kafka, &topic.name, &database.products).await?;
    }
    let mut rounds = Vec::new();
    for (round, topic) in topics.iter().enumerate() {
        let mut rates = Round::new();
        for shift in 0..Way::ALL.len() {
            let way = Way::ALL[(round + shift) % Way::ALL.len()];
            database.clear().await?;
            let rate = way.take(&stack.kafka, &topic.name, &database.pool).await;
            rates.insert(way, rate.with_context(|| format!("by {way:?}"))?);
            if way != Way::Count {
                database.holds(way.messages()).await?;
            }
        }
        if round == 0 {
            say!("  warm");
        } else {
            say!("  round {round} of {ROUNDS}");
            rounds.push(rates);
        }
    }
    Ok(rounds)
}

/// Prints rates only beside their ratio: rates depend on this machine.
#[expect(clippy::print_stdout, reason = "the table is the result")]
fn show(rounds: &[Round]) {
    println!(
        "{MESSAGES} messages, {ROUNDS} interleaved rounds: the median round; in brackets the lowest and the highest.\n\n\
         | | messages/s | the library is so many times as fast |\n| --- | --- | --- |"
    );
    for way in Way::ALL {
        let rates = sorted(rounds, |round| round[&way]);
        let ratios = sorted(rounds, |round| round[&Way::Library] / round[&way]);
        println!(
            "| {} | {:.0} | {:.3} ({:.3} to {:.3}) |",
            way.name(),
            rates[rates.len() / 2],
            ratios[ratios.len() / 2],
            ratios[0],
            ratios[ratios.len() - 1]
        );
    }
}
