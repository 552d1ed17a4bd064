//! Requests in progress at the same time: bounded. The server answers 503 to one more at once.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use super::connections::Place;
use super::problem::Problem;

/// The routes of a monitoring system: unanswered under load, they would report a failure.
const MONITORING: [&str; 2] = ["/health/", "/metrics"];

/// Passes the request on if a permit is free. Its body is read before: a slow client takes no permit.
pub(super) async fn bounded(
    State(permits): State<Arc<Semaphore>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    if MONITORING.iter().any(|prefix| path.starts_with(prefix)) {
        // Its connection is not idle meanwhile, and need not give way.
        let place = request.extensions().get::<Arc<Place>>().cloned();
        let _working = place.as_ref().map(Place::work);
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let mut unread = Request::new(body);
    // Among them is the limit of the body.
    unread.extensions_mut().clone_from(&parts.extensions);
    let body = match Bytes::from_request(unread, &()).await {
        Ok(body) => body,
        Err(refused) => return refused.into_response(),
    };
    let place = parts.extensions.get::<Arc<Place>>().cloned();
    let working = place.as_ref().map(Place::work);
    let (Ok(_permit), None | Some(Some(_))) = (permits.try_acquire(), &working) else {
        return busy();
    };
    next.run(Request::from_parts(parts, Body::from(body))).await
}

fn busy() -> Response {
    let why = "too many requests are in progress; try again";
    let mut answer = Problem::new(StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    let headers = answer.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}
