//! Reading a configuration from its sources, and writing it as a file again.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::known::{Known, Place};

/// A configuration that does not load.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting is of the wrong type, or the file is not TOML; the text names the key and its source.
    #[error("cannot load the configuration: {0}")]
    Refused(Box<figment::Error>),
    /// The file of `--config` does not exist.
    #[error("there is no configuration file {0}: check --config")]
    NoFile(PathBuf),
    /// Unknown keys.
    #[error("cannot load the configuration: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  and "))]
    Unknown(Vec<Unknown>),
}

impl From<figment::Error> for Error {
    fn from(error: figment::Error) -> Self {
        Self::Refused(Box::new(error))
    }
}

/// An unknown key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// The key, or the variable that sets it.
    pub given: String,
    /// The file or variable, unless `given` is it.
    pub place: Option<String>,
    /// The most similar known key.
    pub nearest: String,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { given, nearest, .. } = self;
        match &self.place {
            Some(place) => write!(f, "unknown key {given} in {place}; did you mean {nearest}?"),
            None => write!(
                f,
                "the variable {given} would set nothing; did you mean {nearest}?"
            ),
        }
    }
}

/// Reads a service's settings: its defaults, then `file`, then variables `PREFIX__SECTION__KEY`.
///
/// The known keys are those of the defaults, so every field must be serialized, and no section may be optional. A table that is
/// empty by default takes any key: it holds properties. Their names have dots, for which a variable has underscores
/// (`PREFIX__KAFKA__PROPERTIES__SASL_MECHANISM` is `sasl.mechanism`), and their values are text.
///
/// # Errors
/// [`Error`].
pub fn load<T>(prefix: &str, file: Option<&Path>) -> Result<T, Error>
where
    T: Default + Serialize + DeserializeOwned,
{
    let defaults = Serialized::defaults(T::default());
    let known = Known::new(
        defaults
            .data()?
            .remove(&Profile::Default)
            .unwrap_or_default(),
    );
    let mut unknown = Vec::new();
    let mut figment = Figment::from(defaults);
    if let Some(path) = file {
        figment = figment.merge(from_file(&known, path, &mut unknown)?);
    }
    let variables: BTreeMap<String, String> = std::env::vars_os()
        .map(|(name, text)| {
            let text = text.to_string_lossy().into_owned();
            (name.to_string_lossy().to_uppercase(), text)
        })
        .collect();
    figment = figment.merge(from_environment(&known, prefix, &variables, &mut unknown));
    unknown.extend(misspelt(&known, prefix, &variables));
    if !unknown.is_empty() {
        return Err(Error::Unknown(unknown));
    }
    Ok(figment.extract()?)
}

/// Writes a configuration as a file that [`load`] reads, without the fields that it does not serialize, such as secrets.
///
/// # Errors
/// If TOML has no form for it.
pub fn to_toml(config: &impl Serialize) -> Result<String, toml::ser::Error> {
    toml::to_string(config)
}

/// The settings of one source.
struct Layer {
    metadata: Metadata,
    settings: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        self.metadata.clone()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.settings.clone()))
    }
}

fn from_file(known: &Known, path: &Path, unknown: &mut Vec<Unknown>) -> Result<Layer, Error> {
    if !path.is_file() {
        return Err(Error::NoFile(path.to_owned()));
    }
    let file = Toml::file_exact(path);
    let metadata = file
        .metadata()
        .interpolater(|_: &Profile, keys: &[&str]| keys.join("."));
    let mut data = file.data().map_err(|mut error| {
        error.metadata = Some(metadata.clone());
        error
    })?;
    let given = data.remove(&Profile::Default).unwrap_or_default();
    let mut refused = Vec::new();
    let settings = known.sift(given, &mut refused);
    unknown.extend(refused.into_iter().map(|(key, value)| Unknown {
        nearest: known.nearest(&key, value.as_dict().is_some()).join("."),
        given: key.join("."),
        place: Some(path.display().to_string()),
    }));
    Ok(Layer { metadata, settings })
}

