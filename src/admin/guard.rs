//! Keeps web pages from changing a cluster that listens on their reader's loopback.

use super::Problem;
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Requests that change anything must be JSON and must not come from a foreign page.
pub async fn check_change(request: Request, next: Next) -> Response {
    match refusal(&request) {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    }
}

fn refusal(request: &Request) -> Option<Problem> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    let text = |name| request.headers().get(name).and_then(|v| v.to_str().ok());
    let kind = text(header::CONTENT_TYPE).and_then(|v| v.split(';').next()).map(str::trim);
    if !kind.is_some_and(|k| k.eq_ignore_ascii_case("application/json")) {
        let detail = "a request that changes anything needs content-type: application/json";
        return Some(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let foreign = text(header::ORIGIN).is_some_and(|o| o.split_once("://").map(|(_, h)| h) != text(header::HOST));
    foreign.then(|| Problem::new(StatusCode::FORBIDDEN, "the Origin of the request is not this node"))
}
