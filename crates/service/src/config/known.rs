//! The known keys, and the nearest one to an unknown key.

use std::cmp::Ordering;

use figment::value::{Dict, Value};

/// The similarity of a key with the right name in the wrong section.
const MISPLACED: f64 = 0.9;

/// The keys of a configuration: those of its defaults. A table that is empty there takes any key: it holds properties, whose
/// names have dots.
pub(super) struct Known(Dict);

/// A key as the tables that lead to it, and itself.
pub(super) type Path = Vec<String>;

/// What is at a path.
pub(super) enum Place<'a> {
    /// A setting or a section, with its default.
    Setting(&'a Value),
    /// A property: the path of its table, and its name.
    Property(Path, String),
    /// Nothing.
    Nowhere,
}

impl Known {
    pub(super) fn new(defaults: Dict) -> Self {
        Self(defaults)
    }

    /// What is at a variable's words. Below a table of properties an underscore stands for a dot, which a variable's name cannot
    /// have: `KAFKA__PROPERTIES__SASL_MECHANISM` is the property `sasl.mechanism`.
    pub(super) fn place(&self, words: &[&str]) -> Place<'_> {
        let mut table = &self.0;
        for (depth, word) in words.iter().enumerate() {
            match table.get(*word) {
                Some(Value::Dict(_, properties))
                    if properties.is_empty() && depth + 1 < words.len() =>
                {
                    let (path, name) = words.split_at(depth + 1);
                    return Place::Property(owned(path), name.join(".").replace('_', "."));
                }
                Some(Value::Dict(_, section)) if depth + 1 < words.len() => table = section,
                Some(setting) if depth + 1 == words.len() => return Place::Setting(setting),
                _ => return Place::Nowhere,
            }
        }
        Place::Nowhere
    }

    /// Keeps the known keys of `given`, adds the others to `unknown`, and restores the names of properties: in TOML
    /// `sasl.mechanism = "PLAIN"`, without quotes, is a table in a table.
    pub(super) fn sift(&self, given: Dict, unknown: &mut Vec<(Path, Value)>) -> Dict {
        sift(&self.0, given, &mut Vec::new(), unknown)
    }

    /// The words that the variables of this configuration begin with.
    pub(super) fn sections(&self) -> impl Iterator<Item = &str> {
        let tables = self.0.iter().filter(|(_, value)| value.as_dict().is_some());
        tables.map(|(key, _)| key.as_str())
    }

    /// The known key that looks most like `path`, among the tables if it is one.
    pub(super) fn nearest(&self, path: &[String], is_table: bool) -> Path {
        let (wanted, name) = (path.join("."), path.last().map_or("", String::as_str));
        let likeness = |candidate: &Path| {
            let whole = strsim::normalized_damerau_levenshtein(&wanted, &candidate.join("."));
            let last = candidate.last().map_or("", String::as_str);
            let misplaced = MISPLACED * strsim::normalized_damerau_levenshtein(name, last);
            whole.max(misplaced)
        };
        let mut best = (f64::MIN, Vec::new());
        for (candidate, value) in self.paths() {
            let score = likeness(&candidate);
            if value.as_dict().is_some() == is_table
                && score.total_cmp(&best.0) == Ordering::Greater
            {
                best = (score, candidate);
            }
        }
        best.1
    }

    /// The key, and the property below it, whose variable reads like `words` once every run of underscores is one.
    pub(super) fn spelt(&self, words: &str) -> (Path, Option<String>) {
        for (path, value) in self.paths() {
            let is_properties = value.as_dict().is_some_and(Dict::is_empty);
            let prefix = format!("{}_", path.join("_"));
            if is_properties && let Some(property) = words.strip_prefix(&prefix) {
                return (path, Some(property.to_owned()));
            }
        }
        let words = [words.replace('_', ".")];
        let mut best = (f64::MIN, Vec::new());
        for (path, value) in self.paths() {
            let read = path.join(".").replace('_', ".");
            let score = strsim::normalized_damerau_levenshtein(&words[0], &read);
            if value.as_dict().is_none() && score.total_cmp(&best.0) == Ordering::Greater {
                best = (score, path);
            }
        }
        (best.1, None)
    }

    fn paths(&self) -> Vec<(Path, &Value)> {
        let mut paths = Vec::new();
        collect(&self.0, &mut Vec::new(), &mut paths);
        paths
    }
}

fn owned(words: &[&str]) -> Path {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn collect<'a>(table: &'a Dict, path: &mut Path, paths: &mut Vec<(Path, &'a Value)>) {
    for (key, value) in table {
        path.push(key.clone());
        paths.push((path.clone(), value));
        if let Value::Dict(_, section) = value {
            collect(section, path, paths);
        }
        path.pop();
    }
}

fn sift(known: &Dict, given: Dict, path: &mut Path, unknown: &mut Vec<(Path, Value)>) -> Dict {
    let mut taken = Dict::new();
    for (key, value) in given {
        path.push(key.clone());
        match (known.get(&key), value) {
            (None, value) => unknown.push((path.clone(), value)),
            (Some(Value::Dict(_, known)), Value::Dict(tag, given)) => {
                let sifted = if known.is_empty() {
                    let mut properties = Dict::new();
                    flatten(given, "", &mut properties);
                    properties
                } else {
                    sift(known, given, path, unknown)
                };
                taken.insert(key, Value::Dict(tag, sifted));
            }
            // If a section is given as anything else, its type says so.
            (Some(_), value) => drop(taken.insert(key, value)),
        }
        path.pop();
    }
    taken
}

fn flatten(given: Dict, prefix: &str, properties: &mut Dict) {
    for (key, value) in given {
        let name = format!("{prefix}{key}");
        match value {
            Value::Dict(_, nested) => flatten(nested, &format!("{name}."), properties),
            value => drop(properties.insert(name, value)),
        }
    }
}
