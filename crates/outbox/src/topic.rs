//! Names of topics, checked as Kafka checks them.

/// The most characters of a topic's name: Kafka's limit.
const MAX_LENGTH: usize = 249;
/// Topics of Kafka Connect itself, by the names that its documentation gives them: a writer of them commands its workers.
const CONNECT: [&str; 3] = ["connect-configs", "connect-offsets", "connect-status"];

/// Why no event can go to a topic of this name.
///
/// ```
/// use outbox::InvalidTopic;
/// use outbox::specification::Invalid;
///
/// /// Whether another name of the aggregate's type is needed, or only other characters.
/// fn is_taken(invalid: &Invalid) -> bool {
///     matches!(invalid, Invalid::Topic { source: InvalidTopic::Internal, .. })
/// }
/// # assert!(!is_taken(&Invalid::NoTopics));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTopic {
    /// There is no name.
    #[error("a topic has a name of at least one character")]
    Empty,
    /// Kafka reserves it for folders.
    #[error("Kafka takes neither . nor .. as a topic's name")]
    Dots,
    /// It has more than 249 characters.
    #[error("a topic's name has at most {MAX_LENGTH} characters")]
    TooLong,
    /// It has a character that Kafka refuses.
    #[error("a topic's name consists of ASCII letters, digits, and the characters . _ -")]
    Character,
    /// It is a topic of Kafka's or of Kafka Connect's own.
    #[error("Kafka keeps topics that begin with __ for itself, and Kafka Connect its own three")]
    Internal,
}

/// Checks the name of a topic for events.
pub(crate) fn check(name: &str) -> Result<(), InvalidTopic> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match name {
        "" => Err(InvalidTopic::Empty),
        "." | ".." => Err(InvalidTopic::Dots),
        _ if !name.bytes().all(legal) => Err(InvalidTopic::Character),
        _ if name.len() > MAX_LENGTH => Err(InvalidTopic::TooLong),
        _ if name.starts_with("__") || CONNECT.contains(&name) => Err(InvalidTopic::Internal),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_as_kafka_checks_them() {
        for (name, wrong) in [
            ("", InvalidTopic::Empty),
            (".", InvalidTopic::Dots),
            ("..", InvalidTopic::Dots),
            ("sales order", InvalidTopic::Character),
            ("bestellung-ä", InvalidTopic::Character),
            ("order\n", InvalidTopic::Character),
            (&"a".repeat(250), InvalidTopic::TooLong),
            ("__consumer_offsets", InvalidTopic::Internal),
            ("connect-configs", InvalidTopic::Internal),
        ] {
            assert_eq!(check(name), Err(wrong), "{name}");
        }
        for name in [
            "order",
            "Sales.order_v2-a",
            "_private",
            "...",
            &"a".repeat(249),
        ] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
    }
}
