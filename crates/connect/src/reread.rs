//! Reads an outbox again from its first row, after Kafka or Kafka Connect lost messages or a slot lost its log.
//!
//! A re-read that is on its way is a property of the connector's configuration, [`MARK`], because Kafka Connect alone outlives the
//! process that began it. The steps, in this order:
//!
//! 1. Mark the connector.
//! 2. Stop it, and wait until it has no task.
//! 3. Delete its offsets. From here on it reads its whole outbox when it runs.
//! 4. Remove the mark.
//! 5. Resume it.
//!
//! Each step may be repeated, and by several processes at once: Kafka Connect deletes the offsets of a stopped connector only. So
//! whatever finds a mark finishes the re-read: the reconciler, or the next command. A stopped connector without a mark is resumed by
//! the reconciler if it is declared running.

mod outcome;

use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::client::{self, Client, Info, MARK};
use crate::status::State;

pub use outcome::{Error, Left};

/// How often to ask Kafka Connect for its progress.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How long an interrupted re-read tries to resume the connector.
const RESUMED_WITHIN: Duration = Duration::from_secs(15);
/// How long Kafka Connect may take to set a mark whose answer nothing waits for.
const SET_WITHIN: Duration = Duration::from_secs(1);
/// How long Kafka Connect may take to show a resumed connector as such.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);

/// Stops the connector, deletes its offsets and resumes it: with `snapshot.mode=when_needed` it then reads its whole table
/// again. Returns when that is done. Listeners receive every event once more; their inboxes settle none a second time.
///
/// When `interrupted` resolves, it resumes the connector and returns. When it is dropped, or its process is killed, or Kafka Connect
/// does not answer, the connector keeps a mark, and the [reconciler](crate::Reconciler) or the next `reread` finishes the re-read.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let client = connect::Client::new("http://127.0.0.1:8083")?;
/// let within = std::time::Duration::from_mins(10);
/// connect::reread(&client, "order-outbox", within, std::future::pending()).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error`]; it says how the connector is left.
pub async fn reread(
    client: &Client,
    name: &str,
    within: Duration,
    interrupted: impl Future<Output = ()>,
) -> Result<(), Error> {
    let mut reread = Reread {
        client,
        name,
        deadline: Instant::now() + within,
        within,
        step: Step::Unchanged,
    };
    let ended = tokio::select! {
        ended = reread.run() => ended.map_err(Some),
        () = interrupted => Err(None),
    };
    match ended {
        Ok(()) => Ok(()),
        // Nothing is changed, or nothing is left to resume.
        Err(Some(error)) if matches!(reread.step, Step::Unchanged | Step::Resumed) => Err(error),
        Err(cause) => Err(Error::Ended {
            name: name.to_owned(),
            left: reread.leave().await,
            cause: cause.map(Box::new),
        }),
    }
}

/// How far it is. A step counts from its request on, since the answer may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Unchanged,
    Marking,
    Marked,
    Deleting,
    Deleted,
    Resumed,
}

struct Reread<'a> {
    client: &'a Client,
    name: &'a str,
    deadline: Instant,
    within: Duration,
    step: Step,
}

