//! Requests at work at the same time: bounded, and one more is told at once to come again.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use super::Problem;
use super::connections::Place;

/// What watches the service: it must be answered under load too, or the load would seem to be a failure.
const WATCHING: [&str; 2] = ["/health/", "/metrics"];

/// Lets the request do its work if there is room for it, its body read before: room is for work, not for waiting on a
/// slow client.
pub(super) async fn bounded(
    State(room): State<Arc<Semaphore>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    if WATCHING.iter().any(|watching| path.starts_with(watching)) {
        // Its connection does not wait meanwhile, and need not give way.
        let place = request.extensions().get::<Arc<Place>>().cloned();
        let _working = place.as_ref().map(Place::work);
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let mut unread = Request::new(body);
    // The limit of the body is among them.
    unread.extensions_mut().clone_from(&parts.extensions);
    let body = match Bytes::from_request(unread, &()).await {
        Ok(body) => body,
        Err(refused) => return refused.into_response(),
    };
    let place = parts.extensions.get::<Arc<Place>>().cloned();
    let working = place.as_ref().map(Place::work);
    let (Ok(_room), None | Some(Some(_))) = (room.try_acquire(), &working) else {
        return busy();
    };
    next.run(Request::from_parts(parts, Body::from(body))).await
}

fn busy() -> Response {
    let why = "too many requests are at work; try again";
    let mut answer = Problem::new(StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    let headers = answer.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}
