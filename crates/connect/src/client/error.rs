//! A request to Kafka Connect that failed.

use std::io;
use std::path::PathBuf;

use reqwest::StatusCode;

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
    /// A file of the access cannot be read.
    #[error("cannot read {path}; create it, or grant this process to read it")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds no certificate or key.
    #[error(
        "{path} does not hold what it should: certificates as PEM, a key as PEM in PKCS#8; correct it"
    )]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        source: reqwest::Error,
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
}

impl Error {
    /// Whether the connector does not exist, or not yet.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::NOT_FOUND)
    }
}
