//! Metrics: `GET /metrics`, in Prometheus' text format.

use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::get;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

/// Upper bounds of histograms of time, in seconds: a lone event takes milliseconds, a retry seconds.
const SECONDS: [f64; 14] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0,
];
/// Upper bounds of histograms of numbers of messages.
const MESSAGES: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];
/// How often histograms are drained: unread, they would grow without bound.
const UPKEEP: Duration = Duration::from_secs(5);

/// Another recorder collects the metrics.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot collect the metrics of /metrics: this process has a recorder already; collect them once"
)]
pub struct Error(#[from] BuildError);

/// The metrics of this process.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Collects metrics from now on, until `shutdown` is cancelled. Call it once, within the runtime.
    ///
    /// # Errors
    /// [`Error`].
    pub fn collect(shutdown: CancellationToken) -> Result<Self, Error> {
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
            .set_buckets_for_metric(Matcher::Suffix("_messages".to_owned()), &MESSAGES)?
            .install_recorder()?;
        let drained = handle.clone();
        tokio::spawn(shutdown.run_until_cancelled_owned(async move {
            loop {
                tokio::time::sleep(UPKEEP).await;
                drained.run_upkeep();
            }
        }));
        Ok(Self(handle))
    }

    /// The route.
    pub fn router(self) -> Router {
        let text = "text/plain; version=0.0.4; charset=utf-8";
        Router::new().route(
            "/metrics",
            get(async move || ([(header::CONTENT_TYPE, text)], self.0.render())),
        )
    }
}

/// Counts and times a request by its route: paths as clients write them would be labels without bound.
pub(crate) async fn track(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("none", MatchedPath::as_str).to_owned();
    let method = match request.method().as_str() {
        known @ ("GET" | "HEAD" | "POST") => known.to_owned(),
        _ => "other".to_owned(),
    };
    let began = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    metrics::histogram!("http_request_seconds", "route" => route.clone()).record(began.elapsed());
    metrics::counter!("http_requests_total", "route" => route, "method" => method, "status" => status).increment(1);
    response
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn requests_are_counted_by_their_route() {
        let metrics = Metrics::collect(CancellationToken::new()).unwrap();
        let app = Router::new()
            .route("/tracked/{id}", get(async || "found"))
            .merge(metrics.router())
            .layer(axum::middleware::from_fn(track));
        let ask = async |path: &str| {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let answer = app.clone().oneshot(request).await.unwrap();
            let body = to_bytes(answer.into_body(), 100_000).await.unwrap();
            String::from_utf8(body.to_vec()).unwrap()
        };
        ask("/tracked/1").await;
        ask("/tracked/2").await;
        ask("/nowhere").await;
        let text = ask("/metrics").await;
        let counted = |line: &str| assert!(text.contains(line), "{line}\n{text}");
        counted("http_requests_total{route=\"/tracked/{id}\",method=\"GET\",status=\"200\"} 2");
        // Other tests of this process ask for what is not there too.
        counted("http_requests_total{route=\"none\",method=\"GET\",status=\"404\"} ");
        counted("http_request_seconds_bucket{route=\"/tracked/{id}\",le=\"30\"} 2");
    }
}
