//! AlterClientQuotas, API key 49.

use smol_str::SmolStr;

api! {
    AlterClientQuotas: versions 0..=1, flexible 1;

    request AlterClientQuotasRequest {
        entries: Vec<RequestEntryData>,
        validate_only: bool,
    }
    struct RequestEntryData {
        entity: Vec<EntityData>,
        ops: Vec<OpData>,
    }
    struct EntityData {
        entity_type: SmolStr,
        entity_name: Option<SmolStr> = Some("".into()),
    }
    struct OpData {
        key: SmolStr,
        value: f64,
        remove: bool,
    }

    response AlterClientQuotasResponse {
        throttle_time_ms: i32,
        entries: Vec<ResponseEntryData>,
    }
    struct ResponseEntryData {
        error_code: i16,
        error_message: Option<SmolStr> = Some("".into()),
        entity: Vec<EntityData>,
    }
}
