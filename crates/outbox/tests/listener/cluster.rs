//! The cluster of a case: a fresh database and a fresh topic, workers and operators, and the actions of a plan.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use outbox::listener::dead_letter::{DeadLetters, Filter};
use outbox::listener::{Config, Progress};
use outbox::schema::{self, Part, Roles};
use sqlx::PgPool;
use stack::testing::{self, Context, Database};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::handler::{Gate, RecordingHandler, Script, TABLES};
use crate::operator::Operator;
use crate::plan::{Action, Behavior, Plan, Selection, ToProduce};
use crate::topic::{NewRecord, Topic};
use crate::worker::{self, Worker};

/// Workers at the same time at most.
const MAX_WORKERS: usize = 5;
/// The time limit for everything to settle once no action disturbs it.
const WITHIN: Duration = Duration::from_secs(120);
/// The interval at which further messages are produced until everything is settled: the next offset commit makes up for a lost one.
const EXTRA_RECORD_AFTER: Duration = Duration::from_secs(5);

/// A produced event, kept to produce a duplicate of it.
struct Produced {
    id: Uuid,
    key: Option<Vec<u8>>,
    partition: i32,
}

pub(crate) struct Cluster {
    pub(crate) database: Database,
    pub(crate) pool: PgPool,
    /// The pool of the operators.
    operator_pool: PgPool,
    kafka: String,
    pub(crate) topic: Topic,
    pub(crate) scripts: Vec<Arc<Script>>,
    workers: Vec<Worker>,
    /// Gates of the workers that were killed silently: they stay blocked until the end.
    killed: Vec<Arc<Gate>>,
    started: usize,
    produced: Vec<Produced>,
    /// Events that always fail.
    pub(crate) always_failing: Arc<Mutex<BTreeSet<Uuid>>>,
    /// Actions that go on in the background.
    background: JoinSet<()>,
}

fn chosen<T>(among: &[T], number: u8) -> Option<usize> {
    usize::from(number).checked_rem(among.len())
}

impl Cluster {
    pub(crate) async fn open(plan: &Plan) -> Self {
        let stack = testing::stack().await;
        let database = testing::database(Context::Order).await;
        let pool = worker::pool(&database, "observer");
        let mut owner = pool.acquire().await.unwrap();
        schema::migrate(
            &mut owner,
            &[Part::Publisher, Part::Listener],
            &Roles::default(),
        )
        .await
        .unwrap();
        sqlx::raw_sql(TABLES).execute(&mut *owner).await.unwrap();
        drop(owner);
        // The names of the groups derive from it.
        let name = format!("note-{}", Uuid::now_v7().simple());
        let topic = Topic::create(&stack.kafka, &name, plan.partitions.into()).await;
        let names = ["first", "second"];
        let names = &names[..=usize::from(plan.two_listeners)];
        Self {
            operator_pool: worker::pool(&database, "operator"),
            database,
            pool,
            kafka: stack.kafka.clone(),
            topic,
            scripts: names
                .iter()
                .map(|name| Arc::new(Script::new(name)))
                .collect(),
            workers: Vec::new(),
            killed: Vec::new(),
            started: 0,
            produced: Vec::new(),
            always_failing: Arc::default(),
            background: JoinSet::new(),
        }
    }

    pub(crate) fn group(&self, script: &Script) -> String {
        format!("{}-{}", self.topic.name, script.listener)
    }

