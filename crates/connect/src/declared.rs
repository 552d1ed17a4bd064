//! Connectors as a folder declares them: one JSON file each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// A connector, as its file declares it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Connector {
    /// Its name.
    pub name: String,
    /// Its configuration, as Kafka Connect stores it: each value is a string. In the file it may be a number or a boolean too, and a
    /// property that is null is none.
    #[serde(deserialize_with = "strings")]
    pub config: Map<String, Value>,
    /// The state that it is to be in.
    #[serde(default)]
    pub state: TargetState,
}

/// The state that a connector is to be in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetState {
    /// It runs.
    #[default]
    Running,
    /// Its tasks keep their connections, and read nothing.
    Paused,
    /// It has no task.
    Stopped,
}

impl fmt::Display for TargetState {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// Kafka Connect stores numbers and booleans as strings. Anything else it refuses, so that stays as it is.
fn strings<'de, D: Deserializer<'de>>(from: D) -> Result<Map<String, Value>, D::Error> {
    let config = Map::deserialize(from)?;
    let stored = config.into_iter().filter_map(|(key, value)| match value {
        Value::Null => None,
        Value::Bool(_) | Value::Number(_) => Some((key, value.to_string().into())),
        other => Some((key, other)),
    });
    Ok(stored.collect())
}

/// A folder that declares connectors in part only. The rest is unknown, so the reconciler changes none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder is missing, or the process may not read it.
    #[error(
        "cannot read the folder {path}; create it, or grant this process to read it: no connector changes until then"
    )]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The process may not read a file, or the file declares no connector.
    #[error(
        "{path} declares no connector; give it `name`, `config` and, if it is not to run, `state` (paused or stopped) in JSON, or remove it: no connector changes until then"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The name cannot stand in a URL.
    #[error(
        "{path} names its connector {name:?}, which Kafka Connect cannot be asked about; rename it: no connector changes until then"
    )]
    Name {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// Two files declare the same name.
    #[error(
        "{path} declares connector {name} a second time; remove one of its files: no connector changes until then"
    )]
    Twice {
        /// The second file.
        path: PathBuf,
        /// The name.
        name: String,
    },
}

/// Reads every `*.json` of `folder`.
///
/// # Errors
/// [`Error`]; one unreadable file is enough.
pub fn read(folder: &Path) -> Result<BTreeMap<String, Connector>, Error> {
    let unreadable = |source| Error::Folder {
        path: folder.to_owned(),
        source,
    };
    let mut declared = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = fs::read(&path);
        let parsed = text.and_then(|text| Ok(serde_json::from_slice::<Connector>(&text)?));
        let connector = parsed.map_err(|source| Error::File {
            path: path.clone(),
            source,
        })?;
        let name = connector.name.clone();
        // In a URL they are no names, and cannot be encoded.
        if matches!(name.as_str(), "" | "." | "..") {
            return Err(Error::Name { path, name });
        }
        if declared.insert(name.clone(), connector).is_some() {
            return Err(Error::Twice { path, name });
        }
    }
    Ok(declared)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Connector, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn scalars_are_the_strings_that_kafka_connect_stores_and_null_is_no_property() {
        let connector = of(r#"{"name": "o", "topics": [], "config": {
            "tasks.max": 1, "is": true, "ratio": 0.5, "text": "1", "none": null, "odd": [1]}}"#)
        .unwrap();
        let stored = serde_json::json!({
            "tasks.max": "1", "is": "true", "ratio": "0.5", "text": "1", "odd": [1]});
        assert_eq!(Value::Object(connector.config), stored);
        assert_eq!(connector.state, TargetState::Running);
    }

    #[test]
    fn a_file_declares_a_state_and_no_other_than_kafka_connect_has() {
        let state = |state: &str| {
            of(&format!(
                r#"{{"name":"o","config":{{}},"state":"{state}"}}"#
            ))
        };
        assert_eq!(state("paused").unwrap().state, TargetState::Paused);
        assert_eq!(state("stopped").unwrap().state, TargetState::Stopped);
        assert_eq!(state("running").unwrap().state, TargetState::Running);
        assert!(state("puased").is_err());
    }
}
