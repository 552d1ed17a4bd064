//! The REST client.

mod access;
mod error;

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Method, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::declared::TargetState;
use crate::status::{State, Status};
use access::User;

pub use access::Access;
pub use error::Error;

/// The property of a connector whose re-read has not ended. Kafka Connect keeps properties that it does not know.
pub(crate) const MARK: &str = "reconciler.reread";
/// How long a request may take; Kafka Connect validates a connector's configuration against its database meanwhile.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(90);
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The wait before a request that met a rebalance is sent again.
const REBALANCE_PAUSE: Duration = Duration::from_millis(250);
/// How often a request that met a rebalance is sent again.
const REBALANCE_ATTEMPTS: u32 = 120;

/// A Kafka Connect cluster, by the address of one of its workers.
///
/// ```no_run
/// # async fn run() -> Result<(), connect::Error> {
/// let client = connect::Client::new("http://127.0.0.1:8083")?;
/// for name in client.list().await? {
///     println!("{name} is running: {}", client.status(&name).await?.is_running());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    user: Option<User>,
}

/// The body of a refused request.
#[derive(Deserialize)]
struct Refusal {
    message: String,
}

/// A connector's configuration and status.
#[derive(Debug, Clone, Deserialize)]
pub struct Info {
    /// Its configuration.
    pub info: Configured,
    /// Its status.
    pub status: Status,
}

/// The configuration that a connector has.
#[derive(Debug, Clone, Deserialize)]
pub struct Configured {
    /// Its properties; secrets are references.
    pub config: Map<String, Value>,
}

impl Info {
    /// Whether a re-read of its outbox is on its way, or was interrupted.
    #[must_use]
    pub fn is_rereading(&self) -> bool {
        self.info.config.contains_key(MARK)
    }

    /// Whether it is stopped and has no task left.
    pub(crate) fn is_stopped(&self) -> bool {
        self.status.connector.state == State::Stopped && self.status.tasks.is_empty()
    }
}

#[derive(Deserialize)]
struct Offsets {
    offsets: Vec<OffsetOfPartition>,
}

#[derive(Deserialize)]
struct OffsetOfPartition {
    offset: Value,
}

impl Client {
    /// A client of the worker at `base`, such as `http://127.0.0.1:8083`. Nothing is sent yet.
    ///
    /// The address may name a user, as in `https://operator:password@host:8443`, for basic authentication.
    ///
    /// # Errors
    /// [`Error::Address`]; or if no HTTP client can be made.
    pub fn new(base: &str) -> Result<Self, Error> {
        Self::with_access(base, &Access::default())
    }

    /// A client of a protected worker.
    ///
    /// # Errors
    /// [`Error::Address`]; or if a file of `access` cannot be used.
    pub fn with_access(base: &str, access: &Access) -> Result<Self, Error> {
        let (base, user) = access::parse(base)?;
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .no_proxy();
        Ok(Self {
            http: access.secure(http)?.build().map_err(Error::Http)?,
            base,
            user: access.user(user)?,
        })
    }

    /// Asks once whether the worker takes requests: a worker opens its port before it does.
    ///
    /// # Errors
    /// [`Error`], until it does.
    pub async fn ready(&self) -> Result<(), Error> {
        self.list().await.map(drop)
    }