    pub(crate) async fn perform(&mut self, action: &Action) {
        match action {
            Action::Produce { messages, gap_ms } => {
                let records = messages
                    .iter()
                    .filter_map(|message| self.new_record(message))
                    .collect();
                let (topic, gap) = (self.topic.clone(), Duration::from_millis((*gap_ms).into()));
                self.background
                    .spawn(async move { topic.send(records, gap).await });
            }
            Action::Start {
                listener,
                max_batch,
                delay_ms,
            } => {
                if self.workers.len() < MAX_WORKERS
                    && let Some(script) = chosen(&self.scripts, *listener)
                {
                    self.start(script, *max_batch, *delay_ms);
                }
            }
            Action::Stop(worker) => {
                if let Some(index) = chosen(&self.workers, *worker) {
                    let worker = self.workers.swap_remove(index);
                    worker.stop();
                    self.background
                        .spawn(async move { worker.join().await.unwrap() });
                }
            }
            Action::Kill { worker, silently } => {
                if let Some(index) = chosen(&self.workers, *worker) {
                    let worker = self.workers.swap_remove(index);
                    self.kill(worker, *silently).await;
                }
            }
            Action::Freeze {
                worker,
                in_transaction,
                for_ms,
            } => {
                if let Some(index) = chosen(&self.workers, *worker) {
                    let gate = self.workers[index].freeze(*in_transaction);
                    let lasts = Duration::from_millis((*for_ms).into());
                    self.background.spawn(async move {
                        tokio::time::sleep(lasts).await;
                        gate.open();
                    });
                }
            }
            Action::Heal(most) => {
                for script in &self.scripts {
                    script.heal((*most).into());
                }
            }
            Action::Redrive {
                operators,
                selection,
                discards,
                delay_ms,
                for_ms,
            } => {
                let lasts = Duration::from_millis((*for_ms).into());
                for script in &self.scripts {
                    for _ in 0..*operators {
                        let operator = self.operator(script, *delay_ms);
                        let ((filter, most), discards) = (filter(selection), *discards);
                        self.background.spawn(async move {
                            operator.run(&filter, most, discards, lasts).await;
                        });
                    }
                }
            }
            Action::Disconnect(worker) => {
                let worker = worker.and_then(|worker| chosen(&self.workers, worker));
                match worker {
                    Some(index) => self.disconnect(&self.workers[index].name).await,
                    None => self.disconnect("%").await,
                }
            }
        }
    }

    fn new_record(&mut self, message: &ToProduce) -> Option<NewRecord> {
        let partitions = self.topic.partitions;
        let (event, key, partition) = match message {
            ToProduce::Duplicate(event, partition) => {
                let produced = &self.produced[chosen(&self.produced, *event)?];
                let partition = match produced.key {
                    Some(_) => produced.partition,
                    None => i32::from(*partition) % partitions,
                };
                (Some(produced.id), produced.key.clone(), partition)
            }
            ToProduce::New(key, partition, behavior) => {
                let partition = i32::from(key.unwrap_or(*partition)) % partitions;
                let key = key.map(|key| vec![0xff, key]);
                let event = (*behavior != Behavior::Undecodable).then(Uuid::now_v7);
                if let Some(id) = event {
                    for script in &self.scripts {
                        script.set(id, *behavior);
                    }
                    if matches!(behavior, Behavior::AlwaysFails(_)) {
                        self.always_failing.lock().unwrap().insert(id);
                    }
                    self.produced.push(Produced {
                        id,
                        key: key.clone(),
                        partition,
                    });
                }
                (event, key, partition)
            }
        };
        Some(NewRecord {
            event,
            key,
            partition,
        })
    }

    pub(crate) fn config(&self, script: &Script, max_batch: u8) -> Config {
        let mut config = Config::new(&self.kafka, &self.group(script), &self.topic.name);
        script.listener.clone_into(&mut config.name);
        config.max_batch = max_batch.into();
        config
    }

    pub(crate) fn kafka(&self) -> &str {
        &self.kafka
    }

    /// The progress of the worker that was started first, once it has one.
    pub(crate) fn progress(&self) -> Option<Progress> {
        self.workers.first()?.progress()
    }

    fn start(&mut self, script: usize, max_batch: u8, delay_ms: u8) {
        let script = &self.scripts[script];
        self.started += 1;
        let name = format!("worker {}", self.started);
        let config = self.config(script, max_batch);
        let handler = RecordingHandler::new(script, delay_ms);
        self.workers
            .push(Worker::start(&name, config, &self.database, handler));
    }

