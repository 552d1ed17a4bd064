//! The difference between a connector as it is declared and as it is.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use crate::client::{Info, MARK};
use crate::declared::{Connector, TargetState};
use crate::status::State;

/// The property that marks a connector with its owner. Kafka Connect keeps properties that it does not know.
const OWNER: &str = "reconciler.owner";

/// Whether `owner` made the connector.
pub(crate) fn is_of(owner: &str, config: &Map<String, Value>) -> bool {
    config.get(OWNER).is_some_and(|it| *it == owner)
}

/// The configuration that the connector of `owner` is to have.
pub(crate) fn wanted(connector: &Connector, owner: &str) -> Map<String, Value> {
    let mut wanted = connector.config.clone();
    wanted.insert("name".to_owned(), connector.name.as_str().into());
    wanted.insert(OWNER.to_owned(), owner.into());
    wanted
}

/// What distinguishes a connector from its declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It does not exist yet.
    Create,
    /// It exists without a declaration.
    Remove,
    /// Another owner made it, so it stays as it is.
    Foreign,
    /// A re-read of its outbox has not ended.
    Reread,
    /// A property differs.
    Property {
        /// Its name.
        key: String,
        /// What it is.
        from: Option<String>,
        /// What it is to be.
        to: Option<String>,
    },
    /// Its state differs.
    State {
        /// What it is.
        from: State,
        /// What it is to be.
        to: TargetState,
    },
}

/// How the connectors of `owner` differ from what is declared, by name; those that do not differ are left out.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let found = connect::Client::new("http://127.0.0.1:8083")?.all().await?;
/// let declared = connect::declared::read("/etc/connectors".as_ref())?;
/// for (name, changes) in connect::differences(&declared, &found, "connect") {
///     println!("{name}: {changes:?}");
/// }
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn differences(
    declared: &BTreeMap<String, Connector>,
    found: &BTreeMap<String, Info>,
    owner: &str,
) -> BTreeMap<String, Vec<Change>> {
    let declared_changes = declared
        .iter()
        .map(|(name, connector)| (name.clone(), changes(connector, found.get(name), owner)));
    let undeclared = found
        .iter()
        .filter(|(name, it)| !declared.contains_key(*name) && is_of(owner, &it.info.config))
        .map(|(name, _)| (name.clone(), vec![Change::Remove]));
    declared_changes
        .chain(undeclared)
        .filter(|(_, changes)| !changes.is_empty())
        .collect()
}

/// How one connector differs from its declaration.
pub(crate) fn changes(connector: &Connector, found: Option<&Info>, owner: &str) -> Vec<Change> {
    let Some(found) = found else {
        return vec![Change::Create];
    };
    if !is_of(owner, &found.info.config) {
        return vec![Change::Foreign];
    }
    let mut changes = Vec::new();
    if found.is_rereading() {
        changes.push(Change::Reread);
    }
    changes.extend(properties(&found.info.config, &wanted(connector, owner)));
    let (from, to) = (found.status.connector.state, connector.state);
    if is_to_change(from, to) {
        changes.push(Change::State { from, to });
    }
    changes
}

fn properties(found: &Map<String, Value>, wanted: &Map<String, Value>) -> Vec<Change> {
    let mut keys: Vec<&String> = found.keys().chain(wanted.keys()).collect();
    keys.sort();
    keys.dedup();
    let differing = keys
        .into_iter()
        .filter(|key| *key != MARK && found.get(*key) != wanted.get(*key));
    differing
        .map(|key| Change::Property {
            key: key.clone(),
            from: found.get(key).map(|value| shown(key, value)),
            to: wanted.get(key).map(|value| shown(key, value)),
        })
        .collect()
}

/// A secret is shown only as a reference to where Kafka Connect finds it.
fn shown(key: &str, value: &Value) -> String {
    let text = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned);
    let key = key.to_ascii_lowercase();
    let words = [
        "password",
        "secret",
        "token",
        "jaas",
        "credential",
        "passphrase",
        "keystore.key",
    ];
    let is_secret = words.iter().any(|word| key.contains(word));
    let is_reference = text.starts_with("${") && text.find('}') == Some(text.len() - 1);
    if is_secret && !is_reference {
        "(hidden)".to_owned()
    } else {
        text
    }
}

