//! Errors as problem documents (RFC 9457).

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use rookery_protocol::error::ErrorCode;
use serde::Serialize;

/// What went wrong, as `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The HTTP status, again.
    pub status: u16,
    /// The status in words.
    pub title: String,
    /// What happened, to what, and what to do.
    pub detail: String,
    /// Kafka's name of the error where there is one, such as `NOT_CONTROLLER`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka_error: Option<&'static str>,
}

impl Problem {
    /// A problem with a status and an explanation.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error").to_owned();
        Self { status: status.as_u16(), title, detail: detail.into(), kafka_error: None }
    }

    /// Kafka has a name for it.
    #[must_use]
    pub fn kafka(mut self, error: ErrorCode) -> Self {
        self.kafka_error = Some(error.name());
        self
    }

    /// 404: what was named does not exist.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 503: it cannot be done now; try again.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// 409: the cluster is not in a state in which it can be done.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).expect("a problem holds only text and numbers");
        (status, [("content-type", "application/problem+json")], body).into_response()
    }
}
