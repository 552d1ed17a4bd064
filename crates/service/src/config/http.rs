//! The section `http`.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where a service serves HTTP, and within which limits.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Address and port to listen at.
    pub listen: SocketAddr,
    /// The largest request body, in bytes.
    pub body_limit: usize,
    /// How long a client may take to send a request's headers, in milliseconds.
    pub header_timeout_ms: u64,
    /// How long a request may take with its body, in milliseconds; its answer must be read within as long again.
    pub request_timeout_ms: u64,
    /// Connections at the same time. One more closes the connection that has been idle or slow the longest.
    pub max_connections: usize,
    /// Requests in progress at the same time. The service answers 503 to one more at once, and always answers health and metrics.
    pub max_requests: usize,
}

impl Http {
    /// The defaults, at a loopback port.
    #[must_use]
    pub fn at(port: u16) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], port)),
            body_limit: 64 * 1024,
            header_timeout_ms: 5_000,
            request_timeout_ms: 15_000,
            max_connections: 1024,
            max_requests: 512,
        }
    }

    pub(crate) fn header_timeout(&self) -> Duration {
        Duration::from_millis(self.header_timeout_ms)
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }
}
