//! Connectors as a folder declares them: one JSON file each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::Deserialize;
use serde_json::{Map, Value};

/// A connector, as its file declares it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Connector {
    /// Its name.
    pub name: String,
    /// Its configuration, as Kafka Connect takes it.
    pub config: Map<String, Value>,
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
        "{path} declares no connector; give it `name` and `config` in JSON, or remove it: no connector changes until then"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
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
        if declared.insert(name.clone(), connector).is_some() {
            return Err(Error::Twice { path, name });
        }
    }
    Ok(declared)
}
