//! `GET /health/live` and `GET /health/ready`.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router, extract};
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// How long one check may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// The state of a part of the service.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    state: State,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<String>,
    #[serde(flatten)]
    facts: Map<String, Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warning,
    Failing,
}

impl Report {
    /// It works.
    #[must_use]
    pub fn ok() -> Self {
        Self::warnings([])
    }

    /// It works, with warnings for an operator; [`ok`](Self::ok) without any.
    #[must_use]
    pub fn warnings(details: impl IntoIterator<Item = String>) -> Self {
        let details: Vec<String> = details.into_iter().collect();
        let state = if details.is_empty() {
            State::Ok
        } else {
            State::Warning
        };
        let facts = Map::new();
        Self {
            state,
            details,
            facts,
        }
    }

    /// It does not work; the service is not ready.
    #[must_use]
    pub fn failing(detail: impl Into<String>) -> Self {
        Self {
            state: State::Failing,
            details: vec![detail.into()],
            facts: Map::new(),
        }
    }

    /// Adds facts: the fields of a struct or a map.
    #[must_use]
    pub fn with_facts(mut self, facts: &impl Serialize) -> Self {
        match serde_json::to_value(facts) {
            Ok(Value::Object(facts)) => self.facts.extend(facts),
            Ok(other) => drop(self.facts.insert("fact".to_owned(), other)),
            Err(error) => drop(
                self.facts
                    .insert("fact".to_owned(), error.to_string().into()),
            ),
        }
        self
    }
}

/// The failure of a check that takes longer than [`CHECK_TIMEOUT`].
const TOO_SLOW: &str =
    "the check did not end within 2 s; look at the load of the machine and its database";

type Check = Arc<dyn Fn() -> BoxFuture<'static, Report> + Send + Sync>;

/// The named checks that make a service ready.
#[derive(Clone, Default)]
pub struct Health {
    checks: Vec<(&'static str, Check)>,
}

impl Health {
    /// Adds a check. One that takes longer than two seconds fails.
    #[must_use]
    pub fn with<F>(
        mut self,
        name: &'static str,
        check: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Report> + Send + 'static,
    {
        self.checks.push((name, Arc::new(move || check().boxed())));
        self
    }

    async fn reports(&self) -> Vec<(&'static str, Report)> {
        let reports = self.checks.iter().map(async |(name, check)| {
            let report = tokio::time::timeout(CHECK_TIMEOUT, check()).await;
            (*name, report.unwrap_or_else(|_| Report::failing(TOO_SLOW)))
        });
        join_all(reports).await
    }

    /// The checks that fail, each with its details; none when the service is ready.
    pub(crate) async fn failures(&self) -> Vec<String> {
        let reports = self.reports().await.into_iter();
        reports
            .filter(|(_, report)| report.state == State::Failing)
            .map(|(name, report)| format!("{name}: {}", report.details.join(", ")))
            .collect()
    }

    /// The two routes.
    pub fn router(self) -> Router {
        Router::new()
            .route(
                "/health/live",
                get(async || Json(json!({ "state": "live" }))),
            )
            .route("/health/ready", get(ready))
            .with_state(self)
    }
}

async fn ready(extract::State(health): extract::State<Health>) -> (StatusCode, Json<Value>) {
    let reports = health.reports().await;
    let ready = !reports
        .iter()
        .any(|(_, report)| report.state == State::Failing);
    let checks: Map<String, Value> = reports
        .into_iter()
        .map(|(name, report)| (name.to_owned(), json!(report)))
        .collect();
    let (status, state) = if ready {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unready")
    };
    (status, Json(json!({ "state": state, "checks": checks })))
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn get(health: Health) -> (StatusCode, Value) {
        let request = Request::get("/health/ready").body(Body::empty()).unwrap();
        let answer = health.router().oneshot(request).await.unwrap();
        let status = answer.status();
        let body = to_bytes(answer.into_body(), 10_000).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_warning_is_shown_and_leaves_the_service_ready() {
        let health = Health::default()
            .with("kafka", async || {
                Report::warnings(["away".to_owned()]).with_facts(&json!({ "lag": 3 }))
            })
            .with("database", async || Report::ok());
        let (status, body) = get(health).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(
            body["checks"]["kafka"],
            json!({ "state": "warning", "details": ["away"], "lag": 3 })
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_fails_or_hangs_makes_the_service_unready() {
        let failing = Health::default().with("database", async || Report::failing("gone"));
        assert_eq!(get(failing).await.0, StatusCode::SERVICE_UNAVAILABLE);
        let hanging = Health::default().with("database", std::future::pending::<Report>);
        assert_eq!(get(hanging).await.0, StatusCode::SERVICE_UNAVAILABLE);
    }
}
