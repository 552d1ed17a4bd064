//! A case: a fresh database and a fresh topic, the workers, the operators, and what the plan does to them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use outbox::listener::dead_letter::{DeadLetters, Filter};
use outbox::listener::{Config, Failure};
use outbox::schema::{self, Part, Roles};
use sqlx::PgPool;
use stack::testing::{self, Context, Database};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::clerk::{Clerk, Gate, Hand, TABLES};
use crate::plan::{Action, Manner, Plan, Sent, Which};
use crate::topic::{Sending, Topic};
use crate::worker::{self, Worker};

/// Workers at a time.
const MOST_WORKERS: usize = 5;
/// How long everything may take to settle once everybody is well.
const WITHIN: Duration = Duration::from_secs(120);
/// After such a time without an end, a further message is sent: an offset whose commit was lost goes with the next one.
const PULSE: Duration = Duration::from_secs(5);

/// A sent event, so that it can be sent again.
struct Known {
    id: Uuid,
    key: Option<Vec<u8>>,
    partition: i32,
}

pub(crate) struct Office {
    pub(crate) database: Database,
    pub(crate) pool: PgPool,
    /// The operators'.
    theirs: PgPool,
    kafka: String,
    pub(crate) topic: Topic,
    pub(crate) clerks: Vec<Arc<Clerk>>,
    workers: Vec<Worker>,
    /// Killed in silence: they stand still until the end.
    killed: Vec<Arc<Gate>>,
    started: usize,
    known: Vec<Known>,
    /// Events that can never be applied.
    pub(crate) hopeless: Arc<Mutex<BTreeSet<Uuid>>>,
    /// What goes on beside the plan.
    errands: JoinSet<()>,
}

fn chosen<T>(among: &[T], number: u8) -> Option<usize> {
    usize::from(number).checked_rem(among.len())
}

