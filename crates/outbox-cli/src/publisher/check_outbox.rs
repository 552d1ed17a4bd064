//! `check-outbox`.

use outbox::specification::{self, Drift, Specification};
use program::answer::print;
use sqlx::PgConnection;

use super::error::{BoxError, Error};
#[cfg(feature = "topics")]
use super::kafka::Kafka;
use super::role::Role;

/// Check the database, and Kafka if its address is known, against what the outbox and its connector need
#[derive(Debug, Clone, clap::Args)]
pub struct CheckOutbox {
    #[cfg(feature = "topics")]
    #[command(flatten)]
    pub(super) kafka: Kafka,
}

impl CheckOutbox {
    /// Checks the database against `specification`, on a connection of the service's role, then the topics.
    ///
    /// # Errors
    /// [`Error::Connect`]; [`Error::Check`] names every difference; [`Error::Output`].
    pub async fn run<E: Into<BoxError>>(
        self,
        specification: &Specification,
        connect: impl AsyncFnOnce(Role) -> Result<PgConnection, E>,
    ) -> Result<(), Error> {
        let mut database = Role::Service.open(connect).await?;
        let drifts = found(specification.check(&mut database).await)?;
        #[cfg(feature = "topics")]
        if let Some(kafka) = self.kafka.client()? {
            let further = found(specification.check_topics(&kafka).await);
            let further = match further {
                // Another check says so, once the database is mended.
                Err(_) if !drifts.is_empty() => Vec::new(),
                further => further?,
            };
            let all = [drifts, further].concat();
            return answer(all, "database and topics are as the outbox needs them");
        }
        answer(drifts, "the database is as the outbox needs it")
    }
}

/// The differences that a check has found.
fn found(checked: Result<(), specification::Error>) -> Result<Vec<Drift>, Error> {
    match checked {
        Ok(()) => Ok(Vec::new()),
        Err(specification::Error::Drifted(drifts)) => Ok(drifts),
        Err(error) => Err(error.into()),
    }
}

/// Prints that all is `well`, unless something differs.
fn answer(drifts: Vec<Drift>, well: &str) -> Result<(), Error> {
    if drifts.is_empty() {
        Ok(print(well)?)
    } else {
        Err(specification::Error::Drifted(drifts).into())
    }
}
