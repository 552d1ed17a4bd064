//! Keeps Kafka Connect's connectors as a folder declares them.
//!
//! It creates or updates a connector when its file says so, pauses, stops or resumes it, and removes it when its file is gone. It
//! restarts a FAILED connector or task, without end, with capped exponential back-off, and it finishes a
//! [re-read](crate::reread()) that was interrupted. The reconciler marks its connectors with its owner, and changes no other: a Kafka
//! Connect may be shared.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::client::{self, Client, Info};
use crate::declared::{self, Connector, TargetState};
use crate::plan::{self, Change};
use crate::reread;
use crate::restarts::Restarts;

/// How often a pass begins.
const PERIOD: Duration = Duration::from_secs(1);

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
    /// Sent to the state that is declared.
    pub sent: BTreeMap<String, TargetState>,
    /// A re-read of their outbox is on its way.
    pub rereading: Vec<String>,
    /// Declared as running, but not running yet.
    pub waiting: Vec<String>,
}

impl Pass {
    /// Whether every declared connector is as declared.
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
    restarts: Restarts,
    /// What was logged of a connector last, by name and subject: it is logged when it changes, not in each pass.
    noted: BTreeMap<(String, Subject), String>,
}

/// What is logged of a connector until it is as declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Owner,
    Refusal,
    Reread,
    State,
}

impl Reconciler {
    /// A reconciler of the files in `folder`; it marks its connectors with `owner`.
    #[must_use]
    pub fn new(client: Client, folder: impl Into<PathBuf>, owner: &str) -> Self {
        Self {
            client,
            folder: folder.into(),
            owner: owner.to_owned(),
            restarts: Restarts::default(),
            noted: BTreeMap::new(),
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
            let done = self.reconcile(name, connector, found.get(name), &mut pass);
            let refused = refusal(done.await)?;
            self.refused(name, refused, &mut pass);
        }
        let gone: BTreeSet<&String> = found
            .keys()
            .filter(|name| !declared.contains_key(*name))
            .collect();
        for name in gone {
            let config = &found[name].info.config;
            if plan::is_of(&self.owner, config) {
                let refused = refusal(self.remove(name, config, &mut pass).await)?;
                self.refused(name, refused, &mut pass);
            }
        }
        self.restarts.retain(|name| declared.contains_key(name));
        self.noted
            .retain(|(name, _), _| declared.contains_key(name) || pass.refused.contains_key(name));
        Ok(pass)
    }

    /// Whether `what` of a connector is news.
    fn is_news(&mut self, name: &str, subject: Subject, what: &str) -> bool {
        let before = self
            .noted
            .insert((name.to_owned(), subject), what.to_owned());
        before.as_deref() != Some(what)
    }

    /// The connector is as declared: what differs later is news.
    fn forget(&mut self, name: &str) {
        self.noted.retain(|(it, _), _| it != name);
    }

    /// Records what Kafka Connect refuses of one connector; the others go on.
    fn refused(&mut self, name: &str, message: Option<String>, pass: &mut Pass) {
        let Some(message) = message else { return };
        if self.is_news(name, Subject::Refusal, &message) {
            tracing::warn!(
                connector = name,
                error = message,
                "Kafka Connect refuses the connector; correct its file"
            );
        }
        pass.refused.insert(name.to_owned(), message);
    }

    async fn reconcile(
        &mut self,
        name: &str,
        connector: &Connector,
        found: Option<&Info>,
        pass: &mut Pass,
    ) -> Result<(), client::Error> {
        let changes = plan::changes(connector, found, &self.owner);
        let wanted = plan::wanted(connector, &self.owner);
        let (Some(found), false) = (found, changes.contains(&Change::Create)) else {
            return self.create(name, &wanted, connector.state, pass).await;
        };
        // Each change of a pass is as Kafka Connect shows it; the next one follows in the next pass.
        match changes.first() {
            None => {
                self.forget(name);
                self.restart(name, connector.state, found, pass).await
            }
            Some(Change::Foreign) => {
                if self.is_news(name, Subject::Owner, "another") {
                    tracing::warn!(
                        connector = name,
                        "another owner made a connector of this name; leaving it unchanged: remove it (curl -X DELETE {}), or rename yours in \
                         its file",
                        self.client.url_of(name)
                    );
                }
                pass.foreign.push(name.to_owned());
                Ok(())
            }
            Some(Change::Reread) => {
                if self.is_news(name, Subject::Reread, "on its way") {
                    tracing::warn!(
                        connector = name,
                        "a re-read of the connector's outbox is on its way; finishing it"
                    );
                }
                pass.rereading.push(name.to_owned());
                if reread::finish(&self.client, name, found, &wanted).await? {
                    self.send_to(name, connector.state).await?;
                }
                Ok(())
            }
            Some(Change::State { from, to }) => {
                if self.is_news(name, Subject::State, &format!("{from} {to}")) {
                    tracing::warn!(
                        connector = name,
                        "the connector is {from}, but its file declares it {to}; changing it"
                    );
                }
                pass.sent.insert(name.to_owned(), *to);
                self.send_to(name, *to).await
            }
            Some(_) => {
                self.client.put_config(name, &wanted).await?;
                self.forget(name);
                tracing::info!(connector = name, "created or updated the connector");
                pass.put.push(name.to_owned());
                Ok(())
            }
        }
    }

    async fn create(
        &mut self,
        name: &str,
        wanted: &Map<String, Value>,
        state: TargetState,
        pass: &mut Pass,
    ) -> Result<(), client::Error> {
        if state == TargetState::Running {
            self.client.put_config(name, wanted).await?;
        } else {
            self.client.create(name, wanted, state).await?;
        }
        self.forget(name);
        tracing::info!(connector = name, "created or updated the connector");
        pass.put.push(name.to_owned());
        Ok(())
    }

    async fn send_to(&self, name: &str, state: TargetState) -> Result<(), client::Error> {
        match state {
            TargetState::Running => self.client.resume(name).await,
            TargetState::Paused => self.client.pause(name).await,
            TargetState::Stopped => self.client.stop(name).await,
        }
    }

    /// Restarts a connector that failed, once its back-off has passed.
    async fn restart(
        &mut self,
        name: &str,
        state: TargetState,
        found: &Info,
        pass: &mut Pass,
    ) -> Result<(), client::Error> {
        let now = Instant::now();
        let is_held = state != TargetState::Running && found.status.failure().is_none();
        if is_held || found.status.is_running() {
            self.restarts.runs(name, now);
            return Ok(());
        }
        let Some(why) = found.status.failure() else {
            pass.waiting.push(name.to_owned());
            return Ok(());
        };
        let Some(wait) = self.restarts.failed(name, now) else {
            pass.waiting.push(name.to_owned());
            return Ok(());
        };
        tracing::warn!(connector = name, error = why, next = ?wait, "the connector failed; restarting it");
        self.client.restart(name).await?;
        pass.restarted.insert(name.to_owned(), why.to_owned());
        Ok(())
    }

    async fn remove(
        &self,
        name: &str,
        config: &Map<String, Value>,
        pass: &mut Pass,
    ) -> Result<(), client::Error> {
        self.client.delete(name).await?;
        pass.removed.push(name.to_owned());
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

/// What Kafka Connect refuses of one connector, apart from the errors that concern all.
fn refusal(done: Result<(), client::Error>) -> Result<Option<String>, client::Error> {
    match done {
        Ok(()) => Ok(None),
        Err(client::Error::Refused { message, .. }) => Ok(Some(message)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
