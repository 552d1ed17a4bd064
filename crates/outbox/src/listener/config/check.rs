//! The checks of a configuration: the listener's own, then librdkafka's.

use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use super::Config;
use super::client::refused;
use crate::listener::error::Error;
use crate::property::bears_secret;

/// The width of the column `listener`.
const MAX_NAME: usize = 63;

/// Properties that only the listener sets: other values would skip messages, or overrule a setting of its own.
const RESERVED: [&str; 9] = [
    "bootstrap.servers",
    "metadata.broker.list",
    "group.id",
    // The statistics show whether a broker is connected.
    "statistics.interval.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "isolation.level",
    "group.protocol",
];

impl Config {
    /// Checks the configuration as [`Listener::new`](crate::listener::Listener::new) and librdkafka do, together with the files
    /// that it names. It connects nowhere.
    ///
    /// # Errors
    /// Those of [`Listener::new`](crate::listener::Listener::new).
    pub fn check(&self) -> Result<(), Error> {
        self.check_names()?;
        self.check_locations()?;
        let mut client = self.client()?;
        // Without an address, a client connects nowhere.
        client.remove("bootstrap.servers");
        client.create_native_config().map_err(refused)?;
        // With this method, librdkafka would ask the token's issuer at once.
        if client.get("sasl.oauthbearer.method") == Some("oidc") {
            return Ok(());
        }
        client.create::<BaseConsumer>().map(drop).map_err(refused)
    }

