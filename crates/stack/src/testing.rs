//! Real parts for tests: a PostgreSQL with a database a test, or a whole stack for the tests of one process.
//!
//! Both come from the stack that `OUTBOX_STACK` describes, if it is set (`stack exec` sets it); else this process
//! starts its own, which ends with it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{OnceCell, oneshot};

pub use crate::context::Context;
pub use crate::description::{Database, Description};
pub use crate::services::Binary;

use crate::child::die_with_parent;
use crate::kafka;
use crate::ports;
use crate::postgres::{self, Server};
use crate::services;
use crate::session::Home;

static STACK: OnceCell<Description> = OnceCell::const_new();
static POSTGRES: OnceCell<Database> = OnceCell::const_new();

/// The whole stack.
///
/// # Panics
/// If it cannot be started: tests cannot go on without it.
pub async fn stack() -> &'static Description {
    STACK
        .get_or_init(async || match described() {
            Some(stack) => stack,
            None => {
                own(async || {
                    build()?;
                    let (stack, guard) = Home::find()?
                        .start_ephemeral(std::future::pending())
                        .await?;
                    Ok((stack.description().clone(), (stack, guard)))
                })
                .await
            }
        })
        .await
}

/// A fresh database of a context, owned by its owner, not yet migrated. It is gone with its server.
///
/// # Panics
/// If it cannot be made: a test cannot go on without it.
pub async fn database(context: Context) -> Database {
    let server = match described() {
        Some(stack) => stack.order_db,
        None => POSTGRES
            .get_or_init(async || own(async || server().await).await)
            .await
            .clone(),
    };
    let name = format!("{}_{}", context.name(), uuid::Uuid::new_v4().simple());
    let made = async {
        let maintenance = Database {
            name: "postgres".to_owned(),
            ..server.clone()
        };
        let mut connection = maintenance.superuser().connect().await?;
        postgres::create(&mut connection, context, &name).await?;
        anyhow::Ok(connection.close().await?)
    };
    made.await
        .unwrap_or_else(|error| panic!("no database: {error:#}"));
    Database { name, ..server }
}

/// Columns, constraints, indexes and publications of all tables that `database` has, as lines to compare: its schema, however it
/// came about. An invalid index is marked as such.
///
/// # Panics
/// If the database does not answer.
pub async fn schema(database: &Database) -> Vec<String> {
    lines(
        database,
        "with ours as (select oid, relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r')
         select format('%s.%s %s %s default %s identity %s generated %s', relname, attname,
                       format_type(atttypid, atttypmod), case when attnotnull then 'not null' else 'null' end,
                       coalesce(pg_get_expr(adbin, adrelid), 'none'), attidentity, attgenerated)
         from pg_attribute join ours on ours.oid = attrelid
              left join pg_attrdef on adrelid = attrelid and adnum = attnum
         where attnum > 0 and not attisdropped
         union all
         select format('%s %s %s', relname, conname, pg_get_constraintdef(pg_constraint.oid))
         from pg_constraint join ours on ours.oid = conrelid
         union all
         select pg_get_indexdef(indexrelid) || case when indisvalid then '' else ' invalid' end
         from pg_index join ours on ours.oid = indrelid
         union all
         select format('publication %s of %s: %s %s %s %s', pubname, tablename, pubinsert, pubupdate, pubdelete, pubtruncate)
         from pg_publication_tables join pg_publication using (pubname)
         order by 1",
    )
    .await
}

/// What each role may do with each table, column and sequence that `database` has, as lines to compare.
///
/// # Panics
/// If the database does not answer.
pub async fn grants(database: &Database) -> Vec<String> {
    lines(
        database,
        "with granted as (
             select relname, '*' as attname, aclexplode(relacl) as entry from pg_class
             where relnamespace = 'public'::regnamespace
             union all
             select relname, attname, aclexplode(attacl) from pg_attribute join pg_class on pg_class.oid = attrelid
             where relnamespace = 'public'::regnamespace
         )
         select format('%s: %s on %s.%s', (entry).grantee::regrole, (entry).privilege_type, relname, attname)
         from granted
         order by 1",
    )
    .await
}

async fn lines(database: &Database, query: &'static str) -> Vec<String> {
    let read = async {
        let mut connection = database.superuser().connect().await?;
        sqlx::query_scalar(query).fetch_all(&mut connection).await
    };
    read.await
        .unwrap_or_else(|error| panic!("the catalog cannot be read: {error}"))
}

/// A further Kafka Connect on the broker of `stack`, in a group of its own, that writes within Kafka's transactions;
/// returns its address. It ends with this process.
///
/// # Panics
/// If it cannot be started.
pub async fn connect_exactly_once(stack: &'static Description) -> String {
    own(async || {
        let (instance, guard) = Home::find()?.ephemeral()?;
        let mut ports = stack.ports.clone();
        ports.connect = ports::free()?;
        let url = format!("http://127.0.0.1:{}", ports.connect);
        let worker = kafka::Worker {
            group: "connect-exactly-once",
            secrets: &stack.order_db.secrets.join("connect"),
            exactly_once: true,
        };
        kafka::start_connect(&instance, &ports, &connect::Client::new(&url)?, &worker).await?;
        Ok((url, (instance, guard)))
    })
    .await
}

