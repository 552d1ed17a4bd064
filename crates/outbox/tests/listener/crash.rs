//! Crash tests: a worker process aborts at a step of the listener, as if it were killed there, and is restarted. It aborts
//! twice at each step and then runs to the end.

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

use crate::cluster::Cluster;
use crate::handler::{RecordingHandler, Script};
use crate::plan::{Action, Behavior, Cause, Plan, ToProduce};
use crate::topic::Record;
use crate::worker::{RETRY_POLICY, Worker};

/// The failpoints, by their names in `src/listener/failpoint.rs`: every step of a batch and of an automatic retry; the steps
/// after the dead letters once more, in a batch that has some; and between the parts of a bisection.
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
/// Crashes at each step: the first process crashes the first time that it reaches the step, the second process the second
/// time, when it holds its partitions by an epoch.
const CRASHES: usize = 2;
/// Steps tested at the same time: the group notices a crash only when the session expires.
const AT_ONCE: usize = 4;

const PARTITIONS: u8 = 3;
/// Two keys per partition.
const KEYS: u8 = 2 * PARTITIONS;
const OF_KEY: u8 = 8;
/// The round in which some messages do not decode.
const UNDECODABLE: u8 = 2;
/// The round in which some messages fail in the handler: they lead to a bisection or to retries.
const FAILING: u8 = 4;
/// Small, so that there are many batches, some of which both apply and dead-letter.
const MAX_BATCH: u8 = 5;
/// The time limit of a step, crashes included.
const WITHIN: Duration = Duration::from_secs(120);

/// The environment variable with the [`WorkerSetup`] of the worker process.
pub(crate) const WORKER: &str = "OUTBOX_TEST_WORKER";
const TEST: &str = "a_process_that_dies_at_any_step_loses_nothing_and_does_nothing_twice";

/// The listener's configuration, its database, and the handler's behavior for each event.
type WorkerSetup = (Config, Database, BTreeMap<Uuid, Behavior>);

/// The worker process: it consumes until its standard input is closed.
pub(crate) fn run_worker(setup: &str) {
    let (config, database, behaviors): WorkerSetup = serde_json::from_str(setup).unwrap();
    let script = Arc::new(Script::new(&config.name));
    for (event, behavior) in behaviors {
        script.set(event, behavior);
    }
    let worker = Worker::start(
        "crashes",
        config,
        &database,
        RecordingHandler::new(&script, 0),
    );
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    worker.stop();
    Runtime::new().unwrap().block_on(worker.join()).unwrap();
}

struct Process<'a> {
    cluster: &'a Cluster,
    step: &'a str,
    crashes: usize,
    /// The child ends when its standard input is closed, at the latest with this value.
    child: Child,
}

impl<'a> Process<'a> {
    fn start(cluster: &'a Cluster, step: &'a str) -> Self {
        Self {
            cluster,
            step,
            crashes: 0,
            child: spawn(cluster, step, 0),
        }
    }