impl Reread<'_> {
    async fn run(&mut self) -> Result<(), Error> {
        self.mark().await?;
        self.client.stop(self.name).await?;
        self.until("stop", async |info| {
            Ok(!info.is_rereading() || info.is_stopped())
        })
        .await?;
        if self.info().await?.is_rereading() {
            self.step = Step::Deleting;
            let unmarked = unmark(self.client, self.name);
            delete_offsets(self.client, self.name, unmarked).await?;
        }
        // Without the mark, another process has finished the steps so far.
        self.step = Step::Deleted;
        self.client.resume(self.name).await?;
        self.step = Step::Resumed;
        let resumed = Instant::now();
        let (client, name) = (self.client, self.name);
        self.until("read its table to the end", async |info| {
            let state = info.status.connector.state;
            let is_held = matches!(state, State::Paused | State::Stopped);
            if is_held && resumed.elapsed() > SHOWN_WITHIN {
                let name = name.to_owned();
                return Err(Error::Held { name, state });
            }
            let offsets = client.offsets(name).await?;
            let is_read = !offsets.is_empty() && offsets.iter().all(is_past_snapshot);
            Ok(is_read && info.status.is_running())
        })
        .await
    }

    async fn mark(&mut self) -> Result<(), Error> {
        let names = self.client.list().await?;
        if !names.iter().any(|known| known == self.name) {
            return Err(unknown(self.name, names));
        }
        let mut config = self.client.config(self.name).await?;
        if config.contains_key(MARK) {
            tracing::warn!(
                connector = self.name,
                "an earlier re-read of the connector was interrupted; beginning it anew"
            );
        }
        config.insert(MARK.to_owned(), "requested".into());
        self.step = Step::Marking;
        let marked = self.client.put_config(self.name, &config).await;
        self.step = match &marked {
            Ok(()) => Step::Marked,
            Err(client::Error::Refused { .. }) => Step::Unchanged,
            Err(_) => Step::Marking,
        };
        Ok(marked?)
    }

    async fn info(&self) -> Result<Info, Error> {
        let all = self.client.all().await?;
        let names = all.keys().cloned().collect();
        all.into_iter()
            .find_map(|(name, info)| (name == self.name).then_some(info))
            .ok_or_else(|| unknown(self.name, names))
    }

    async fn until(
        &self,
        what: &'static str,
        done: impl AsyncFn(&Info) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        while !done(&self.info().await?).await? {
            if Instant::now() > self.deadline && self.step == Step::Resumed {
                return Err(Error::Reading {
                    name: self.name.to_owned(),
                    within: self.within,
                    status: self.client.command("status", self.name),
                });
            }
            if Instant::now() > self.deadline {
                return Err(Error::Late {
                    name: self.name.to_owned(),
                    what,
                    within: self.within,
                    again: self.client.command("reread", self.name),
                });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Resumes the connector, as far as Kafka Connect answers.
    async fn leave(&self) -> Left {
        let again = self.client.command("reread", self.name);
        if self.step == Step::Unchanged {
            return Left::Unchanged;
        }
        let resumed = tokio::time::timeout(RESUMED_WITHIN, async {
            let mut was_marked = unmark(self.client, self.name).await?;
            if self.step == Step::Marking && !was_marked {
                // Kafka Connect may still be setting the mark.
                tokio::time::sleep(SET_WITHIN).await;
                was_marked = unmark(self.client, self.name).await?;
            }
            self.client.resume(self.name).await?;
            Ok::<bool, client::Error>(was_marked)
        });
        match (resumed.await, self.step) {
            // Without the mark, the reconciler has deleted the offsets.
            (Ok(Ok(_)), Step::Deleted | Step::Resumed)
            | (Ok(Ok(false)), Step::Marked | Step::Deleting) => Left::Reads,
            (Ok(Ok(true)), Step::Deleting) => Left::MayRead { again },
            (Ok(Ok(_)), _) => Left::Resumed { again },
            (Ok(Err(_)) | Err(_), _) => Left::Marked { again },
        }
    }
}

/// Does the next of the steps 2 to 4 for a connector with a mark, as `found` shows it; `wanted` is its configuration without the mark.
/// Says whether it removed the mark; the connector is to be resumed then.
pub(crate) async fn finish(
    client: &Client,
    name: &str,
    found: &Info,
    wanted: &Map<String, Value>,
) -> Result<bool, client::Error> {
    if !found.is_stopped() {
        client.stop(name).await?;
        return Ok(false);
    }
    delete_offsets(client, name, client.put_config(name, wanted)).await
}

/// The steps 3 and 4 for a stopped connector with a mark, which `unmarked` removes. Says whether it did them: when another process was
/// faster, the connector runs again, and has no mark.
async fn delete_offsets<T>(
    client: &Client,
    name: &str,
    unmarked: impl Future<Output = Result<T, client::Error>>,
) -> Result<bool, client::Error> {
    match client.delete_offsets(name).await {
        Err(client::Error::Refused { .. }) if !client.config(name).await?.contains_key(MARK) => {
            return Ok(false);
        }
        deleted => deleted?,
    }
    unmarked.await?;
    Ok(true)
}

fn unknown(name: &str, names: Vec<String>) -> Error {
    let name = name.to_owned();
    client::Error::Unknown { name, names }.into()
}

/// Removes the mark; says whether there was one.
async fn unmark(client: &Client, name: &str) -> Result<bool, client::Error> {
    let mut config = client.config(name).await?;
    let was_marked = config.remove(MARK).is_some();
    if was_marked {
        client.put_config(name, &config).await?;
    }
    Ok(was_marked)
}

/// Debezium marks its offset during a snapshot, and removes the mark when it streams again.
fn is_past_snapshot(offset: &Value) -> bool {
    offset.get("snapshot").is_none_or(|mark| mark == false)
        && offset
            .get("last_snapshot_record")
            .is_none_or(|mark| mark == false)
}
