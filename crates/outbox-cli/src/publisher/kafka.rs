//! Where the commands over topics reach Kafka.

use std::fs;
use std::path::PathBuf;

use rdkafka::ClientConfig;

use super::error::{BoxError, Error};

/// The options of these commands.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Kafka {
    /// Kafka's addresses, host:port[,host:port…], instead of those of the service's settings
    #[arg(id = "kafka", long = "kafka", value_name = "ADDRESS")]
    address: Option<String>,
    /// A file with further properties of librdkafka, such as sasl.password; each line is name=value
    #[arg(
        id = "kafka-properties",
        long = "kafka-properties",
        value_name = "FILE",
        requires = "kafka"
    )]
    properties: Option<PathBuf>,
    /// The service's own client.
    #[arg(skip)]
    own: Option<ClientConfig>,
}

impl Kafka {
    /// Uses `client` unless an option names an address.
    pub(super) fn or<E: Into<BoxError>>(
        &mut self,
        client: impl FnOnce() -> Result<ClientConfig, E>,
    ) -> Result<(), Error> {
        if self.address.is_none() {
            self.own = Some(client().map_err(|error| Error::Connect(error.into()))?);
        }
        Ok(())
    }

    /// The client, if an address is known.
    pub(super) fn client(&self) -> Result<Option<ClientConfig>, Error> {
        let Some(address) = &self.address else {
            return Ok(self.own.clone());
        };
        let mut client = ClientConfig::new();
        if let Some(path) = &self.properties {
            let text = fs::read_to_string(path).map_err(|source| Error::Properties {
                path: path.clone(),
                source,
            })?;
            for (name, value) in properties(&text) {
                client.set(name, value);
            }
        }
        client.set("bootstrap.servers", address);
        Ok(Some(client))
    }
}

/// The lines of a file of properties, without blank ones and comments.
fn properties(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    // A line without a value makes librdkafka name the property.
    lines.map(|line| {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        (name.trim(), value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_properties_has_one_a_line() {
        let text = "# TLS\nsecurity.protocol = SASL_SSL\n\nsasl.password=a=b\nloose\n";
        let read: Vec<_> = properties(text).collect();
        assert_eq!(
            read,
            [
                ("security.protocol", "SASL_SSL"),
                ("sasl.password", "a=b"),
                ("loose", "")
            ]
        );
    }
}