    /// Restarts the process after each crash, until `holds`.
    async fn restart_until(
        &mut self,
        what: &str,
        holds: impl AsyncFn() -> Result<(), String>,
    ) -> Result<(), String> {
        let began = Instant::now();
        while let Err(left) = holds().await {
            if began.elapsed() > WITHIN {
                return Err(format!(
                    "not within {WITHIN:?} and {} crashes: {what}: {left}",
                    self.crashes
                ));
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                if status.signal() != Some(Signal::SIGABRT as i32) {
                    return Err(format!("the process ended without a crash: {status}"));
                }
                self.crashes += 1;
                self.child = spawn(self.cluster, self.step, self.crashes);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Closes the standard input of the process, waits for its clean exit, and returns the number of crashes.
    async fn end(mut self) -> Result<usize, String> {
        drop(self.child.stdin.take());
        let began = Instant::now();
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) if status.success() => return Ok(self.crashes),
                Some(status) => return Err(format!("the process did not exit cleanly: {status}")),
                None if began.elapsed() > WITHIN => {
                    return Err("the process does not end".to_owned());
                }
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

fn spawn(cluster: &Cluster, step: &str, crashes: usize) -> Child {
    let script = &cluster.scripts[0];
    let setup = (
        cluster.config(script, MAX_BATCH),
        &cluster.database,
        script.behaviors(),
    );
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "--nocapture", TEST])
        .env(WORKER, serde_json::to_string(&setup).unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    if crashes < CRASHES {
        let time = crashes + 1;
        let failpoint = match step.split_once(',') {
            Some((first, then)) => format!("{first}:{time},{then}"),
            None => format!("{step}:{time}"),
        };
        command.env("OUTBOX_FAILPOINT", failpoint);
    }
    command.spawn().unwrap()
}

fn records_to_produce() -> Vec<ToProduce> {
    let rounds = (0..OF_KEY).flat_map(|round| (0..KEYS).map(move |key| (round, key)));
    let messages = rounds.map(|(round, key)| {
        // Keys below `PARTITIONS` are the first of their partition, the others the second.
        let behavior = match (round, key) {
            (UNDECODABLE, ..PARTITIONS) => Behavior::Undecodable,
            // Parked behind the undecodable message, and retried automatically when it becomes the head.
            (FAILING, ..PARTITIONS) => Behavior::FailsTimes(Cause::Deferred, 1),
            // Applied at the fifth attempt, before it becomes a dead letter.
            (FAILING, PARTITIONS) => Behavior::FailsTimes(Cause::Unknown, 4),
            (FAILING, _) => Behavior::AlwaysFails(Cause::ConstraintViolation),
            _ => Behavior::Applies,
        };
        ToProduce::New(Some(key), 0, behavior)
    });
    messages.collect()
}

/// The dead letters of each key, in their order, with their kinds.
type DeadLettersByKey = BTreeMap<Vec<u8>, Vec<(Uuid, String)>>;

impl Cluster {
    fn is_poison(&self, message: &Record) -> bool {
        !message.decodes || self.always_failing.lock().unwrap().contains(&message.id)
    }

    /// Poison becomes a dead letter, and the later messages of its key are parked.
    fn expected_dead_letters(&self) -> DeadLettersByKey {
        let mut dead_letters = DeadLettersByKey::new();
        for message in self.topic.records() {
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

    async fn dead_letters(&self) -> DeadLettersByKey {
        let rows = sqlx::query_as("select key, id, kind from dead_letter order by seq");
        let rows: Vec<(Vec<u8>, Uuid, String)> = rows.fetch_all(&self.pool).await.unwrap();
        let mut dead_letters = DeadLettersByKey::new();
        for (key, id, kind) in rows {
            dead_letters.entry(key).or_default().push((id, kind));
        }
        dead_letters
    }

    /// Whether all messages are consumed, that is applied or dead-lettered.
    async fn is_consumed(&self) -> Result<(), String> {
        let group = self.group(&self.scripts[0]);
        let (committed, ends) = (
            self.topic.committed_offsets(&group).await,
            self.topic.end_offsets(),
        );
        let records = self.topic.records().len();
        if records == records_to_produce().len() && committed == ends {
            return Ok(());
        }
        Err(format!(
            "{records} messages are sent, {committed:?} of {ends:?} is committed"
        ))
    }

    /// The number of events that should be applied and are not, and the number of duplicate effects.
    async fn lost_and_duplicate(&self) -> (usize, usize) {
        let notes = sqlx::query_scalar("select id from note");
        let notes: Vec<Uuid> = notes.fetch_all(&self.pool).await.unwrap();
        let found: BTreeSet<Uuid> = notes.iter().copied().collect();
        let records = self.topic.records();
        let lost = records
            .iter()
            .filter(|message| !self.is_poison(message) && !found.contains(&message.id));
        (lost.count(), notes.len() - found.len())
    }
}

async fn crash_at(step: &str) -> Result<(), String> {
    let plan = Plan {
        partitions: PARTITIONS,
        two_listeners: false,
        steps: Vec::new(),
    };
    let mut cluster = Cluster::open(&plan).await;
    let messages = records_to_produce();
    let produce = Action::Produce {
        messages,
        gap_ms: 0,
    };
    cluster.perform(&produce).await;
    let mut process = Process::start(&cluster, step);
    let consumed = process.restart_until("all is consumed", async || cluster.is_consumed().await);
    consumed.await?;
    let (dead_letters, expected) = (
        cluster.dead_letters().await,
        cluster.expected_dead_letters(),
    );
    if dead_letters != expected {
        return Err(format!(
            "dead letters are {dead_letters:?}, not {expected:?}"
        ));
    }
    let script = &cluster.scripts[0];
    let handler = RecordingHandler::new(script, 0);
    let operator = DeadLetters::new(
        &script.listener,
        cluster.pool.clone(),
        handler,
        RETRY_POLICY,
    );
    for of_key in expected.values() {
        operator.discard(of_key[0].0, "a test").await.unwrap();
    }
    let settled = process.restart_until("all is settled", async || cluster.is_settled().await);
    settled.await?;
    let crashes = process.end().await?;
    let (lost, duplicates) = cluster.lost_and_duplicate().await;
    println!("| {step} | {crashes} | {lost} | {duplicates} |");
    if (crashes, lost, duplicates) != (CRASHES, 0, 0) {
        return Err(format!(
            "killed {crashes}, lost {lost}, duplicates {duplicates}"
        ));
    }
    cluster.check().await?;
    cluster.check_final().await
}

pub(crate) async fn at_every_step() -> Result<(), String> {
    println!("| step | killed | lost | duplicates |");
    let outcomes = stream::iter(STEPS).map(async |step| {
        let outcome = crash_at(step).await;
        outcome.map_err(|why| format!("{step}: {why}"))
    });
    let outcomes: Vec<_> = outcomes.buffered(AT_ONCE).collect().await;
    let failed: Vec<String> = outcomes.into_iter().filter_map(Result::err).collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(failed.join("\n"))
}
