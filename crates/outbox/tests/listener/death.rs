//! A worker that is a process of its own and dies at a step of the listener, as if it were killed there, is started again, and
//! dies again, until nobody tells it to.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use nix::sys::signal::Signal;
use outbox::listener::Config;
use outbox::listener::dead_letter::DeadLetters;
use stack::testing::Database;
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::clerk::{Clerk, Hand};
use crate::office::Office;
use crate::plan::{Action, Flaw, Manner, Plan, Sent};
use crate::topic::Carried;
use crate::worker::{RETRY_POLICY, Worker};

/// Every step of a batch, and of a dead letter that is tried again, by their names in `src/listener/failpoint.rs`; what comes after
/// the dead letters, also in a batch that has some; and between the parts of one that was split.
const STEPS: [&str; 17] = [
    "Received",
    "Begun",
    "Held",
    "Settled",
    "Handled",
    "DeadLettered",
    "Appended",
    "Committed",
    "OffsetsSent",
    "PartFailed",
    "PartFailed,Committed",
    "DeadLettered,Appended",
    "DeadLettered,Committed",
    "DeadLettered,OffsetsSent",
    "DeadLetterLocked",
    "DeadLetterRemoved",
    "DeadLetterStays",
];
/// How often the worker dies at a step: the first time that it is reached, then the second, its partitions held by an epoch.
const DEATHS: usize = 2;
/// Steps that are looked at beside each other: a worker that died is missed only after a while.
const AT_ONCE: usize = 4;

const PARTITIONS: u8 = 3;
/// Two a partition.
const KEYS: u8 = 2 * PARTITIONS;
const OF_KEY: u8 = 8;
/// The round of the keys' messages in which those come that are no events.
const UNDECODABLE: u8 = 2;
/// The round in which those come that fail in the handler: a batch is split for them, or they are tried more than once.
const FAILING: u8 = 4;
/// So that there are many batches, and such with effects and dead letters.
const MAX_BATCH: u8 = 5;
/// How long everything may take, the deaths included.
const WITHIN: Duration = Duration::from_secs(120);

/// Tells the process that the test starts what it listens to.
pub(crate) const WORKER: &str = "OUTBOX_TEST_WORKER";
const TEST: &str = "a_process_that_dies_at_any_step_loses_nothing_and_does_nothing_twice";

/// What it is told: the listener, its database, and what is in store for the events.
type Charge = (Config, Database, BTreeMap<Uuid, Manner>);

/// The process that the test starts: it listens until its standard input ends.
pub(crate) fn listens(charge: &str) {
    let (config, database, manners): Charge = serde_json::from_str(charge).unwrap();
    let clerk = Arc::new(Clerk::new(&config.name));
    for (event, manner) in manners {
        clerk.expect(event, manner);
    }
    let worker = Worker::start("dies", config, &database, Hand::new(&clerk, 0));
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    worker.stop();
    Runtime::new().unwrap().block_on(worker.ended()).unwrap();
}

struct Process<'a> {
    office: &'a Office,
    step: &'a str,
    deaths: usize,
    /// Ends when its standard input does, so with this.
    child: Child,
}

impl<'a> Process<'a> {
    fn start(office: &'a Office, step: &'a str) -> Self {
        Self {
            office,
            step,
            deaths: 0,
            child: spawn(office, step, 0),
        }
    }

