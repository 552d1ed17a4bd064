//! Structured logs.

use crate::config::{BadFilter, Log, LogFormat};

/// Logs to standard error from now on. Call it once.
///
/// # Errors
/// [`BadFilter`].
pub fn init(log: &Log) -> Result<(), BadFilter> {
    let filter = log.levels()?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => lines.with_ansi(false).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}
