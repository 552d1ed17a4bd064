//! A setting that cannot work.

use std::path::PathBuf;

use tracing_subscriber::filter::ParseError;

/// A setting that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Its file is missing or unreadable.
    #[error(
        "cannot read the file {path} of the setting {setting}: check the path and the file's permissions"
    )]
    Unreadable {
        /// The setting.
        setting: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its file holds something else.
    #[error("the setting {setting} names the file {path}, which holds no {what}")]
    Lacks {
        /// The setting.
        setting: String,
        /// The file.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
    },
    /// The outbox cannot be as the settings want it.
    #[cfg(feature = "keeper")]
    #[error("the settings of the outbox contradict PostgreSQL, Kafka or Kafka Connect: {0}")]
    Outbox(#[from] outbox::specification::Invalid),
    /// It contradicts another one.
    #[error("the setting {setting} {why}")]
    Contradiction {
        /// The setting.
        setting: &'static str,
        /// What is wrong, and what to do.
        why: &'static str,
    },
    /// The log's levels do not parse.
    #[error(transparent)]
    Filter(#[from] BadFilter),
    /// The section of the listener.
    #[cfg(feature = "listener")]
    #[error("the section kafka has a wrong setting: {0}")]
    Kafka(#[from] outbox::listener::Error),
}

/// The setting `log.filter` does not parse.
#[derive(Debug, thiserror::Error)]
#[error("the setting log.filter is {filter:?}, which holds no levels such as `info,sqlx=warn`")]
pub struct BadFilter {
    pub(super) filter: String,
    pub(super) source: ParseError,
}
