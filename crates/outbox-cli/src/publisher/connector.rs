//! `connector`.

use outbox::specification::Specification;
use program::answer::print;

use super::error::Error;

/// Print the connector of the outbox, as `connect` takes it: Kafka Connect's JSON, with the `topics` that it needs
#[derive(Debug, Clone, clap::Args)]
pub struct Connector;

impl Connector {
    /// Prints the connector of `specification`. It connects nowhere.
    ///
    /// # Errors
    /// [`Error::Output`].
    pub fn run(self, specification: &Specification) -> Result<(), Error> {
        Ok(print(&format!("{:#}", specification.to_json()))?)
    }
}
