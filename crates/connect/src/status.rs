//! A connector's status.

use std::fmt;

use serde::Deserialize;

/// A connector and its tasks, as `GET /connectors/NAME/status` shows them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Status {
    /// The connector's name.
    pub name: String,
    /// The connector itself.
    pub connector: ConnectorState,
    /// Its tasks; none while the connector is new.
    pub tasks: Vec<Task>,
}

/// The state of the connector itself, apart from its tasks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ConnectorState {
    /// Its state.
    pub state: State,
    /// Why it failed: a Java stack trace.
    pub trace: Option<String>,
}

/// A task of a connector.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Task {
    /// The task's number, from 0.
    pub id: u32,
    /// Its state.
    pub state: State,
    /// Why it failed: a Java stack trace.
    pub trace: Option<String>,
}

/// The state of a connector or of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// Not assigned to a worker yet.
    Unassigned,
    /// Running.
    Running,
    /// Paused by an operator.
    Paused,
    /// Stopped by an operator.
    Stopped,
    /// Failed; Kafka Connect never restarts it by itself.
    Failed,
    /// Restarting.
    Restarting,
    /// A state that later versions may add.
    #[serde(other)]
    Unknown,
}

impl Status {
    /// Whether the connector and all its tasks are running; it has at least one.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.connector.state == State::Running
            && !self.tasks.is_empty()
            && self.tasks.iter().all(|task| task.state == State::Running)
    }

    /// Why the connector or one of its tasks failed: the last `Caused by` of the stack trace, or else its first line.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        let tasks = self.tasks.iter().map(|task| (task.state, &task.trace));
        let all = std::iter::once((self.connector.state, &self.connector.trace)).chain(tasks);
        let failed = all.clone().any(|(state, _)| state == State::Failed);
        all.filter_map(|(_, trace)| trace.as_deref())
            .find_map(cause)
            .or_else(|| {
                failed.then_some("Kafka Connect shows no stack trace; see its worker's log")
            })
    }
}

fn cause(trace: &str) -> Option<&str> {
    // A cause of something suppressed is indented.
    let cause = trace.lines().rfind(|line| line.starts_with("Caused by: "));
    cause
        .and_then(|line| line.strip_prefix("Caused by: "))
        .or_else(|| trace.lines().next())
}

impl fmt::Display for State {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&format!("{self:?}").to_lowercase())
    }
}

/// `running`, or the states of connector and tasks, and why one of them failed.
impl fmt::Display for Status {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_running() {
            return to.write_str("running");
        }
        write!(to, "{}", self.connector.state)?;
        for task in &self.tasks {
            write!(to, ", task {} {}", task.id, task.state)?;
        }
        match self.failure() {
            Some(why) => write!(to, ": {why}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(tasks: &str) -> Status {
        let text = format!(
            r#"{{"name":"order-outbox","connector":{{"state":"RUNNING","worker_id":"127.0.0.1:8083","version":"3.7.0.Final"}},
                "tasks":{tasks},"type":"source"}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_connector_runs_only_with_its_tasks() {
        let running = r#"{"id":0,"state":"RUNNING","worker_id":"w","version":"3.7.0.Final"}"#;
        let failed =
            r#"{"id":1,"state":"FAILED","worker_id":"w","trace":"org.apache.X: no slot\n\tat Y"}"#;
        assert!(status(&format!("[{running}]")).is_running());
        assert!(!status("[]").is_running());
        let half = status(&format!("[{running},{failed}]"));
        assert!(!half.is_running());
        assert_eq!(half.failure(), Some("org.apache.X: no slot"));
        assert_eq!(
            half.to_string(),
            "running, task 0 running, task 1 failed: org.apache.X: no slot"
        );
    }

    #[test]
    fn the_reason_of_a_failure_is_its_last_cause() {
        let failed = |trace: &str| {
            let trace = serde_json::to_string(trace).unwrap();
            let task = format!(r#"[{{"id":0,"state":"FAILED","worker_id":"w","trace":{trace}}}]"#);
            status(&task).failure().map(str::to_owned)
        };
        let trace = "org.apache.kafka.connect.errors.ConnectException: An exception occurred in the change event producer\n\
                     \tat io.debezium.A\n\tSuppressed: java.lang.X: y\n\t\tCaused by: java.lang.Z: closed\n\
                     Caused by: io.debezium.DebeziumException: Couldn't obtain encoding\n\t... 8 more\n\
                     Caused by: org.postgresql.util.PSQLException: FATAL: role \"order_cdc\" is not permitted to log in\n\tat org.B\n";
        assert_eq!(
            failed(trace).as_deref(),
            Some(
                "org.postgresql.util.PSQLException: FATAL: role \"order_cdc\" is not permitted to log in"
            )
        );
        assert_eq!(
            failed("java.lang.X: y\n\tat Z").as_deref(),
            Some("java.lang.X: y")
        );
    }

    #[test]
    fn a_failure_without_a_trace_is_a_failure() {
        for trace in ["", r#","trace":"""#] {
            let failed = status(&format!(
                r#"[{{"id":0,"state":"FAILED","worker_id":"w"{trace}}}]"#
            ));
            let why = failed.failure();
            assert!(why.is_some_and(|why| why.contains("no stack trace")));
        }
        let running = status(r#"[{"id":0,"state":"RUNNING","worker_id":"w"}]"#);
        assert_eq!(running.failure(), None);
    }

    #[test]
    fn an_unknown_state_is_no_error() {
        let future = status(r#"[{"id":0,"state":"MUSING","worker_id":"w"}]"#);
        assert_eq!(future.tasks[0].state, State::Unknown);
    }
}
