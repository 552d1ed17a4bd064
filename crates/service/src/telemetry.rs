//! Structured logs.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::{Log, LogFormat};

/// The setting `log.filter` is no list of levels.
#[derive(Debug, thiserror::Error)]
#[error("the setting log.filter is {filter:?}, but must be levels as in `info,sqlx=warn`")]
pub struct BadFilter {
    filter: String,
    source: ParseError,
}

/// Logs to standard error from now on. Call it once.
///
/// # Errors
/// [`BadFilter`].
pub fn init(log: &Log) -> Result<(), BadFilter> {
    let filter = filter(log)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => lines.with_ansi(false).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}

pub(crate) fn filter(log: &Log) -> Result<EnvFilter, BadFilter> {
    EnvFilter::try_new(&log.filter).map_err(|source| BadFilter {
        filter: log.filter.clone(),
        source,
    })
}