    /// The names of all connectors.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list(&self) -> Result<Vec<String>, Error> {
        let (url, answer) = self.send(Method::GET, &[], None, None::<()>).await?;
        decode(url, answer).await
    }

    /// All connectors, with configuration and status, in one request.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn all(&self) -> Result<BTreeMap<String, Info>, Error> {
        let expand = Some("expand=info&expand=status");
        let (url, answer) = self.send(Method::GET, &[], expand, None::<()>).await?;
        decode(url, answer).await
    }

    /// Creates the connector, or gives it a new configuration.
    ///
    /// # Errors
    /// [`Error::Refused`] names what is wrong with the configuration.
    pub async fn put_config(&self, name: &str, config: &Map<String, Value>) -> Result<(), Error> {
        self.send(Method::PUT, &[name, "config"], None, Some(config))
            .await
            .map(drop)
    }

    /// Creates a connector that begins in `state`.
    ///
    /// # Errors
    /// [`Error::Refused`] names what is wrong with the configuration, or says that there is such a connector.
    pub async fn create(
        &self,
        name: &str,
        config: &Map<String, Value>,
        state: TargetState,
    ) -> Result<(), Error> {
        let state = state.to_string().to_uppercase();
        let body = json!({ "name": name, "config": config, "initial_state": state });
        self.send(Method::POST, &[], None, Some(body))
            .await
            .map(drop)
    }

    /// The connector's configuration.
    ///
    /// # Errors
    /// [`Error`]; a connector that does not exist is [not found](Error::is_not_found).
    pub async fn config(&self, name: &str) -> Result<Map<String, Value>, Error> {
        let (url, answer) = self
            .send(Method::GET, &[name, "config"], None, None::<()>)
            .await?;
        decode(url, answer).await
    }

    /// The status of the connector and its tasks.
    ///
    /// # Errors
    /// [`Error`]; for a moment after its creation a connector is [not found](Error::is_not_found).
    pub async fn status(&self, name: &str) -> Result<Status, Error> {
        let (url, answer) = self
            .send(Method::GET, &[name, "status"], None, None::<()>)
            .await?;
        decode(url, answer).await
    }

    /// Restarts the connector and its tasks, those that FAILED only.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn restart(&self, name: &str) -> Result<(), Error> {
        let failed = Some("includeTasks=true&onlyFailed=true");
        self.send(Method::POST, &[name, "restart"], failed, None::<()>)
            .await
            .map(drop)
    }

    /// Removes the connector. Its replication slot remains, and retains the database's write-ahead log.
    ///
    /// # Errors
    /// [`Error`]; a connector that does not exist is [not found](Error::is_not_found).
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        self.send(Method::DELETE, &[name], None, None::<()>)
            .await
            .map(drop)
    }

    /// Pauses the connector: its tasks keep their connections, and read nothing.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn pause(&self, name: &str) -> Result<(), Error> {
        self.send(Method::PUT, &[name, "pause"], None, None::<()>)
            .await
            .map(drop)
    }

    /// Stops the connector's tasks; its configuration and offsets stay.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn stop(&self, name: &str) -> Result<(), Error> {
        self.send(Method::PUT, &[name, "stop"], None, None::<()>)
            .await
            .map(drop)
    }

    /// Resumes a paused or stopped connector.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn resume(&self, name: &str) -> Result<(), Error> {
        self.send(Method::PUT, &[name, "resume"], None, None::<()>)
            .await
            .map(drop)
    }

    /// Deletes the offsets of a stopped connector.
    ///
    /// # Errors
    /// [`Error`]; refused while the connector is not stopped.
    pub async fn delete_offsets(&self, name: &str) -> Result<(), Error> {
        self.send(Method::DELETE, &[name, "offsets"], None, None::<()>)
            .await
            .map(drop)
    }

    /// The connector's offsets, in its own terms.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn offsets(&self, name: &str) -> Result<Vec<Value>, Error> {
        let (url, answer) = self
            .send(Method::GET, &[name, "offsets"], None, None::<()>)
            .await?;
        let offsets: Offsets = decode(url, answer).await?;
        Ok(offsets
            .offsets
            .into_iter()
            .map(|entry| entry.offset)
            .collect())
    }

    /// The command line that an operator types to run `subcommand` on a connector of this Kafka Connect.
    #[must_use]
    pub fn command(&self, subcommand: &str, name: &str) -> String {
        let plain = |it: char| it.is_ascii_alphanumeric() || "_.-".contains(it);
        let name = if !name.is_empty() && name.chars().all(plain) {
            name.to_owned()
        } else {
            format!("'{}'", name.replace('\'', r"'\''"))
        };
        let base = self.base.as_str().trim_end_matches('/');
        format!("connect --url {base} {subcommand} {name}")
    }

    /// What an operator does about a connector that does not run, to follow its status; empty where that alone says it.
    #[must_use]
    pub fn advice(&self, name: &str, info: &Info) -> String {
        let is_held = matches!(info.status.connector.state, State::Paused | State::Stopped);
        if info.is_rereading() {
            let again = self.command("reread", name);
            format!(
                "; a re-read is on its way or was interrupted: `connect reconcile` finishes it, or run `{again}`"
            )
        } else if is_held {
            format!("; resume it: curl -X PUT {}/resume", self.url_of(name))
        } else {
            String::new()
        }
    }

    /// The URL of a connector, for a command that an operator types.
    pub(crate) fn url_of(&self, name: &str) -> String {
        self.url(&[name], None).into()
    }

    /// The URL of `path` below the connectors. Each part is encoded.
    fn url(&self, path: &[&str], query: Option<&str>) -> Url {
        let mut url = self.base.clone();
        // An address of HTTP has a path.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("connectors").extend(path);
        }
        url.set_query(query);
        url
    }

    async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: Option<&str>,
        body: Option<impl Serialize>,
    ) -> Result<(String, reqwest::Response), Error> {
        let url = self.url(path, query);
        let mut attempts = 0;
        loop {
            let mut request = self.http.request(method.clone(), url.clone());
            if let Some(User { name, password }) = &self.user {
                request = request.basic_auth(name, password.as_ref());
            }
            if let Some(body) = &body {
                request = request.json(body);
            }
            let answer = request.send().await.map_err(|source| Error::Unreachable {
                url: url.to_string(),
                source: source.without_url(),
            })?;
            let status = answer.status();
            if status.is_success() {
                return Ok((url.into(), answer));
            }
            let message = refusal(&answer.text().await.unwrap_or_default(), path);
            // 409: the workers are rebalancing, or the name is taken. While a rebalance is only expected, some requests get 500.
            let is_rebalance = (status == StatusCode::CONFLICT
                && !message.ends_with("already exists"))
                || message.contains("a rebalance is expected");
            if is_rebalance {
                if attempts == REBALANCE_ATTEMPTS {
                    return Err(Error::Rebalancing { url: url.into() });
                }
                attempts += 1;
                tokio::time::sleep(REBALANCE_PAUSE).await;
                continue;
            }
            return Err(Error::Refused {
                url: url.into(),
                status,
                message,
            });
        }
    }
}

/// The message of a refused request. A page, as the server below Kafka Connect answers, has it as its title.
fn refusal(text: &str, path: &[&str]) -> String {
    if let Ok(Refusal { message }) = serde_json::from_str(text) {
        return message;
    }
    let title = text
        .split_once("<title>")
        .and_then(|(_, rest)| rest.split_once("</title>"));
    let message = title.map_or(text, |(title, _)| title);
    // That server refuses two characters, encoded too, and may give no reason.
    let is_odd = path.iter().any(|part| part.contains(['/', '%']));
    match message {
        "" if is_odd => "a name with / or % cannot stand in a URL; rename the connector",
        "" => "it gives no reason",
        message => message,
    }
    .to_owned()
}

async fn decode<T: DeserializeOwned>(url: String, answer: reqwest::Response) -> Result<T, Error> {
    answer.json().await.map_err(|source| Error::Undecodable {
        url,
        source: source.without_url(),
    })
}

#[cfg(test)]
pub(crate) mod tests;
