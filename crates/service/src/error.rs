//! Why a service ends other than by its shutdown.

use crate::{database, http, metrics};

/// A service that cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] database::Error),
    /// The port cannot be used.
    #[error(transparent)]
    Bind(#[from] http::BindError),
    /// The metrics cannot be collected.
    #[error(transparent)]
    Metrics(#[from] metrics::Error),
    /// The listener cannot start or go on.
    #[cfg(feature = "listener")]
    #[error(transparent)]
    Listener(#[from] outbox::listener::Error),
}
