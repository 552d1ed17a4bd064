//! The body of every answer that is an error.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
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

/// Gives an error that no handler answered – a limit, a time-out, a panic – a body of the same form.
pub(super) async fn complete(response: Response) -> Response {
    let json = HeaderValue::from_static("application/json");
    let status = response.status();
    let ours = response.headers().get(header::CONTENT_TYPE) == Some(&json);
    if ours || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (mut parts, _) = response.into_parts();
    let error = status.canonical_reason().unwrap_or("error");
    let (body_parts, body) = Problem::new(status, error).into_response().into_parts();
    // Other headers are kept, such as the methods that a 405 allows.
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.extend(body_parts.headers);
    Response::from_parts(parts, body)
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(self)).into_response()
    }
}
