//! Properties of librdkafka and of Kafka Connect: names that stand for secrets, and references to them.

/// Whether a value is a reference that a config provider of Kafka Connect resolves: `${provider:path:key}`, or `${provider:key}`.
pub(crate) fn is_reference(value: &str) -> bool {
    let inside = value
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'));
    inside.is_some_and(|inside| {
        let parts: Vec<&str> = inside.split(':').collect();
        parts.len() >= 2 && parts.iter().all(|part| !part.is_empty())
    })
}

/// Whether a property's value is a secret. The name decides, so that a property of a later version is recognized too. Of librdkafka
/// 2.12 these are `sasl.password`, `ssl.key.password`, `ssl.key.pem`, `ssl.keystore.password`, `sasl.oauthbearer.client.secret`
/// (and its alias), `sasl.oauthbearer.assertion.private.key.passphrase` and `….pem`; of Kafka's own clients
/// `sasl.jaas.config` and all that end in `password` besides.
pub(crate) fn bears_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "passphrase", "secret", "jaas.config"]
        .iter()
        .any(|mark| name.contains(mark))
        || name.ends_with("key.pem")
        || name.ends_with("keystore.key")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_names() {
        for name in [
            "sasl.password",
            "ssl.key.password",
            "ssl.key.pem",
            "ssl.keystore.password",
            "sasl.oauthbearer.client.secret",
            "sasl.oauthbearer.client.credentials.client.secret",
            "sasl.oauthbearer.assertion.private.key.passphrase",
            "sasl.oauthbearer.assertion.private.key.pem",
            "producer.override.sasl.jaas.config",
            "producer.override.ssl.keystore.key",
            "database.sslpassword",
        ] {
            assert!(bears_secret(name), "{name}");
        }
        for name in [
            "sasl.username",
            "ssl.key.location",
            "ssl.ca.pem",
            "ssl.certificate.pem",
            "database.sslkey",
            "message.key.columns",
        ] {
            assert!(!bears_secret(name), "{name}");
        }
    }
}
