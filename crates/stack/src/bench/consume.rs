//! What it costs that the library applies messages: the same messages read by a consumer that only counts them, applied by
//! set-based SQL as it is written by hand, and applied by the library's listener, by turns; and by hand again with a
//! transaction for each message.

mod database;
mod events;
mod ways;

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tokio_util::task::AbortOnDropHandle;

use crate::description::Description;
use crate::services::Topic;
use crate::session::Home;
use crate::{say, topic};

use super::{on_stack, sorted};

use database::Database;
use ways::Way;

/// Rounds, each with all ways; where they begin moves on. One more before them warms up.
const ROUNDS: usize = 5;
/// The partitions of each topic, as many as those of the flow.
const PARTITIONS: i32 = 6;
/// Messages that each way reads in a round.
const MESSAGES: u64 = 50_000;
/// As many of them as [`Way::Singly`] reads.
const SINGLY: u64 = 2_000;

/// Measures, and shows a table.
///
/// # Errors
/// If the stack does not start, or a way does not do what it is to do.
pub async fn run(home: &Home) -> Result<()> {
    // As in a service; this program has a single thread.
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

/// Messages a second of each way.
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
    // All before the first round: the broker writes for a while after.
    for topic in &topics {
        events::produce(&stack.kafka, &topic.name, &database.products).await?;
    }
    let mut rounds = Vec::new();
    for (round, topic) in topics.iter().enumerate() {
        let mut rates = Round::new();
        for turn in 0..Way::ALL.len() {
            let way = Way::ALL[(round + turn) % Way::ALL.len()];
            database.clear().await?;
            let rate = way.take(&stack.kafka, &topic.name, &database.pool).await;
            rates.insert(way, rate.with_context(|| format!("by {way:?}"))?);
            if way != Way::Nobody {
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

/// How fast messages are settled, from the end of the first batch to that of the last: to join the group takes seconds.
#[derive(Default)]
struct Pace {
    first: Option<(Instant, u64)>,
    last: Option<(Instant, u64)>,
}

impl Pace {
    fn note(&mut self, settled: u64) {
        let now = (Instant::now(), settled);
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    fn rate(&self) -> Result<f64> {
        let ((began, few), (ended, all)) = self.first.zip(self.last).context("no batch")?;
        ensure!(all > few, "a single batch has no pace");
        #[expect(clippy::cast_precision_loss, reason = "thousands")]
        let messages = (all - few) as f64;
        Ok(messages / (ended - began).as_secs_f64())
    }
}

/// Rates are shown beside their ratio alone: this machine is not another.
#[expect(clippy::print_stdout, reason = "the table is what was asked for")]
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