/// Whether a connector must be sent from one state to the other. One that failed is restarted instead, and one that no worker
/// has yet has no state.
fn is_to_change(from: State, to: TargetState) -> bool {
    match to {
        TargetState::Running => matches!(from, State::Paused | State::Stopped),
        TargetState::Paused => matches!(from, State::Running | State::Stopped),
        TargetState::Stopped => matches!(from, State::Running | State::Paused | State::Failed),
    }
}

impl fmt::Display for Change {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "(none)".to_owned());
        match self {
            Self::Create => to.write_str("would be created"),
            Self::Remove => to.write_str("would be removed"),
            Self::Foreign => to.write_str("would stay as it is: another owner made it"),
            Self::Reread => to.write_str("would be resumed at the end of its re-read"),
            Self::Property {
                key,
                from,
                to: then,
            } => {
                write!(to, "{key}: {} -> {}", or_none(from), or_none(then))
            }
            Self::State { from, to: then } => write!(to, "state: {from} -> {then}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn declared(text: &Value) -> Connector {
        serde_json::from_value(text.clone()).unwrap()
    }

    fn found(config: &Value, state: &str) -> Info {
        let status = json!({"name": "o", "connector": {"state": state}, "tasks": []});
        serde_json::from_value(json!({"info": {"config": config}, "status": status})).unwrap()
    }

    #[test]
    fn numbers_and_booleans_are_what_kafka_connect_has_stored() {
        let connector =
            declared(&json!({"name": "o", "config": {"tasks.max": 1, "x": true, "none": null}}));
        let same = json!({"name": "o", "reconciler.owner": "me", "tasks.max": "1", "x": "true"});
        assert_eq!(
            changes(&connector, Some(&found(&same, "RUNNING")), "me"),
            []
        );
        let foreign = changes(&connector, Some(&found(&same, "RUNNING")), "you");
        assert_eq!(foreign, [Change::Foreign]);
    }

    #[test]
    fn the_declared_state_is_compared_and_a_failed_connector_is_not_paused() {
        for (state, from, differs) in [
            ("running", "STOPPED", true),
            ("running", "PAUSED", true),
            ("running", "FAILED", false),
            ("running", "UNASSIGNED", false),
            ("paused", "RUNNING", true),
            ("paused", "PAUSED", false),
            ("paused", "FAILED", false),
            ("stopped", "FAILED", true),
            ("stopped", "STOPPED", false),
        ] {
            let connector = declared(&json!({"name": "o", "config": {}, "state": state}));
            let same = json!({"name": "o", "reconciler.owner": "me"});
            let changes = changes(&connector, Some(&found(&same, from)), "me");
            assert_eq!(!changes.is_empty(), differs, "{state} {from}");
        }
    }

    #[test]
    fn a_difference_shows_what_would_change_and_no_secret() {
        let connector = declared(&json!({"name": "o", "state": "paused", "config": {
            "tasks.max": 2, "database.password": "${dir:/run:p}", "sasl.jaas.config": "x password=\"secret\";"}}));
        let before = json!({"name": "o", "reconciler.owner": "me", "reconciler.reread": "requested",
            "tasks.max": "1", "database.password": "secret", "old": "x"});
        let mine = json!({"name": "p", "reconciler.owner": "me"});
        let all = BTreeMap::from([
            ("o".to_owned(), found(&before, "RUNNING")),
            ("p".to_owned(), found(&mine, "RUNNING")),
            ("q".to_owned(), found(&json!({"name": "q"}), "RUNNING")),
        ]);
        let differences = differences(&BTreeMap::from([("o".to_owned(), connector)]), &all, "me");
        let text: Vec<String> = differences["o"].iter().map(ToString::to_string).collect();
        assert_eq!(
            text,
            [
                "would be resumed at the end of its re-read",
                "database.password: (hidden) -> ${dir:/run:p}",
                "old: x -> (none)",
                "sasl.jaas.config: (none) -> (hidden)",
                "tasks.max: 1 -> 2",
                "state: running -> paused"
            ]
        );
        assert_eq!(differences["p"], [Change::Remove]);
        assert_eq!(differences.len(), 2);
    }
}