fn from_environment(
    known: &Known,
    prefix: &str,
    variables: &BTreeMap<String, String>,
    unknown: &mut Vec<Unknown>,
) -> Layer {
    let mut settings = Dict::new();
    for (variable, text) in variables {
        let Some(words) = variable
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_prefix("__"))
        else {
            continue;
        };
        let words = words.to_lowercase();
        let words: Vec<&str> = words.split("__").collect();
        let (path, value) = match known.place(&words) {
            Place::Setting(default) => {
                let path = words.iter().map(|&word| word.to_owned()).collect();
                (path, read(default, text))
            }
            Place::Property(mut path, name) => {
                path.push(name);
                (path, Value::from(text.as_str()))
            }
            Place::Nowhere => {
                let path: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
                let nearest = known.nearest(&path, false);
                unknown.push(Unknown {
                    given: path.join("."),
                    place: Some(format!("the variable {variable}")),
                    nearest: format!("{} ({})", nearest.join("."), name(prefix, &nearest)),
                });
                continue;
            }
        };
        insert(&mut settings, &path, value);
    }
    let mut refused = Vec::new();
    // A variable may hold a whole table.
    let settings = known.sift(settings, &mut refused);
    unknown.extend(refused.into_iter().map(|(key, value)| Unknown {
        nearest: known.nearest(&key, value.as_dict().is_some()).join("."),
        place: Some(format!(
            "the variable {}",
            name(prefix, &key[..key.len() - 1])
        )),
        given: key.join("."),
    }));
    let prefix = prefix.to_owned();
    let metadata =
        Metadata::named("the environment").interpolater(move |_: &Profile, keys: &[&str]| {
            format!(
                "{prefix}__{}",
                keys.join("__").to_uppercase().replace('.', "_")
            )
        });
    Layer { metadata, settings }
}

/// What a variable's text means where `default` stands: text is text, whatever it looks like.
fn read(default: &Value, text: &str) -> Value {
    let parsed = || text.parse().unwrap_or_else(|never| match never {});
    match default {
        Value::String(..) | Value::Char(..) => Value::from(text),
        _ => parsed(),
    }
}

fn insert(table: &mut Dict, path: &[String], value: Value) {
    match path {
        [] => {}
        [key] => drop(table.insert(key.clone(), value)),
        [section, rest @ ..] => {
            let entry = table
                .entry(section.clone())
                .or_insert_with(|| Value::from(Dict::new()));
            if let Value::Dict(_, inner) = entry {
                insert(inner, rest, value);
            }
        }
    }
}

/// Variables that were meant for this service and would set nothing: `ORDER_HTTP_LISTEN`. Only the service's prefix with one
/// of its sections counts, so that another program's `ORDER_BY` is ignored.
fn misspelt(known: &Known, prefix: &str, variables: &BTreeMap<String, String>) -> Vec<Unknown> {
    // Kubernetes announces a service `order-database` to every container by variables such as ORDER_DATABASE_SERVICE_HOST.
    let linked: Vec<&str> = variables
        .keys()
        .filter_map(|name| name.strip_suffix("SERVICE_HOST"))
        .filter(|stem| stem.len() > prefix.len() + 1)
        .collect();
    let meant = variables.keys().filter_map(|variable| {
        let words = variable.strip_prefix(prefix)?.strip_prefix('_')?;
        if words.starts_with('_') || linked.iter().any(|stem| variable.starts_with(stem)) {
            return None;
        }
        let words = words.to_lowercase();
        let mut sections = known.sections();
        sections.find(|section| {
            words
                .strip_prefix(section)
                .is_some_and(|rest| rest.starts_with('_'))
        })?;
        let (key, property) = known.spelt(&words.replace("__", "_"));
        let property = property.map_or_else(String::new, |property| {
            format!("__{}", property.to_uppercase())
        });
        Some(Unknown {
            given: variable.clone(),
            place: None,
            nearest: format!("{}{property}", name(prefix, &key)),
        })
    });
    meant.collect()
}

/// The variable of a key.
fn name(prefix: &str, key: &[String]) -> String {
    format!("{prefix}__{}", key.join("__").to_uppercase())
}

#[cfg(test)]
mod tests;
