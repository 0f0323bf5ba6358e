//! InitProducerId (key 22): an id for an idempotent producer. Transactions are not there yet.

use super::Handlers;
use super::errors::channel_code;
use rookery_protocol::error::ErrorCode;
use rookery_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

pub async fn handle(handlers: &Handlers, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let refused = |error: ErrorCode| InitProducerIdResponse {
        error_code: error.code(),
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    match request.transactional_id {
        None => {}
        Some(id) if id.is_empty() => return refused(ErrorCode::InvalidRequest),
        // FindCoordinator refuses first, with a message; this is the one code at which every client gives up.
        Some(_) => return refused(ErrorCode::TransactionalIdAuthorizationFailed),
    }
    match handlers.broker.next_producer_id().await {
        Ok(producer_id) => InitProducerIdResponse { producer_id, producer_epoch: 0, ..Default::default() },
        Err(error) => {
            tracing::debug!(%error, "no producer id");
            match channel_code(&error) {
                // Producers know this one and ask again.
                ErrorCode::RequestTimedOut => refused(ErrorCode::CoordinatorLoadInProgress),
                code => refused(code),
            }
        }
    }
}
