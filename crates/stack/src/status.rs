//! The states of the parts that `status` shows.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Deserialize;

use crate::description::Description;
use crate::services;

/// The states of a stack's parts.
pub(crate) struct Status {
    /// One line per part, and one per detail.
    pub(crate) lines: Vec<String>,
    /// Parts that fail.
    pub(crate) failing: usize,
    /// Warnings of parts that work.
    pub(crate) warnings: usize,
}

/// The answer of a service at `/health/ready`, as far as `status` shows it.
#[derive(Deserialize)]
struct Readiness {
    checks: BTreeMap<String, Check>,
}

#[derive(Deserialize)]
struct Check {
    state: String,
    #[serde(default)]
    details: Vec<String>,
}

impl Status {
    /// Asks the services and Kafka Connect once each.
    pub(crate) async fn of(stack: &Description) -> Self {
        let mut status = Self {
            lines: Vec::new(),
            failing: 0,
            warnings: 0,
        };
        for (name, url) in [
            ("order", &stack.order_url),
            ("inventory", &stack.inventory_url),
            ("inventory-worker", &stack.worker_url),
        ] {
            match services::readiness(url).await {
                Ok((ready, text)) => status.service(name, ready, &text, &stack.connect_url),
                Err(error) => status.fails(name, &format!("{error:#}")),
            }
        }
        if let Err(error) = status.connectors(&stack.connect_url).await {
            status.fails("connect", &format!("{error:#}"));
        }
        status
    }

    fn fails(&mut self, name: &str, why: &str) {
        self.failing += 1;
        self.lines.push(format!("  {name}: {why}"));
    }

    fn service(&mut self, name: &str, ready: bool, text: &str, connect: &str) {
        let Ok(Readiness { checks }) = serde_json::from_str(text) else {
            return self.fails(name, &format!("unknown answer to /health/ready: {text}"));
        };
        if ready {
            self.lines.push(format!("  {name}: ready"));
        } else {
            self.fails(name, "not ready");
        }
        for (check, Check { state, details }) in checks {
            for detail in details {
                self.warnings += usize::from(state == "warning");
                let detail = addressed(&detail, connect);
                self.lines.push(format!("    {state}: {check}: {detail}"));
            }
        }
    }

    async fn connectors(&mut self, url: &str) -> Result<()> {
        let client = connect::Client::new(url)?;
        for (name, info) in client.all().await? {
            let line = format!("{}{}", info.status, client.advice(&name, &info));
            let name = format!("connector {name}");
            if info.status.is_running() && !info.is_rereading() {
                self.lines.push(format!("  {name}: {line}"));
            } else {
                self.fails(&name, &line);
            }
        }
        Ok(())
    }
}

/// A warning whose advice names the command with the address in use, since the services do not know Kafka Connect's.
fn addressed(detail: &str, connect: &str) -> String {
    let command = format!("`connect --url {connect} reread ");
    detail.replace("`connect reread ", &command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_counted_and_an_unreadable_answer_is_a_failure() {
        let mut status = Status {
            lines: Vec::new(),
            failing: 0,
            warnings: 0,
        };
        let text = r#"{"status":"ready","checks":{"database":{"state":"ok"},
            "outbox":{"state":"warning","details":["database changed: x; read the outbox again (`connect reread order-outbox`)"],"backlog":7}}}"#;
        let connect = "http://127.0.0.1:1";
        status.service("order", true, text, connect);
        assert_eq!((status.failing, status.warnings), (0, 1));
        assert_eq!(
            status.lines,
            [
                "  order: ready",
                "    warning: outbox: database changed: x; read the outbox again \
                 (`connect --url http://127.0.0.1:1 reread order-outbox`)"
            ]
        );
        status.service("inventory", true, "<html>", connect);
        assert_eq!(status.failing, 1);
    }
}
