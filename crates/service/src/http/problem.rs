//! The body of every answer that is an error.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// An error as a client sees it: `{"error": "…", "fields": {"name": "what is wrong"}}`.
#[derive(Debug, Serialize)]
pub struct Problem {
    #[serde(skip)]
    status: StatusCode,
    error: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    fields: BTreeMap<&'static str, String>,
}

impl Problem {
    /// An error without fields.
    #[must_use]
    pub fn new(status: StatusCode, error: &'static str) -> Self {
        Self {
            status,
            error,
            fields: BTreeMap::new(),
        }
    }

    /// Names what is wrong with which field; the empty name is the body itself.
    #[must_use]
    pub fn with_fields(self, fields: BTreeMap<&'static str, String>) -> Self {
        Self { fields, ..self }
    }

    /// 503 for what the service depends on; the cause goes to the log, not to the client.
    #[must_use]
    pub fn unavailable(cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = cause, "request failed");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not available; try again")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(self)).into_response()
    }
}