impl Office {
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
        // Groups are named after it.
        let name = format!("note-{}", Uuid::now_v7().simple());
        let topic = Topic::create(&stack.kafka, &name, plan.partitions.into()).await;
        let names = ["clerk", "second"];
        let names = &names[..=usize::from(plan.two_listeners)];
        Self {
            theirs: worker::pool(&database, "operator"),
            database,
            pool,
            kafka: stack.kafka.clone(),
            topic,
            clerks: names
                .iter()
                .map(|name| Arc::new(Clerk::new(name)))
                .collect(),
            workers: Vec::new(),
            killed: Vec::new(),
            started: 0,
            known: Vec::new(),
            hopeless: Arc::default(),
            errands: JoinSet::new(),
        }
    }

    pub(crate) fn group(&self, clerk: &Clerk) -> String {
        format!("{}-{}", self.topic.name, clerk.listener)
    }

    pub(crate) async fn does(&mut self, action: &Action) {
        match action {
            Action::Produce { messages, gap_ms } => {
                let sendings = messages
                    .iter()
                    .filter_map(|sent| self.sending(sent))
                    .collect();
                let (topic, gap) = (self.topic.clone(), Duration::from_millis((*gap_ms).into()));
                self.errands
                    .spawn(async move { topic.send(sendings, gap).await });
            }
            Action::Start {
                listener,
                max_batch,
                dwell_ms,
            } => {
                if self.workers.len() < MOST_WORKERS
                    && let Some(clerk) = chosen(&self.clerks, *listener)
                {
                    self.start(clerk, *max_batch, *dwell_ms);
                }
            }
            Action::Stop(worker) => {
                if let Some(index) = chosen(&self.workers, *worker) {
                    let worker = self.workers.swap_remove(index);
                    worker.stop();
                    self.errands
                        .spawn(async move { worker.ended().await.unwrap() });
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
                within,
                for_ms,
            } => {
                if let Some(index) = chosen(&self.workers, *worker) {
                    let gate = self.workers[index].freeze(*within);
                    let lasts = Duration::from_millis((*for_ms).into());
                    self.errands.spawn(async move {
                        tokio::time::sleep(lasts).await;
                        gate.open();
                    });
                }
            }
            Action::Heal(most) => {
                for clerk in &self.clerks {
                    clerk.heal((*most).into());
                }
            }
            Action::Redrive {
                operators,
                which,
                drops,
                dwell_ms,
                for_ms,
            } => {
                let lasts = Duration::from_millis((*for_ms).into());
                for clerk in &self.clerks {
                    for _ in 0..*operators {
                        let operator = self.operator(clerk, *dwell_ms);
                        let ((filter, most), drops) = (filter(which), *drops);
                        self.errands.spawn(async move {
                            operator.works(&filter, most, drops, lasts).await;
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

    fn sending(&mut self, sent: &Sent) -> Option<Sending> {
        let partitions = self.topic.partitions;
        let (event, key, partition) = match sent {
            Sent::Again(event, partition) => {
                let known = &self.known[chosen(&self.known, *event)?];
                let partition = match known.key {
                    Some(_) => known.partition,
                    None => i32::from(*partition) % partitions,
                };
                (Some(known.id), known.key.clone(), partition)
            }
            Sent::New(key, partition, manner) => {
                let partition = i32::from(key.unwrap_or(*partition)) % partitions;
                let key = key.map(|key| vec![0xff, key]);
                let event = (*manner != Manner::Undecodable).then(Uuid::now_v7);
                if let Some(id) = event {
                    for clerk in &self.clerks {
                        clerk.expect(id, *manner);
                    }
                    if matches!(manner, Manner::Hopeless(_)) {
                        self.hopeless.lock().unwrap().insert(id);
                    }
                    self.known.push(Known {
                        id,
                        key: key.clone(),
                        partition,
                    });
                }
                (event, key, partition)
            }
        };
        Some(Sending {
            event,
            key,
            partition,
        })
    }

    pub(crate) fn config(&self, clerk: &Clerk, max_batch: u8) -> Config {
        let mut config = Config::new(&self.kafka, &self.group(clerk), &self.topic.name);
        clerk.listener.clone_into(&mut config.name);
        config.max_batch = max_batch.into();
        config
    }

    fn start(&mut self, clerk: usize, max_batch: u8, dwell_ms: u8) {
        let clerk = &self.clerks[clerk];
        self.started += 1;
        let name = format!("worker {}", self.started);
        let config = self.config(clerk, max_batch);
        let hand = Hand::new(clerk, dwell_ms);
        self.workers
            .push(Worker::start(&name, config, &self.database, hand));
    }

    async fn kill(&mut self, worker: Worker, silently: bool) {
        // One that only begins would not be missed, as a process would.
        if !(silently && worker.holds_partitions()) {
            worker.die();
            return;
        }
        // It is not heard of any more: not by Kafka after a while, not by the database at once.
        let gate = worker.freeze(false);
        worker.die();
        self.disconnect(&worker.name).await;
        self.killed.push(gate);
    }

    /// Ends the connections of one worker, or with `%` of all and of the operators.
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

    fn operator(&self, clerk: &Arc<Clerk>, dwell_ms: u8) -> Operator {
        let (name, hand) = (&clerk.listener, Hand::new(clerk, dwell_ms));
        Operator {
            dead_letters: DeadLetters::new(name, self.theirs.clone(), hand, worker::RETRY_POLICY),
            topic: self.topic.clone(),
            hopeless: Arc::clone(&self.hopeless),
        }
    }

    /// The worker that was started first, within its next transaction.
    pub(crate) fn freeze_first(&self) -> Arc<Gate> {
        self.workers[0].freeze(true)
    }

    /// Everybody is well again, and whoever looks after dead letters does, until everything is settled.
    pub(crate) async fn settles(&mut self) -> Result<(), String> {
        for index in 0..self.clerks.len() {
            self.clerks[index].heal(usize::MAX);
            self.clerks[index].hurry();
            self.start(index, 20, 0);
        }
        self.until_settled().await?;
        self.stop().await?;
        self.holds().await?;
        self.holds_at_the_end().await
    }

    /// All workers end: those that were killed without a word.
    pub(crate) async fn stop(&mut self) -> Result<(), String> {
        for gate in self.killed.drain(..) {
            gate.open();
        }
        for worker in &self.workers {
            worker.stop();
        }
        for worker in self.workers.drain(..) {
            worker.ended().await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Until what goes on beside the plan has ended, and nothing is left to do.
    pub(crate) async fn until_settled(&mut self) -> Result<(), String> {
        while let Some(errand) = self.errands.join_next().await {
            errand.map_err(|error| error.to_string())?;
        }
        let (began, mut pulsed) = (Instant::now(), Instant::now());
        while let Err(left) = self.is_settled().await {
            self.holds().await?;
            if began.elapsed() > WITHIN {
                return Err(format!("not settled within {WITHIN:?}: {left}"));
            }
            if pulsed.elapsed() > PULSE {
                pulsed = Instant::now();
                self.pulse().await;
            }
            for clerk in &self.clerks {
                let operator = self.operator(clerk, 0);
                let all = Filter::default();
                operator.works(&all, usize::MAX, true, Duration::ZERO).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// A message without a key to each partition.
    async fn pulse(&mut self) {
        for partition in 0..self.topic.partitions {
            let partition = u8::try_from(partition).unwrap();
            let sending = self.sending(&Sent::New(None, partition, Manner::Applies));
            self.topic
                .send(sending.into_iter().collect(), Duration::ZERO)
                .await;
        }
    }
}

fn filter(which: &Which) -> (Filter, usize) {
    match which {
        Which::All => (Filter::default(), usize::MAX),
        Which::Most(most) => (Filter::default(), (*most).into()),
        Which::Key(key) => {
            let key = Some(vec![0xff, *key]);
            let filter = Filter {
                key,
                ..Filter::default()
            };
            (filter, usize::MAX)
        }
    }
}

/// Somebody who looks after one listener's dead letters.
struct Operator {
    dead_letters: DeadLetters<Hand>,
    topic: Topic,
    hopeless: Arc<Mutex<BTreeSet<Uuid>>>,
}

impl Operator {
    /// Goes through the dead letters once, and again while there is time.
    async fn works(&self, filter: &Filter, most: usize, drops: bool, lasts: Duration) {
        let began = Instant::now();
        loop {
            // Where the database is away, nothing has changed.
            drop(self.goes_through(filter, most, drops).await);
            if began.elapsed() >= lasts {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Tries dead letters in their order, and gives up what can never be applied.
    async fn goes_through(&self, filter: &Filter, most: usize, drops: bool) -> Result<(), Failure> {
        for dead_letter in self.dead_letters.list(filter, most).await? {
            if drops && self.is_hopeless(dead_letter.id) {
                self.dead_letters
                    .discard(dead_letter.id, "hopeless")
                    .await?;
            } else {
                self.dead_letters.redrive(dead_letter.id).await?;
            }
        }
        Ok(())
    }

    fn is_hopeless(&self, id: Uuid) -> bool {
        self.hopeless.lock().unwrap().contains(&id) || self.topic.is_undecodable(id)
    }
}
