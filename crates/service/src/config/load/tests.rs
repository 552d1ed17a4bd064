//! What is taken, from where, and what is refused.
#![expect(
    clippy::result_large_err,
    reason = "figment's Jail asks for its own error"
)]

use figment::Jail;
use serde::Deserialize;

use super::super::{Database, Http};
use super::*;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    http: Http,
    database: Database,
    kafka: Kafka,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kafka {
    topics: Vec<String>,
    properties: BTreeMap<String, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            http: Http::at(9000),
            database: Database::local(5433, "order_db", "order_service"),
            kafka: Kafka {
                topics: vec!["reservation".to_owned()],
                properties: BTreeMap::new(),
            },
        }
    }
}

fn load(file: Option<&str>) -> Result<Settings, Error> {
    super::load("ORDER", file.map(Path::new))
}

/// What is said about a file and a variable, each if it is not empty.
fn refused(file: &str, variable: (&str, &str)) -> String {
    let mut text = String::new();
    Jail::expect_with(|jail| {
        jail.create_file("order.toml", file)?;
        if !variable.0.is_empty() {
            jail.set_env(variable.0, variable.1);
        }
        text = load(Some("order.toml")).unwrap_err().to_string();
        Ok(())
    });
    text
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
    Jail::expect_with(|jail| {
        jail.create_file("order.toml", "[database]\nport = 1\nhost = \"db\"")?;
        jail.set_env("ORDER__DATABASE__PORT", "2");
        jail.set_env("ORDERS__DATABASE__PORT", "3");
        let settings = load(Some("order.toml")).unwrap();
        assert_eq!(settings.database.port, 2);
        assert_eq!(settings.database.host, "db");
        assert_eq!(settings.http.listen.port(), 9000);
        Ok(())
    });
}

#[test]
fn an_unknown_key_is_refused_wherever_it_stands_with_the_nearest_known_one() {
    for (file, reason) in [
        (
            "[database]\nprot = 1",
            "unknown key database.prot in order.toml; did you mean database.port?",
        ),
        (
            "[databse]\nport = 1",
            "unknown key databse in order.toml; did you mean database?",
        ),
        (
            "port = 1",
            "unknown key port in order.toml; did you mean database.port?",
        ),
        (
            "kafka = { topcis = [] }",
            "unknown key kafka.topcis in order.toml; did you mean kafka.topics?",
        ),
    ] {
        let refused = refused(file, ("", ""));
        assert!(refused.contains(reason), "{refused}");
    }
    for (variable, reason) in [
        (
            "ORDER__HTTP__LISTNE",
            "unknown key http.listne in the variable ORDER__HTTP__LISTNE; did you mean http.listen (ORDER__HTTP__LISTEN)?",
        ),
        (
            "ORDER__HTTP__LISTEN__PORT",
            "unknown key http.listen.port in the variable ORDER__HTTP__LISTEN__PORT; did you mean",
        ),
        ("ORDER__", "in the variable ORDER__;"),
    ] {
        let refused = refused("", (variable, "1"));
        assert!(refused.contains(reason), "{refused}");
    }
    let table = refused("", ("ORDER__HTTP", "{listne=\"127.0.0.1:1\"}"));
    assert!(
        table.contains(
            "unknown key http.listne in the variable ORDER__HTTP; did you mean http.listen?"
        ),
        "{table}"
    );
}

#[test]
fn all_unknown_keys_are_reported_at_once() {
    let refused = refused(
        "[http]\nlisten_at = 1\n[database]\nprot = 1",
        ("ORDER__KAFKA__TOPIC", "x"),
    );
    for key in ["http.listen_at", "database.prot", "kafka.topic"] {
        assert!(refused.contains(key), "{refused}");
    }
}

