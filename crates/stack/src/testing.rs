//! Real parts for tests: a database per test, or a whole stack for the tests of one process.
//!
//! Both belong to the stack that `OUTBOX_STACK` describes, as `stack exec` sets it. Without it this process starts its
//! own, which ends with it.

mod build;
mod catalog;
pub mod expect;
mod service;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::unistd::Pid;
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{OnceCell, oneshot};

pub use self::build::{build, example};
pub use self::catalog::{grants, schema};
pub use self::service::Service;
pub use crate::context::Context;
pub use crate::description::{Database, Description};
pub use crate::services::Binary;

use crate::kafka;
use crate::ports;
use crate::postgres::{self, Server};
use crate::session::Home;

static STACK: OnceCell<Description> = OnceCell::const_new();
static POSTGRES: OnceCell<Database> = OnceCell::const_new();

/// The whole stack.
///
/// # Panics
/// If it cannot be started.
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

/// A new database of a context, not migrated yet. It is removed with its server.
///
/// # Panics
/// If it cannot be created.
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
        .unwrap_or_else(|error| panic!("cannot create a database: {error:#}"));
    Database { name, ..server }
}

/// Starts a further Kafka Connect worker on the broker of `stack`, in its own group, with exactly-once support for
/// sources; returns its URL. It ends with this process.
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
            tls: None,
        };
        kafka::start_connect(&instance, &ports, &connect::Client::new(&url)?, &worker).await?;
        Ok((url, (instance, guard)))
    })
    .await
}

/// Starts a further Kafka Connect worker on the broker of `stack`, in its own group, that takes requests over TLS, and only with a
/// client certificate of the stack's authority; returns its URL and how to get in. It ends with this process.
///
/// # Panics
/// If it cannot be started.
pub async fn connect_over_tls(stack: &'static Description) -> (String, connect::Access) {
    own(async || {
        let (instance, guard) = Home::find()?.ephemeral()?;
        let mut ports = stack.ports.clone();
        ports.connect = ports::free()?;
        let url = format!("https://localhost:{}", ports.connect);
        let certificates = stack.order_db.certificates();
        let folder = instance.run();
        let access = connect::Access {
            ca: Some(stores(&folder, &certificates.authority())?),
            identity: Some((certificates.client(), certificates.client_key())),
            ..connect::Access::default()
        };
        let worker = kafka::Worker {
            group: "connect-over-tls",
            secrets: &stack.order_db.secrets.join("connect"),
            exactly_once: false,
            tls: Some(&folder),
        };
        let client = connect::Client::with_access(&url, &access)?;
        kafka::start_connect(&instance, &ports, &client, &worker).await?;
        Ok(((url, access), (instance, guard)))
    })
    .await
}

/// Makes the stores of a worker that trusts the clients of `authority`; returns its own certificate, for `localhost`.
fn stores(folder: &Path, authority: &Path) -> Result<PathBuf> {
    let keytool = |store: &str, command: &str, file: Option<&Path>| {
        let mut keytool = Command::new(kafka::java("keytool"));
        keytool.args(command.split(' '));
        keytool.args(["-storetype", "PKCS12", "-storepass", kafka::STORE_PASSWORD]);
        keytool.arg("-keystore").arg(folder.join(store));
        if let Some(file) = file {
            keytool.arg("-file").arg(file);
        }
        let output = keytool.output().context("cannot run keytool")?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "keytool {command} failed: {said}");
        Ok(())
    };
    let own = folder.join("connect.pem");
    let pair = "-genkeypair -alias own -keyalg EC -dname CN=localhost -ext san=dns:localhost";
    keytool(kafka::KEYSTORE, pair, None)?;
    keytool(kafka::KEYSTORE, "-exportcert -rfc -alias own", Some(&own))?;
    let trust = "-importcert -noprompt -alias authority";
    keytool(kafka::TRUSTSTORE, trust, Some(authority))?;
    Ok(own)
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

/// Starts something on a thread that lives as long as this process, because child processes die with their thread.
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
        .context("the thread has ended")
        .and_then(|started| started);
    started.unwrap_or_else(|error| panic!("{error:#}"))
}

/// The current process of a part.
///
/// # Panics
/// If the stack's description is missing.
#[must_use]
pub fn pid(stack: &Description, part: &str) -> Option<Pid> {
    let now = Description::read(&stack.file).unwrap_or_else(|error| panic!("{error:#}"));
    now.pids
        .get(part)
        .and_then(|id| i32::try_from(*id).ok())
        .map(Pid::from_raw)
}
