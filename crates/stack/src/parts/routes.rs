//! The settings that both ways to run share: `parts/routes.json` and the `.properties` files beside it. Rust reads them
//! here; Nix reads the same files.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::sync::LazyLock;

use serde::Deserialize;

use super::accepted::Accepted;
use crate::ports::Ports;

/// The broker's settings.
pub(crate) const BROKER: &str = include_str!("../../parts/broker.properties");
/// The settings of a Kafka Connect worker.
pub(crate) const WORKER: &str = include_str!("../../parts/worker.properties");
/// The log configuration of both.
pub(crate) const LOG4J: &str = include_str!("../../parts/log4j2.properties");

/// The contents of `routes.json`. The file is part of the program, so the tests find a mistake in it.
pub(crate) static ROUTES: LazyLock<Routes> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../parts/routes.json"))
        .expect("routes.json has the form of Routes")
});

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Routes {
    pub(crate) ports: Ports,
    pub(crate) heap: Heap,
    pub(crate) postgresql: BTreeMap<String, Setting>,
    pub(crate) accepted: Accepted,
}

/// The maximum heaps of the two JVMs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Heap {
    pub(crate) broker_mib: u32,
    pub(crate) connect_mib: u32,
}

/// A setting of a PostgreSQL server; it is displayed in the syntax of `postgresql.conf`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Setting {
    Switch(bool),
    Number(i64),
    Text(String),
}

impl Display for Setting {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch(on) => to.write_str(if *on { "on" } else { "off" }),
            Self::Number(number) => write!(to, "{number}"),
            Self::Text(text) => write!(to, "'{}'", text.replace('\'', "''")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Nix reads them with a parser of its own, which knows only comments and `key=value`.
    #[test]
    fn shared_settings_are_plain_and_named_once() {
        for text in [BROKER, WORKER, LOG4J] {
            let mut settings = BTreeMap::new();
            for line in text.lines().filter(|line| !line.starts_with('#')) {
                let (key, value) = line.split_once('=').expect(line);
                assert_eq!((key.trim(), value.trim()), (key, value), "{line}");
                assert!(!value.is_empty() && !line.contains('\\'), "{line}");
                assert_eq!(settings.insert(key, value), None, "{key} occurs twice");
            }
            assert!(!settings.is_empty());
        }
    }

    /// Each way to run adds the settings of its machine.
    #[test]
    fn shared_settings_name_no_port_path_or_password() {
        let ports = serde_json::to_value(&ROUTES.ports).unwrap();
        let ports = ports
            .as_object()
            .unwrap()
            .values()
            .filter_map(Value::as_u64);
        let of_a_machine: Vec<String> = ports
            .map(|port| port.to_string())
            .chain(["://", "127.0.0.1", "localhost", "password=", "/"].map(str::to_owned))
            .collect();
        for text in [BROKER, WORKER, LOG4J] {
            for line in text.lines().filter(|line| !line.starts_with('#')) {
                let found = of_a_machine.iter().find(|it| line.contains(it.as_str()));
                assert_eq!(found, None, "{line}");
            }
        }
    }

    #[test]
    fn a_setting_is_displayed_as_postgresql_reads_it() {
        let settings: Vec<Setting> = serde_json::from_str(r#"["it's", false, 20]"#).unwrap();
        let shown: Vec<String> = settings.iter().map(Setting::to_string).collect();
        assert_eq!(shown, ["'it''s'", "off", "20"]);
    }
}
