//! What the group handlers share: text between the wire's form and the coordinator's.

use crate::coordinator::CoordinatorError;
use crate::net::ConnectionInfo;
use rookery_protocol::codec::SmolStr;
use rookery_protocol::error::ErrorCode;
use std::sync::Arc;

/// From the wire.
pub fn shared(text: &SmolStr) -> Arc<str> {
    text.as_str().into()
}

/// From the wire, where it may be missing.
pub fn shared_option(text: Option<&SmolStr>) -> Option<Arc<str>> {
    text.map(shared)
}

/// To the wire.
pub fn text(text: &Arc<str>) -> SmolStr {
    SmolStr::new(text)
}

/// To the wire, where it may be missing.
pub fn text_option(option: Option<&Arc<str>>) -> Option<SmolStr> {
    option.map(text)
}

/// A client's host as Kafka prints it.
pub fn client_host(connection: &ConnectionInfo) -> Arc<str> {
    format!("/{}", connection.peer.ip()).into()
}

/// A coordinator's refusal as the wire says it.
pub fn code_of(error: CoordinatorError) -> i16 {
    ErrorCode::from(error).code()
}