#[test]
fn a_variable_that_was_meant_for_the_service_is_not_ignored_in_silence() {
    for (variable, right) in [
        ("ORDER_HTTP_LISTEN", "ORDER__HTTP__LISTEN"),
        ("ORDER_HTTP__LISTEN", "ORDER__HTTP__LISTEN"),
        ("ORDER__HTTP_LISTEN", "ORDER__HTTP__LISTEN"),
        (
            "ORDER_DATABASE_PASSWORD_FILE",
            "ORDER__DATABASE__PASSWORD_FILE",
        ),
        (
            "ORDER_DATABASE_PASSWORDFILE",
            "ORDER__DATABASE__PASSWORD_FILE",
        ),
        (
            "ORDER_KAFKA_PROPERTIES_SASL_MECHANISM",
            "ORDER__KAFKA__PROPERTIES__SASL_MECHANISM",
        ),
    ] {
        let refused = refused("", (variable, "127.0.0.1:1"));
        assert!(
            refused.contains(variable) && refused.contains(right),
            "{refused}"
        );
    }
}

#[test]
fn variables_of_other_programs_are_ignored() {
    Jail::expect_with(|jail| {
        for variable in [
            "ORDER",
            "ORDER_BY",
            "ORDER_HTTP",
            "ORDER_HTTPS_PORT",
            "ORDER_WORKER__HTTP__LISTEN",
            "REORDER__HTTP__LISTEN",
            // What Kubernetes sets for services called `order` and `order-database`.
            "ORDER_SERVICE_HOST",
            "ORDER_PORT_9000_TCP",
            "ORDER_DATABASE_SERVICE_HOST",
            "ORDER_DATABASE_PORT",
        ] {
            jail.set_env(variable, "x");
        }
        load(None).unwrap();
        // It does not hide what was meant for the service.
        jail.set_env("ORDER_HTTP_LISTEN", "127.0.0.1:1");
        load(None).unwrap_err();
        Ok(())
    });
}

#[test]
fn a_text_arrives_as_it_is_whatever_it_looks_like() {
    Jail::expect_with(|jail| {
        jail.create_file(
            "order.toml",
            "[kafka.properties]\nsasl.mechanism = \"PLAIN\"\n\"client.id\" = \"till\"",
        )?;
        jail.set_env("ORDER__DATABASE__NAME", "00123");
        jail.set_env("ORDER__KAFKA__TOPICS", "[a, b]");
        for (name, text) in [
            ("CLIENT_RACK", "00123"),
            ("SOCKET_NAGLE_DISABLE", "true"),
            ("SASL_USERNAME", "[x]"),
            ("CLIENT_ID", "\"quoted\""),
        ] {
            jail.set_env(format!("ORDER__KAFKA__PROPERTIES__{name}"), text);
        }
        let settings = load(Some("order.toml")).unwrap();
        assert_eq!(settings.database.name, "00123");
        assert_eq!(settings.kafka.topics, ["a", "b"]);
        let properties: Vec<(&str, &str)> = settings
            .kafka
            .properties
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        assert_eq!(
            properties,
            [
                ("client.id", "\"quoted\""),
                ("client.rack", "00123"),
                ("sasl.mechanism", "PLAIN"),
                ("sasl.username", "[x]"),
                ("socket.nagle.disable", "true"),
            ]
        );
        Ok(())
    });
}

#[test]
fn a_wrong_type_names_where_it_was_set() {
    let refused = refused("", ("ORDER__DATABASE__PORT", "many"));
    assert!(
        refused.contains("ORDER__DATABASE__PORT") && refused.contains("u16"),
        "{refused}"
    );
    let refused = self::refused("[database]\nport = \"many\"", ("", ""));
    assert!(
        refused.contains("\"database.port\"") && refused.contains("order.toml"),
        "{refused}"
    );
    let refused = self::refused("[database\n", ("", ""));
    assert!(refused.contains("order.toml"), "{refused}");
    let refused = self::refused("[database]\nsslmode = \"always\"", ("", ""));
    assert!(refused.contains("verify-full"), "{refused}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let refused = load(Some("/nowhere/order.toml")).unwrap_err();
    assert!(matches!(refused, Error::NoFile(_)));
}
