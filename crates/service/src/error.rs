//! Why a service ends other than by its shutdown.

use crate::{database, http, metrics};

/// A service that cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection to the database.
    #[error(transparent)]
    Database(#[from] database::Error),
    /// The port is not free.
    #[error(transparent)]
    Bind(#[from] http::BindError),
    /// Another recorder collects the metrics.
    #[error(transparent)]
    Metrics(#[from] metrics::Error),
    /// The outbox cannot be as the settings want it.
    #[cfg(feature = "keeper")]
    #[error(transparent)]
    Outbox(#[from] outbox::specification::Invalid),
    /// The listener cannot start or go on.
    #[cfg(feature = "listener")]
    #[error(transparent)]
    Listener(#[from] outbox::listener::Error),
}
