//! Keeps Kafka Connect's connectors as a folder declares them.
//!
//! It creates or updates a connector when its file says so, and removes it when its file is gone. It restarts a FAILED connector or
//! task, without end, with capped exponential back-off. The reconciler marks its connectors with its owner, and changes no other: a
//! Kafka Connect may be shared.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::client::{self, Client, Info};
use crate::declared::{self, Connector};

/// The property that marks a connector with its owner. Kafka Connect keeps properties that it does not know.
const OWNER: &str = "reconciler.owner";
/// How often a pass begins.
const PERIOD: Duration = Duration::from_secs(1);
/// The longest wait between two restarts. A connector with a wrong password must not hammer its database.
const RESTART_MAX: Duration = Duration::from_secs(60);
/// The waits after a restart; they double.
const RESTART_BACKOFF: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_secs(1))
    .with_max_delay(RESTART_MAX)
    .without_max_times();
/// How long a connector must run before its back-off starts anew.
const STEADY: Duration = Duration::from_secs(60);

/// Why a pass ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder declares connectors in part only.
    #[error(transparent)]
    Declared(#[from] declared::Error),
    /// Kafka Connect does not answer, or refuses.
    #[error(transparent)]
    Connect(#[from] client::Error),
}

/// What a pass did and found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pass {
    /// Created, or given another configuration.
    pub put: Vec<String>,
    /// Removed.
    pub removed: Vec<String>,
    /// Restarted, and the error that they failed with.
    pub restarted: BTreeMap<String, String>,
    /// Declared, but of another owner, so not changed.
    pub foreign: Vec<String>,
    /// Refused by Kafka Connect, and its message.
    pub refused: BTreeMap<String, String>,
    /// Declared, but not running yet.
    pub waiting: Vec<String>,
}

impl Pass {
    /// Whether every declared connector is as declared and running.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        *self == Self::default()
    }
}

/// Keeps connectors as a folder declares them; see the [module](self).
///
/// ```no_run
/// # async fn run() -> Result<(), connect::Error> {
/// use connect::{Client, Reconciler};
///
/// let client = Client::new("http://127.0.0.1:8083")?;
/// Reconciler::new(client, "/etc/connectors", "connect").run().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Reconciler {
    client: Client,
    folder: PathBuf,
    owner: String,
    failures: BTreeMap<String, Failing>,
}

/// A connector that failed not long ago.
#[derive(Debug)]
struct Failing {
    backoff: ExponentialBackoff,
    again: Instant,
    running_since: Option<Instant>,
}

impl Reconciler {
    /// A reconciler of the files in `folder`; it marks its connectors with `owner`.
    #[must_use]
    pub fn new(client: Client, folder: impl Into<PathBuf>, owner: &str) -> Self {
        Self {
            client,
            folder: folder.into(),
            owner: owner.to_owned(),
            failures: BTreeMap::new(),
        }
    }

    /// Makes a pass each second, until dropped. It logs an error, and the next pass follows.
    pub async fn run(mut self) {
        let mut logged = String::new();
        loop {
            match self.pass().await {
                Ok(_) => logged.clear(),
                Err(error) => {
                    // Once, not each second.
                    let error = program::error::one_line(&error);
                    if error != logged {
                        tracing::warn!(error, "cannot reconcile the connectors; trying again");
                        logged = error;
                    }
                }
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Compares all connectors with the folder once, and changes what differs.
    ///
    /// # Errors
    /// [`Error`]; an unreadable folder changes nothing.
    pub async fn pass(&mut self) -> Result<Pass, Error> {
        let declared = declared::read(&self.folder)?;
        let found = self.client.all().await?;
        let mut pass = Pass::default();
        for (name, connector) in &declared {
            self.reconcile(name, connector, found.get(name), &mut pass)
                .await?;
        }
        let gone: BTreeSet<&String> = found
            .keys()
            .filter(|name| !declared.contains_key(*name))
            .collect();
        for name in gone {
            if self.is_mine(&found[name].info.config) {
                self.remove(name, &found[name].info.config).await?;
                pass.removed.push(name.clone());
            }
        }
        self.failures.retain(|name, _| declared.contains_key(name));
        Ok(pass)
    }

    fn is_mine(&self, config: &Map<String, Value>) -> bool {
        config.get(OWNER).is_some_and(|owner| *owner == self.owner)
    }

    async fn reconcile(
        &mut self,
        name: &str,
        connector: &Connector,
        found: Option<&Info>,
        pass: &mut Pass,
    ) -> Result<(), Error> {
        let mut wanted = connector.config.clone();
        wanted.insert("name".to_owned(), name.into());
        wanted.insert(OWNER.to_owned(), self.owner.clone().into());
        match found {
            Some(found) if !self.is_mine(&found.info.config) => {
                tracing::warn!(
                    connector = name,
                    "another owner made a connector of this name; leaving it unchanged: remove it (curl -X DELETE {}), or rename yours in its file",
                    self.client.url_of(name)
                );
                pass.foreign.push(name.to_owned());
                return Ok(());
            }
            Some(found) if found.info.config == wanted => self.restart(name, found, pass).await?,
            _ => match self.client.put_config(name, &wanted).await {
                Ok(()) => {
                    tracing::info!(connector = name, "created or updated the connector");
                    pass.put.push(name.to_owned());
                }
                Err(client::Error::Refused { message, .. }) => {
                    tracing::warn!(
                        connector = name,
                        error = message,
                        "Kafka Connect refuses the connector; correct its file"
                    );
                    pass.refused.insert(name.to_owned(), message);
                }
                Err(error) => return Err(error.into()),
            },
        }
        Ok(())
    }

    /// Restarts a connector that failed, once its back-off has passed.
    async fn restart(&mut self, name: &str, found: &Info, pass: &mut Pass) -> Result<(), Error> {
        let now = Instant::now();
        if found.status.is_running() {
            if let Some(failing) = self.failures.get_mut(name) {
                let since = *failing.running_since.get_or_insert(now);
                if now - since >= STEADY {
                    self.failures.remove(name);
                }
            }
            return Ok(());
        }
        let Some(why) = found.status.failure() else {
            pass.waiting.push(name.to_owned());
            return Ok(());
        };
        let failing = self.failures.entry(name.to_owned()).or_insert(Failing {
            backoff: RESTART_BACKOFF.build(),
            again: now,
            running_since: None,
        });
        failing.running_since = None;
        if now < failing.again {
            pass.waiting.push(name.to_owned());
            return Ok(());
        }
        let wait = failing.backoff.next().unwrap_or(RESTART_MAX);
        tracing::warn!(connector = name, error = why, next = ?wait, "the connector failed; restarting it");
        failing.again = now + wait;
        self.client.restart(name).await?;
        pass.restarted.insert(name.to_owned(), why.to_owned());
        Ok(())
    }

    async fn remove(&self, name: &str, config: &Map<String, Value>) -> Result<(), Error> {
        self.client.delete(name).await?;
        let text = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or_default();
        if config.contains_key("slot.name") {
            tracing::warn!(
                connector = name,
                slot = text("slot.name"),
                host = text("database.hostname"),
                port = text("database.port"),
                database = text("database.dbname"),
                "removed the connector; its replication slot remains and retains the write-ahead log. Unless another process reads it, drop \
                 it: select pg_drop_replication_slot('{}')",
                text("slot.name")
            );
        } else {
            tracing::info!(connector = name, "removed the connector");
        }
        Ok(())
    }
}
