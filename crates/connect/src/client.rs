//! The REST client.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::status::Status;

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
    base: String,
}

/// A request that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not one of Kafka Connect.
    #[error(
        "{base:?} is not an address of Kafka Connect, which is like http://127.0.0.1:8083: {why}"
    )]
    Address {
        /// The address.
        base: String,
        /// What is wrong with it.
        why: String,
    },
    /// This process cannot build an HTTP client.
    #[error("cannot build an HTTP client; see that this machine has TLS certificates")]
    Http(#[source] reqwest::Error),
    /// The worker does not answer.
    #[error("Kafka Connect at {url} does not answer; start it, or correct its address")]
    Unreachable {
        /// The request's URL.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The answer is not one of Kafka Connect.
    #[error(
        "cannot decode the answer of {url}; another server listens there: correct the address of Kafka Connect"
    )]
    Undecodable {
        /// The request's URL.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The workers are still rebalancing.
    #[error(
        "Kafka Connect at {url} is still rebalancing; try again, and see its workers' logs if it goes on"
    )]
    Rebalancing {
        /// The request's URL.
        url: String,
    },
    /// Kafka Connect refuses.
    #[error("Kafka Connect at {url} refuses ({status}): {message}")]
    Refused {
        /// The request's URL.
        url: String,
        /// The answer's status.
        status: StatusCode,
        /// Kafka Connect's message.
        message: String,
    },
}

impl Error {
    /// Whether the connector does not exist, or not yet.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::NOT_FOUND)
    }
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
    /// # Errors
    /// [`Error::Address`]; or if no HTTP client can be made.
    pub fn new(base: &str) -> Result<Self, Error> {
        let wrong = |why: String| Error::Address {
            base: base.to_owned(),
            why,
        };
        let url = reqwest::Url::parse(base).map_err(|error| wrong(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong(format!("its scheme is {}", url.scheme())));
        }
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .no_proxy()
            .build()
            .map_err(Error::Http)?;
        let base = base.trim_end_matches('/').to_owned();
        Ok(Self { http, base })
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
        let (url, answer) = self.send(Method::GET, "/connectors", None).await?;
        decode(url, answer).await
    }

    /// All connectors, with configuration and status, in one request.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn all(&self) -> Result<BTreeMap<String, Info>, Error> {
        let path = "/connectors?expand=info&expand=status";
        let (url, answer) = self.send(Method::GET, path, None).await?;
        decode(url, answer).await
    }

    /// Creates the connector, or gives it a new configuration.
    ///
    /// # Errors
    /// [`Error::Refused`] names what is wrong with the configuration.
    pub async fn put_config(&self, name: &str, config: &Map<String, Value>) -> Result<(), Error> {
        let path = format!("/connectors/{name}/config");
        self.send(Method::PUT, &path, Some(config)).await.map(drop)
    }

    /// The status of the connector and its tasks.
    ///
    /// # Errors
    /// [`Error`]; for a moment after its creation a connector is [not found](Error::is_not_found).
    pub async fn status(&self, name: &str) -> Result<Status, Error> {
        let (url, answer) = self
            .send(Method::GET, &format!("/connectors/{name}/status"), None)
            .await?;
        decode(url, answer).await
    }

    /// Restarts the connector and its tasks, those that FAILED only.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn restart(&self, name: &str) -> Result<(), Error> {
        let path = format!("/connectors/{name}/restart?includeTasks=true&onlyFailed=true");
        self.send(Method::POST, &path, None).await.map(drop)
    }

    /// Removes the connector. Its replication slot remains, and retains the database's write-ahead log.
    ///
    /// # Errors
    /// [`Error`]; a connector that does not exist is [not found](Error::is_not_found).
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        let path = format!("/connectors/{name}");
        self.send(Method::DELETE, &path, None).await.map(drop)
    }

    /// Stops the connector's tasks; its configuration and offsets stay.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn stop(&self, name: &str) -> Result<(), Error> {
        self.send(Method::PUT, &format!("/connectors/{name}/stop"), None)
            .await
            .map(drop)
    }

    /// Resumes a stopped connector.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn resume(&self, name: &str) -> Result<(), Error> {
        self.send(Method::PUT, &format!("/connectors/{name}/resume"), None)
            .await
            .map(drop)
    }

    /// Deletes the offsets of a stopped connector.
    ///
    /// # Errors
    /// [`Error`]; refused while the connector is not stopped.
    pub async fn delete_offsets(&self, name: &str) -> Result<(), Error> {
        self.send(Method::DELETE, &format!("/connectors/{name}/offsets"), None)
            .await
            .map(drop)
    }

    /// The connector's offsets, in its own terms.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn offsets(&self, name: &str) -> Result<Vec<Value>, Error> {
        let (url, answer) = self
            .send(Method::GET, &format!("/connectors/{name}/offsets"), None)
            .await?;
        let offsets: Offsets = decode(url, answer).await?;
        Ok(offsets
            .offsets
            .into_iter()
            .map(|entry| entry.offset)
            .collect())
    }

    /// The URL of a connector, for a command that an operator types.
    pub(crate) fn url_of(&self, name: &str) -> String {
        format!("{}/connectors/{name}", self.base)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Map<String, Value>>,
    ) -> Result<(String, reqwest::Response), Error> {
        let url = format!("{}{path}", self.base);
        let mut attempts = 0;
        loop {
            let request = self.http.request(method.clone(), &url);
            let request = match body {
                Some(body) => request.json(body),
                None => request,
            };
            let answer = request.send().await.map_err(|source| Error::Unreachable {
                url: url.clone(),
                source,
            })?;
            let status = answer.status();
            // 409: the workers are rebalancing.
            if status == StatusCode::CONFLICT {
                if attempts == REBALANCE_ATTEMPTS {
                    return Err(Error::Rebalancing { url });
                }
                attempts += 1;
                tokio::time::sleep(REBALANCE_PAUSE).await;
                continue;
            }
            if status.is_success() {
                return Ok((url, answer));
            }
            let text = answer.text().await.unwrap_or_default();
            let message =
                serde_json::from_str(&text).map_or(text, |refusal: Refusal| refusal.message);
            return Err(Error::Refused {
                url,
                status,
                message,
            });
        }
    }
}

async fn decode<T: DeserializeOwned>(url: String, answer: reqwest::Response) -> Result<T, Error> {
    answer
        .json()
        .await
        .map_err(|source| Error::Undecodable { url, source })
}

#[cfg(test)]
mod tests;
