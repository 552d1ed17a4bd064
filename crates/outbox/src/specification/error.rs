//! Why an outbox was not compared with its specification, or differs from it.

#[cfg(feature = "topics")]
use rdkafka::error::KafkaError;
#[cfg(feature = "topics")]
use rdkafka::types::RDKafkaErrorCode;

use super::drift::Drift;

/// An outbox that is not as specified, or a database or Kafka that does not answer.
///
/// ```
/// use outbox::specification::Error;
///
/// /// What an operator has to do, a line for each difference.
/// fn remedies(error: &Error) -> Vec<String> {
///     match error {
///         Error::Drifted(drifts) => drifts.iter().map(|drift| format!("{}: {}", drift.what, drift.remedy)).collect(),
///         error => vec![format!("try again: {error}")],
///     }
/// }
/// # assert!(remedies(&Error::Drifted(Vec::new())).is_empty());
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Every difference.
    #[error("the outbox is not as its specification needs it:{}", list(.0))]
    Drifted(Vec<Drift>),
    /// The database does not answer.
    #[error(
        "cannot compare the database with the outbox's specification; see that it is up, then check again"
    )]
    Database(#[from] sqlx::Error),
    /// Kafka does not answer, or refuses.
    #[cfg(feature = "topics")]
    #[error(transparent)]
    Topics(#[from] TopicsError),
}

fn list(drifts: &[Drift]) -> String {
    let lines: Vec<String> = drifts.iter().map(|drift| format!("\n  {drift}")).collect();
    lines.concat()
}

/// Kafka that does not answer, or refuses.
#[cfg(feature = "topics")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TopicsError {
    /// There is no client, or no answer.
    #[error(
        "cannot compare Kafka's topics with the outbox's specification; see that Kafka is up, then check again"
    )]
    Kafka(#[from] KafkaError),
    /// A request over a topic was refused.
    #[error("Kafka does not {request} topic {topic}: {code}{}", grant(request, *code))]
    Refused {
        /// What was asked for: `show`, `create` or `alter`.
        request: &'static str,
        /// The topic's name.
        topic: String,
        /// Kafka's reason.
        code: RDKafkaErrorCode,
    },
    /// A topic is there, and its settings are not shown.
    #[error(
        "Kafka does not show the settings of topic {0}: grant DESCRIBE_CONFIGS on it, then check again"
    )]
    Hidden(String),
}

/// What an operator grants for a request that was refused for the lack of it.
#[cfg(feature = "topics")]
fn grant(request: &str, code: RDKafkaErrorCode) -> String {
    let operations = match request {
        "create" => "CREATE",
        "alter" => "ALTER_CONFIGS",
        _ => "DESCRIBE and DESCRIBE_CONFIGS",
    };
    match code {
        RDKafkaErrorCode::TopicAuthorizationFailed
        | RDKafkaErrorCode::ClusterAuthorizationFailed => {
            format!("; grant {operations} on it to the client's principal")
        }
        _ => String::new(),
    }
}
