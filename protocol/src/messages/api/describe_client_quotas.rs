//! DescribeClientQuotas, API key 48.

use smol_str::SmolStr;

api! {
    DescribeClientQuotas: versions 0..=1, flexible 1;

    request DescribeClientQuotasRequest {
        components: Vec<ComponentData>,
        strict: bool,
    }
    struct ComponentData {
        entity_type: SmolStr,
        match_type: i8,
        r#match: Option<SmolStr> = Some("".into()),
    }

    response DescribeClientQuotasResponse {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<SmolStr> = Some("".into()),
        entries: Option<Vec<EntryData>> = Some(vec![]),
    }
    struct EntryData {
        entity: Vec<EntityData>,
        values: Vec<ValueData>,
    }
    struct EntityData {
        entity_type: SmolStr,
        entity_name: Option<SmolStr> = Some("".into()),
    }
    struct ValueData {
        key: SmolStr,
        value: f64,
    }
}