fn described() -> Option<Description> {
    let path = std::env::var_os("OUTBOX_STACK")?;
    Some(Description::read(Path::new(&path)).unwrap_or_else(|error| panic!("{error:#}")))
}

async fn server() -> Result<(Database, impl Sized)> {
    let (instance, guard) = Home::find()?.ephemeral()?;
    let server = Server::new(&instance, Context::Order, ports::free()?);
    server.start().await?;
    server
        .create_roles(&[Context::Order, Context::Inventory])
        .await?;
    let database = server.database();
    Ok((database, (instance, guard)))
}

/// Starts something on a thread that lives as long as this process: what it started dies with the thread.
async fn own<T, K>(start: impl AsyncFnOnce() -> Result<(T, K)> + Send + 'static) -> T
where
    T: Send + 'static,
{
    let (send, receive) = oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        match runtime {
            Ok(runtime) => runtime.block_on(async {
                match start().await {
                    Ok((value, _kept)) => {
                        drop(send.send(Ok(value)));
                        std::future::pending::<()>().await;
                    }
                    Err(error) => drop(send.send(Err(error))),
                }
            }),
            Err(error) => drop(send.send(Err(error.into()))),
        }
    });
    let started = receive
        .await
        .context("the thread ended")
        .and_then(|started| started);
    started.unwrap_or_else(|error| panic!("{error:#}"))
}

/// The services as they are in the tree; whoever described a stack (`OUTBOX_STACK`) or named binaries has built them.
///
/// # Errors
/// If they do not build.
pub fn build() -> Result<()> {
    let built = ["STACK_BINARIES", "OUTBOX_STACK"];
    if built.iter().any(|name| std::env::var_os(name).is_some()) {
        return Ok(());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--workspace", "--bins"]);
    if services::binaries()?.ends_with("release") {
        command.arg("--release");
    }
    let status = command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "the services do not build");
    Ok(())
}

/// The process of a part, as it is now.
///
/// # Panics
/// If the stack's description is gone.
#[must_use]
pub fn pid(stack: &Description, part: &str) -> Option<Pid> {
    let now = Description::read(&stack.file).unwrap_or_else(|error| panic!("{error:#}"));
    now.pids
        .get(part)
        .and_then(|id| i32::try_from(*id).ok())
        .map(Pid::from_raw)
}

/// A further instance of a service, beside those of the stack; killed when it is dropped.
pub struct Service {
    child: std::process::Child,
    /// Where it serves HTTP.
    pub url: String,
    /// Its log.
    pub log: PathBuf,
}

impl Service {
    /// Starts it with settings of its own (variables without the service's prefix, such as `KAFKA__GROUP`) and waits
    /// until it is ready.
    ///
    /// # Panics
    /// If it does not become ready: with its log.
    pub async fn start(stack: &Description, binary: Binary, settings: &[(&str, &str)]) -> Self {
        let service =
            Self::spawn(stack, binary, settings).unwrap_or_else(|error| panic!("{error:#}"));
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while let Err(error) = services::ready(&service.url).await {
            assert!(
                std::time::Instant::now() < deadline,
                "{error:#}\n{}",
                std::fs::read_to_string(&service.log).unwrap_or_default()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        service
    }

    /// Starts it and does not wait.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(stack: &Description, binary: Binary, settings: &[(&str, &str)]) -> Result<Self> {
        Self::spawn_under(&[], stack, binary, settings)
    }

    /// Starts it with further variables in its environment, and does not wait.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn_under(
        environment: &[(&str, &OsStr)],
        stack: &Description,
        binary: Binary,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let port = ports::free()?;
        let log = stack.logs.join(format!("{}-{port}.log", binary.name()));
        let output = std::fs::File::create(&log)?;
        let prefix = binary.name().to_uppercase().replace('-', "_");
        let mut command = Command::new(stack.binaries.join(binary.name()));
        command
            .arg("serve")
            .envs(binary.settings(stack))
            .env(
                format!("{prefix}__HTTP__LISTEN"),
                format!("127.0.0.1:{port}"),
            )
            .envs(
                settings
                    .iter()
                    .map(|(key, value)| (format!("{prefix}__{key}"), value)),
            )
            .envs(environment.iter().copied())
            .stdout(output.try_clone()?)
            .stderr(output);
        // With the test's thread, at the latest.
        die_with_parent(&mut command);
        let child = command.spawn().context("cannot run the service")?;
        let url = format!("http://127.0.0.1:{port}");
        Ok(Self { child, url, log })
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    ///
    /// # Panics
    /// If that cannot be known.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        (self.child.try_wait()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// If the process is gone.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).unwrap_or_else(|error| panic!("{error}"));
        kill(Pid::from_raw(id), signal).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Asks it to stop and waits for its end.
    ///
    /// # Panics
    /// If it is gone already.
    #[must_use]
    pub fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.child.wait().unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
