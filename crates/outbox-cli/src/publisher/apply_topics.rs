//! `apply-topics`.

use outbox::specification::{self, Specification};

use super::error::Error;
use super::kafka::Kafka;
use program::answer::print;

/// Create the topics of the outbox that Kafka lacks, and give those that exist the declared settings
#[derive(Debug, Clone, clap::Args)]
pub struct ApplyTopics {
    #[command(flatten)]
    pub(super) kafka: Kafka,
}

impl ApplyTopics {
    /// Creates and alters the topics of `specification`, and prints each change. It opens no connection to the database.
    ///
    /// # Errors
    /// [`Error::NoKafka`], [`Error::Properties`]; [`Error::Topics`]; [`Error::Check`] names what it cannot change; [`Error::Output`].
    pub async fn run(self, specification: &Specification) -> Result<(), Error> {
        let kafka = self.kafka.client()?.ok_or(Error::NoKafka)?;
        let applied = specification.apply_topics(&kafka).await;
        let applied = applied.map_err(Error::Topics)?;
        for change in &applied.changes {
            print(change)?;
        }
        if !applied.left.is_empty() {
            return Err(specification::Error::Drifted(applied.left).into());
        }
        Ok(print("the topics are as the outbox needs them")?)
    }
}
