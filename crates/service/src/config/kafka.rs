//! The section `kafka`: the listener's own settings.

use outbox::listener::Config;

use super::file::Files;
use super::problem::Problem;

/// Checks a listener's settings, without connecting anywhere.
///
/// # Errors
/// [`Problem::Kafka`].
pub fn check(kafka: &Config, files: Files) -> Result<(), Problem> {
    match files {
        Files::Here => kafka.check()?,
        Files::Elsewhere => kafka.check_without_files()?,
    }
    Ok(())
}
