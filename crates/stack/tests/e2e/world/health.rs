//! The health and the metrics of services, as a test sees them.

use std::time::Duration;

use serde_json::Value;
use stack::testing::Service;

use super::{World, eventually};

/// How long a service may take to show something.
const WITHIN: Duration = Duration::from_secs(40);

impl World {
    /// The answer of a service at `/health/ready`: status and body.
    pub(crate) async fn readiness(&self, url: &str) -> (u16, Value) {
        self.get(&format!("{url}/health/ready")).await
    }

    /// Waits until the service is ready and `holds` is true of one of its checks.
    pub(crate) async fn shows(
        &self,
        url: &str,
        check: &str,
        what: &str,
        holds: impl Fn(&Value) -> bool,
    ) {
        eventually(WITHIN, what, async || {
            let (status, body) = self.readiness(url).await;
            if status != 200 {
                return Err(body.to_string());
            }
            let shown = &body["checks"][check];
            if holds(shown) {
                Ok(())
            } else {
                Err(shown.to_string())
            }
        })
        .await;
    }

    /// Waits until the check is a warning whose details contain `words`.
    pub(crate) async fn warns(&self, url: &str, check: &str, words: &str) {
        let warns = |shown: &Value| {
            shown["state"] == "warning" && shown["details"].to_string().contains(words)
        };
        self.shows(url, check, words, warns).await;
    }

    /// Waits until the check is without a warning.
    pub(crate) async fn is_well(&self, url: &str, check: &str) {
        self.shows(url, check, "no warning is left", |shown| {
            shown["state"] == "ok"
        })
        .await;
    }

    /// Declares the state of a connector of the stack; waits until it has it.
    pub(crate) async fn declare(&self, connector: &str, state: &str) {
        let file = self.stack.connectors.join(format!("{connector}.json"));
        let mut declared: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        declared["state"] = state.into();
        // The reconciler never reads half a file.
        let new = file.with_extension("new");
        std::fs::write(&new, declared.to_string()).unwrap();
        std::fs::rename(&new, &file).unwrap();
        let client = connect::Client::new(&self.stack.connect_url).unwrap();
        let what = format!("the connector is {state}");
        eventually(Duration::from_secs(30), &what, async || {
            let status = client
                .status(connector)
                .await
                .map_err(|it| it.to_string())?;
            let is_stopped = state != "stopped" || status.tasks.is_empty();
            let is_so = status.connector.state.to_string() == state && is_stopped;
            if is_so {
                Ok(())
            } else {
                Err(status.to_string())
            }
        })
        .await;
    }

    /// A service's metric, by its name and labels.
    pub(crate) async fn metric(&self, url: &str, name: &str) -> Option<f64> {
        let text = self
            .http
            .get(format!("{url}/metrics"))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }
}

/// Waits until the log of a service contains `words`.
pub(crate) async fn logs(service: &Service, within: Duration, words: &str) {
    eventually(within, words, async || {
        let log = std::fs::read_to_string(&service.log).unwrap();
        if log.contains(words) {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
}
