//! The section `log`.

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use super::problem::{BadFilter, Problem};

/// Levels and form of the log, to standard error.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Levels, as in `info,sqlx=warn`.
    pub filter: String,
    /// The lines' form.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

/// The form of a log's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines of text.
    Text,
    /// One JSON object a line.
    Json,
}

impl Log {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`Problem::Filter`].
    pub fn check(&self) -> Result<(), Problem> {
        self.levels()?;
        Ok(())
    }

    /// The levels of `filter`.
    pub(crate) fn levels(&self) -> Result<EnvFilter, BadFilter> {
        EnvFilter::try_new(&self.filter).map_err(|source| BadFilter {
            filter: self.filter.clone(),
            source,
        })
    }
}