    /// Checks the names and values of properties, on a machine without the files that they name: of `property_files` only the
    /// names, and no combination of properties.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Reserved`], [`Error::Secret`], [`Error::Twice`] or [`Error::Property`].
    pub fn check_without_files(&self) -> Result<(), Error> {
        self.check_names()?;
        self.without_files()
            .create_native_config()
            .map_err(refused)?;
        for property in self.property_files.keys() {
            // Whether the property exists; only the file's content shows its value.
            let checked = ClientConfig::new()
                .set(property, "1")
                .create_native_config();
            if let Err(
                error @ KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..),
            ) = checked
            {
                return Err(refused(error));
            }
        }
        Ok(())
    }

    /// librdkafka names the property of a missing file, but not the file.
    fn check_locations(&self) -> Result<(), Error> {
        for (property, path) in &self.properties {
            // `probe` searches where systems keep their certificate authorities.
            if property.ends_with(".location") && !["", "probe"].contains(&path.as_str()) {
                std::fs::metadata(path).map_err(|source| Error::PropertyFile {
                    property: property.clone(),
                    path: path.into(),
                    source,
                })?;
            }
        }
        Ok(())
    }

    /// Refuses names and properties that would void the listener's guarantees in silence, and secrets.
    pub(in crate::listener) fn check_names(&self) -> Result<(), Error> {
        if self.name.is_empty() || self.name.chars().count() > MAX_NAME {
            return Err(Error::Name(self.name.clone()));
        }
        let mut names = self.properties.keys().chain(self.property_files.keys());
        if let Some(name) = names.find(|name| RESERVED.contains(&name.as_str())) {
            return Err(Error::Reserved(name.clone()));
        }
        if let Some(name) = self.properties.keys().find(|name| bears_secret(name)) {
            return Err(Error::Secret(name.clone()));
        }
        let mut files = self.property_files.keys();
        match files.find(|name| self.properties.contains_key(*name)) {
            Some(name) => Err(Error::Twice(name.clone())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payments() -> Config {
        Config::new("127.0.0.1:9092", "payments", "payment")
    }

    fn with(properties: &[(&str, &str)]) -> Config {
        let mut config = payments();
        for (name, value) in properties {
            config
                .properties
                .insert((*name).to_owned(), (*value).to_owned());
        }
        config
    }

    #[test]
    fn properties_that_void_the_guarantees_are_refused() {
        payments().check().unwrap();
        with(&[("client.rack", "00123")]).check().unwrap();
        for name in ["auto.offset.reset", "group.id", "bootstrap.servers"] {
            let refused = with(&[(name, "latest")]).check();
            assert!(matches!(refused, Err(Error::Reserved(key)) if key == name));
            let mut config = payments();
            config.property_files.insert(name.to_owned(), "x".into());
            assert!(matches!(config.check(), Err(Error::Reserved(key)) if key == name));
        }
        let config = Config::new("127.0.0.1:9092", &"x".repeat(64), "payment");
        assert!(matches!(config.check(), Err(Error::Name(_))));
    }

    #[test]
    fn a_property_that_librdkafka_refuses_is_named() {
        for (name, value, reason) in [
            ("session.timeout", "1", "No such configuration property"),
            ("session.timeout.ms", "soon", "Invalid value"),
            ("security.protocol", "TLS", "Invalid value"),
        ] {
            let refusal = with(&[(name, value)]).check().unwrap_err().to_string();
            assert!(
                refusal.contains(name) && refusal.contains(reason),
                "{refusal}"
            );
        }
        // librdkafka checks combinations only as it creates a client.
        let scram = with(&[
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
        ]);
        let refused = scram.check();
        assert!(matches!(refused, Err(Error::Config(_))), "{refused:?}");
        let authority = with(&[
            ("security.protocol", "SSL"),
            ("ssl.ca.location", "/nowhere"),
        ]);
        let refusal = authority.check().unwrap_err().to_string();
        assert!(
            refusal.contains("ssl.ca.location") && refusal.contains("/nowhere"),
            "{refusal}"
        );
    }

    #[test]
    fn names_and_values_are_checked_without_the_files() {
        let mut tls = with(&[
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("ssl.ca.location", "/nowhere"),
        ]);
        let mut file = |property: &str| {
            tls.property_files
                .insert(property.to_owned(), "/nowhere".into());
            tls.check_without_files()
        };
        file("sasl.password").unwrap();
        file("ssl.key.pem").unwrap();
        let refusal = file("sasl.pasword").unwrap_err().to_string();
        assert!(refusal.contains("sasl.pasword"), "{refusal}");
        for name in ["session.timeout", "sasl.password", "group.id"] {
            let refusal = with(&[(name, "1")]).check_without_files().unwrap_err();
            assert!(refusal.to_string().contains(name), "{refusal}");
        }
    }

    #[test]
    fn a_secret_comes_from_a_file_and_is_never_shown() {
        let literal = with(&[("sasl.password", "hunter2")]);
        let refusal = literal.check().unwrap_err().to_string();
        assert!(
            refusal.contains("sasl.password") && refusal.contains("property_files"),
            "{refusal}"
        );
        let shown = format!("{literal:?} {}", serde_json::to_string(&literal).unwrap());
        assert!(
            !shown.contains("hunter2") && shown.contains("<redacted>"),
            "{shown}"
        );

        let path = std::env::temp_dir().join(format!("listener-secret-{}", std::process::id()));
        std::fs::write(&path, "hunter2\n").unwrap();
        let mut config = with(&[
            ("security.protocol", "SASL_PLAINTEXT"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.username", "payments"),
        ]);
        config
            .property_files
            .insert("sasl.password".to_owned(), path.clone());
        let (checked, client) = (config.check(), config.client());
        std::fs::remove_file(&path).unwrap();
        checked.unwrap();
        assert_eq!(client.unwrap().get("sasl.password"), Some("hunter2"));
        let refusal = config.check().unwrap_err().to_string();
        assert!(
            refusal.contains("sasl.password") && refusal.contains("listener-secret"),
            "{refusal}"
        );

        let mut twice = with(&[("client.rack", "a")]);
        twice.property_files.insert("client.rack".to_owned(), path);
        assert!(matches!(twice.check(), Err(Error::Twice(name)) if name == "client.rack"));
    }
}