    async fn kill(&mut self, worker: Worker, silently: bool) {
        // librdkafka does not expire a member that has no partitions yet, unlike a lost process.
        if !(silently && worker.holds_partitions()) {
            worker.kill();
            return;
        }
        // Kafka notices the loss when the session expires, the database at once.
        let gate = worker.freeze(false);
        worker.kill();
        self.disconnect(&worker.name).await;
        self.killed.push(gate);
    }

    /// Terminates the connections of one worker, or with `%` those of all workers and operators.
    async fn disconnect(&self, name: &str) {
        sqlx::query(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and application_name like $1 and application_name <> 'observer'",
        )
        .bind(name)
        .execute(&self.pool)
        .await
        .unwrap();
    }

    fn operator(&self, script: &Arc<Script>, delay_ms: u8) -> Operator {
        let (name, handler) = (&script.listener, RecordingHandler::new(script, delay_ms));
        Operator {
            dead_letters: DeadLetters::new(
                name,
                self.operator_pool.clone(),
                handler,
                worker::RETRY_POLICY,
            ),
            topic: self.topic.clone(),
            always_failing: Arc::clone(&self.always_failing),
        }
    }

    /// Blocks the worker that was started first, in its next transaction.
    pub(crate) fn freeze_first_worker(&self) -> Arc<Gate> {
        self.workers[0].freeze(true)
    }

    /// Heals all failures, starts a worker for each listener and redrives until everything is settled; then checks the result.
    pub(crate) async fn settle(&mut self) -> Result<(), String> {
        for index in 0..self.scripts.len() {
            self.scripts[index].heal(usize::MAX);
            self.scripts[index].skip_delay();
            self.start(index, 20, 0);
        }
        self.until_settled().await?;
        self.stop().await?;
        self.check().await?;
        self.check_final().await
    }

    /// Stops all workers, and lets the killed ones end.
    pub(crate) async fn stop(&mut self) -> Result<(), String> {
        for gate in self.killed.drain(..) {
            gate.open();
        }
        for worker in &self.workers {
            worker.stop();
        }
        for worker in self.workers.drain(..) {
            worker.join().await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Waits for the background actions, then redrives until everything is settled.
    pub(crate) async fn until_settled(&mut self) -> Result<(), String> {
        while let Some(task) = self.background.join_next().await {
            task.map_err(|error| error.to_string())?;
        }
        let (began, mut last_extra) = (Instant::now(), Instant::now());
        while let Err(left) = self.is_settled().await {
            self.check().await?;
            if began.elapsed() > WITHIN {
                return Err(format!("not settled within {WITHIN:?}: {left}"));
            }
            if last_extra.elapsed() > EXTRA_RECORD_AFTER {
                last_extra = Instant::now();
                self.produce_extra().await;
            }
            for script in &self.scripts {
                let operator = self.operator(script, 0);
                let all = Filter::default();
                operator.run(&all, usize::MAX, true, Duration::ZERO).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Produces a message without a key to each partition.
    async fn produce_extra(&mut self) {
        for partition in 0..self.topic.partitions {
            let partition = u8::try_from(partition).unwrap();
            let new_record = self.new_record(&ToProduce::New(None, partition, Behavior::Applies));
            self.topic
                .send(new_record.into_iter().collect(), Duration::ZERO)
                .await;
        }
    }
}

fn filter(selection: &Selection) -> (Filter, usize) {
    match selection {
        Selection::All => (Filter::default(), usize::MAX),
        Selection::Most(most) => (Filter::default(), (*most).into()),
        Selection::Key(key) => {
            let key = Some(vec![0xff, *key]);
            let filter = Filter {
                key,
                ..Filter::default()
            };
            (filter, usize::MAX)
        }
    }
}
