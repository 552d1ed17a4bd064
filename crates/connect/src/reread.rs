//! Reads an outbox again from its first row, after Kafka or Kafka Connect lost messages or a slot lost its log.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::client::{self, Client};
use crate::status::State;

/// How often to ask Kafka Connect for its progress.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Why an outbox is not read again to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Kafka Connect does not answer, or refuses.
    #[error(transparent)]
    Connect(#[from] client::Error),
    /// There is no such connector.
    #[error("there is no connector {name}; there {}", match .names.as_slice() {
        [] => "are none at all".to_owned(),
        [one] => format!("is {one}"),
        several => format!("are {}", several.join(", ")),
    })]
    Unknown {
        /// The name that was given.
        name: String,
        /// The connectors that exist.
        names: Vec<String>,
    },
    /// It took too long. Another run may succeed.
    #[error(
        "connector {name} did not {what} within {within:?}; see its task's status, then run `connect reread {name}` again"
    )]
    Late {
        /// The connector.
        name: String,
        /// What it did not do.
        what: &'static str,
        /// How long it had.
        within: Duration,
    },
}

/// Stops the connector, deletes its offsets and resumes it: with `snapshot.mode=when_needed` it then reads its whole table
/// again. Returns when that is done. Listeners receive every event once more; their inboxes settle none a second time.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let client = connect::Client::new("http://127.0.0.1:8083")?;
/// connect::reread(&client, "order-outbox", std::time::Duration::from_mins(10)).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error`]; the connector resumes in any case, unless Kafka Connect does not answer.
pub async fn reread(client: &Client, name: &str, within: Duration) -> Result<(), Error> {
    let deadline = Instant::now() + within;
    let names = client.list().await?;
    if !names.iter().any(|known| known == name) {
        let name = name.to_owned();
        return Err(Error::Unknown { name, names });
    }
    client.stop(name).await?;
    let deleted = async {
        until(client, name, deadline, within, "stop", async |client| {
            let status = client.status(name).await?;
            Ok(status.connector.state == State::Stopped && status.tasks.is_empty())
        })
        .await?;
        client.delete_offsets(name).await?;
        Ok::<(), Error>(())
    }
    .await;
    client.resume(name).await?;
    deleted?;
    until(
        client,
        name,
        deadline,
        within,
        "read its table to the end",
        async |client| {
            let read = client.status(name).await?.is_running();
            let offsets = client.offsets(name).await?;
            Ok(read && !offsets.is_empty() && offsets.iter().all(is_past_snapshot))
        },
    )
    .await
}

/// Debezium marks its offset during a snapshot, and removes the mark when it streams again.
fn is_past_snapshot(offset: &Value) -> bool {
    offset.get("snapshot").is_none_or(|mark| mark == false)
        && offset
            .get("last_snapshot_record")
            .is_none_or(|mark| mark == false)
}

async fn until(
    client: &Client,
    name: &str,
    deadline: Instant,
    within: Duration,
    what: &'static str,
    done: impl AsyncFn(&Client) -> Result<bool, client::Error>,
) -> Result<(), Error> {
    while !done(client).await? {
        if Instant::now() > deadline {
            let name = name.to_owned();
            return Err(Error::Late { name, what, within });
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(())
}
