//! The reconciler against a worker with prepared answers: what it sends, and what it logs.

use std::fs;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;
use tracing::instrument::WithSubscriber;

use super::*;
use crate::client::tests::worker;

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn lines(&self) -> Vec<String> {
        let log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = std::str::from_utf8(&log).unwrap().lines();
        lines.map(str::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A folder that declares one connector. It is removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, text: &Value) -> Self {
        let folder = std::env::temp_dir().join(format!("connect-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("o.json"), text.to_string()).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Makes `count` passes; returns the requests that change something, and the lines of the log.
async fn passes(
    name: &str,
    declared: &Value,
    answers: Vec<(&'static str, String)>,
    count: usize,
) -> (Vec<String>, Vec<String>) {
    let folder = Folder::new(name, declared);
    let answers = answers
        .into_iter()
        .map(|(status, body)| (status, &*body.leak()))
        .collect();
    let (client, requests) = worker(answers).await;
    let mut reconciler = Reconciler::new(client, &folder.0, "me");
    let log = Log::default();
    let to = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || to.clone())
        .finish();
    async {
        for _ in 0..count {
            reconciler.pass().await.unwrap();
        }
    }
    .with_subscriber(subscriber)
    .await;
    let requests = requests.await.unwrap();
    let changing = requests
        .into_iter()
        .map(|(line, _)| line)
        .filter(|line| !line.starts_with("GET"));
    (changing.collect(), log.lines())
}

fn all(config: &Value, state: &str) -> String {
    let status = json!({"name": "o", "connector": {"state": state}, "tasks": []});
    json!({"o": {"info": {"config": config}, "status": status}}).to_string()
}

#[tokio::test]
async fn a_refusal_and_another_owner_are_logged_when_they_change_and_not_in_each_pass() {
    let refusal = |why: &str| {
        (
            "400 Bad Request",
            json!({"error_code": 400, "message": why}).to_string(),
        )
    };
    let none = || ("200 OK", "{}".to_owned());
    let declared = json!({"name": "o", "config": {}});
    let answers = vec![
        none(),
        refusal("no host"),
        none(),
        refusal("no host"),
        none(),
        refusal("no user"),
        none(),
        refusal("no user"),
    ];
    let (_, log) = passes("refused", &declared, answers, 4).await;
    assert_eq!(log.len(), 2, "{log:?}");
    assert!(log[0].contains("no host") && log[1].contains("no user"));

    let foreign = || ("200 OK", all(&json!({"name": "o"}), "RUNNING"));
    let answers = vec![foreign(), foreign(), foreign()];
    let (changing, log) = passes("foreign", &declared, answers, 3).await;
    assert_eq!((changing.len(), log.len()), (0, 1), "{log:?}");
}

#[tokio::test]
async fn a_connector_of_numbers_is_as_declared() {
    let declared = json!({"name": "o", "config": {"tasks.max": 1, "is": false, "none": null}});
    let same = json!({"name": "o", "reconciler.owner": "me", "tasks.max": "1", "is": "false"});
    let answers = vec![("200 OK", all(&same, "RUNNING"))];
    let (changing, _) = passes("numbers", &declared, answers, 1).await;
    assert!(changing.is_empty(), "{changing:?}");
}

#[tokio::test]
async fn a_connector_is_sent_to_the_state_that_its_file_declares() {
    let same = json!({"name": "o", "reconciler.owner": "me"});
    for (declared, found, expected) in [
        ("running", "STOPPED", "PUT /connectors/o/resume"),
        ("paused", "RUNNING", "PUT /connectors/o/pause"),
        ("stopped", "RUNNING", "PUT /connectors/o/stop"),
    ] {
        let file = json!({"name": "o", "config": {}, "state": declared});
        let done = || ("202 Accepted", String::new());
        let answers = vec![
            ("200 OK", all(&same, found)),
            done(),
            ("200 OK", all(&same, found)),
            done(),
        ];
        let (changing, log) = passes(declared, &file, answers, 2).await;
        assert_eq!(changing, [expected, expected]);
        assert_eq!(log.len(), 1, "{log:?}");
    }
    // A connector that is to stand still begins so.
    let file = json!({"name": "o", "config": {}, "state": "stopped"});
    let answers = vec![
        ("200 OK", "{}".to_owned()),
        ("201 Created", "{}".to_owned()),
    ];
    let (changing, _) = passes("begins", &file, answers, 1).await;
    assert_eq!(changing, ["POST /connectors"]);
}

#[tokio::test]
async fn a_reread_that_was_interrupted_is_finished_step_by_step() {
    let marked = json!({"name": "o", "reconciler.owner": "me", "reconciler.reread": "requested"});
    let unmarked = json!({"name": "o", "reconciler.owner": "me"});
    let done = || ("200 OK", "{}".to_owned());
    let answers = vec![
        ("200 OK", all(&marked, "RUNNING")),
        done(),
        ("200 OK", all(&marked, "STOPPED")),
        done(),
        done(),
        done(),
        ("200 OK", all(&unmarked, "STOPPED")),
        done(),
    ];
    let (changing, log) = passes("reread", &json!({"name": "o", "config": {}}), answers, 3).await;
    assert_eq!(
        changing,
        [
            "PUT /connectors/o/stop",
            "DELETE /connectors/o/offsets",
            "PUT /connectors/o/config",
            "PUT /connectors/o/resume",
            "PUT /connectors/o/resume"
        ]
    );
    assert!(log[0].contains("a re-read of the connector's outbox is on its way"));
}

#[tokio::test]
async fn a_reread_that_another_process_finished_first_is_no_refusal() {
    let marked = json!({"name": "o", "reconciler.owner": "me", "reconciler.reread": "requested"});
    let unmarked = json!({"name": "o", "reconciler.owner": "me"});
    let refusal = json!({"error_code": 400, "message": "Connectors must be in the STOPPED state"});
    let answers = vec![
        ("200 OK", all(&marked, "STOPPED")),
        ("400 Bad Request", refusal.to_string()),
        ("200 OK", unmarked.to_string()),
        ("200 OK", all(&unmarked, "RUNNING")),
    ];
    let (changing, log) = passes("faster", &json!({"name": "o", "config": {}}), answers, 2).await;
    assert_eq!(changing, ["DELETE /connectors/o/offsets"]);
    assert_eq!(log.len(), 1, "{log:?}");
}