    /// Starts it again whenever it has died, until `holds`.
    async fn lives_until(
        &mut self,
        what: &str,
        holds: impl AsyncFn() -> Result<(), String>,
    ) -> Result<(), String> {
        let began = Instant::now();
        while let Err(left) = holds().await {
            if began.elapsed() > WITHIN {
                return Err(format!(
                    "not within {WITHIN:?} and {} deaths: {what}: {left}",
                    self.deaths
                ));
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                if status.signal() != Some(Signal::SIGABRT as i32) {
                    return Err(format!("it ended otherwise: {status}"));
                }
                self.deaths += 1;
                self.child = spawn(self.office, self.step, self.deaths);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Lets it end in order.
    async fn ends(mut self) -> Result<usize, String> {
        drop(self.child.stdin.take());
        let began = Instant::now();
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) if status.success() => return Ok(self.deaths),
                Some(status) => return Err(format!("it did not end in order: {status}")),
                None if began.elapsed() > WITHIN => return Err("it does not end".to_owned()),
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

fn spawn(office: &Office, step: &str, deaths: usize) -> Child {
    let clerk = &office.clerks[0];
    let charge = (
        office.config(clerk, MAX_BATCH),
        &office.database,
        clerk.expects(),
    );
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "--nocapture", TEST])
        .env(WORKER, serde_json::to_string(&charge).unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    if deaths < DEATHS {
        let time = deaths + 1;
        let failpoint = match step.split_once(',') {
            Some((first, then)) => format!("{first}:{time},{then}"),
            None => format!("{step}:{time}"),
        };
        command.env("OUTBOX_FAILPOINT", failpoint);
    }
    command.spawn().unwrap()
}

fn load() -> Vec<Sent> {
    let rounds = (0..OF_KEY).flat_map(|round| (0..KEYS).map(move |key| (round, key)));
    let messages = rounds.map(|(round, key)| {
        // Each partition has two keys.
        let manner = match (round, key) {
            (UNDECODABLE, ..PARTITIONS) => Manner::Undecodable,
            // Waits, and is tried twice when its turn comes.
            (FAILING, ..PARTITIONS) => Manner::Fails(Flaw::Deferred, 1),
            // Seldom enough to be applied before it is taken for a dead letter.
            (FAILING, PARTITIONS) => Manner::Fails(Flaw::Strange, 4),
            (FAILING, _) => Manner::Hopeless(Flaw::Violates),
            _ => Manner::Applies,
        };
        Sent::New(Some(key), 0, manner)
    });
    messages.collect()
}

/// Dead letters of each key, in their order: by the event, and as what.
type OfKeys = BTreeMap<Vec<u8>, Vec<(Uuid, String)>>;

impl Office {
    fn is_poison(&self, message: &Carried) -> bool {
        !message.decodes || self.hopeless.lock().unwrap().contains(&message.id)
    }

    /// Poison is dead-lettered, and whatever comes after it of its key.
    fn expected_dead_letters(&self) -> OfKeys {
        let mut dead_letters = OfKeys::new();
        for message in self.topic.carried() {
            let is_poison = self.is_poison(&message);
            let key = message.key.unwrap();
            if let Some(of_key) = dead_letters.get_mut(&key) {
                of_key.push((message.id, "parked".to_owned()));
            } else if is_poison {
                dead_letters.insert(key, vec![(message.id, "poison".to_owned())]);
            }
        }
        dead_letters
    }

    async fn dead_letters(&self) -> OfKeys {
        let rows = sqlx::query_as("select key, id, kind from dead_letter order by seq");
        let rows: Vec<(Vec<u8>, Uuid, String)> = rows.fetch_all(&self.pool).await.unwrap();
        let mut dead_letters = OfKeys::new();
        for (key, id, kind) in rows {
            dead_letters.entry(key).or_default().push((id, kind));
        }
        dead_letters
    }

    /// Whether the whole load is settled, dead letters apart.
    async fn is_read(&self) -> Result<(), String> {
        let group = self.group(&self.clerks[0]);
        let (committed, ends) = (self.topic.committed(&group).await, self.topic.ends());
        let carried = self.topic.carried().len();
        if carried == load().len() && committed == ends {
            return Ok(());
        }
        Err(format!(
            "{carried} messages are sent, {committed:?} of {ends:?} is committed"
        ))
    }

    /// How many events have had no effect, though they should have, and how many effects were too many.
    async fn lost_and_double(&self) -> (usize, usize) {
        let notes = sqlx::query_scalar("select id from note");
        let notes: Vec<Uuid> = notes.fetch_all(&self.pool).await.unwrap();
        let found: BTreeSet<Uuid> = notes.iter().copied().collect();
        let carried = self.topic.carried();
        let lost = carried
            .iter()
            .filter(|message| !self.is_poison(message) && !found.contains(&message.id));
        (lost.count(), notes.len() - found.len())
    }
}

async fn dies_at(step: &str) -> Result<(), String> {
    let plan = Plan {
        partitions: PARTITIONS,
        two_listeners: false,
        steps: Vec::new(),
    };
    let mut office = Office::open(&plan).await;
    let messages = load();
    let produce = Action::Produce {
        messages,
        gap_ms: 0,
    };
    office.does(&produce).await;
    let mut process = Process::start(&office, step);
    let read = process.lives_until("all is read", async || office.is_read().await);
    read.await?;
    let (dead_letters, expected) = (office.dead_letters().await, office.expected_dead_letters());
    if dead_letters != expected {
        return Err(format!(
            "dead letters are {dead_letters:?}, not {expected:?}"
        ));
    }
    let clerk = &office.clerks[0];
    let hand = Hand::new(clerk, 0);
    let operator = DeadLetters::new(&clerk.listener, office.pool.clone(), hand, RETRY_POLICY);
    for of_key in expected.values() {
        operator.discard(of_key[0].0, "a test").await.unwrap();
    }
    let settled = process.lives_until("all is settled", async || office.is_settled().await);
    settled.await?;
    let deaths = process.ends().await?;
    let (lost, double) = office.lost_and_double().await;
    println!("| {step} | {deaths} | {lost} | {double} |");
    if (deaths, lost, double) != (DEATHS, 0, 0) {
        return Err(format!("killed {deaths}, lost {lost}, double {double}"));
    }
    office.holds().await?;
    office.holds_at_the_end().await
}

pub(crate) async fn at_any_step() -> Result<(), String> {
    println!("| step | killed | lost | double |");
    let outcomes = stream::iter(STEPS).map(async |step| {
        let outcome = dies_at(step).await;
        outcome.map_err(|why| format!("{step}: {why}"))
    });
    let outcomes: Vec<_> = outcomes.buffered(AT_ONCE).collect().await;
    let failed: Vec<String> = outcomes.into_iter().filter_map(Result::err).collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(failed.join("\n"))
}
