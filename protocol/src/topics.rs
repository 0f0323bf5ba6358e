//! Names of topics: which are legal, and which are the cluster's own.

/// Holds committed offsets and group metadata.
pub const GROUP_METADATA_TOPIC: &str = "__consumer_offsets";

/// Whether a topic is one of the cluster's own.
pub fn is_internal(topic: &str) -> bool {
    matches!(topic, GROUP_METADATA_TOPIC | "__transaction_state" | "__share_group_state")
}

/// Kafka's rule: 1 to 249 characters out of letters, digits, `.`, `_`, `-`; not `.` or `..`.
pub fn is_legal_topic_name(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    !matches!(name, "" | "." | "..") && name.len() <= 249 && name.bytes().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_follow_kafkas_rule() {
        for legal in ["a", "A.b_c-9", "...", &"x".repeat(249)] {
            assert!(is_legal_topic_name(legal), "{legal}");
        }
        for illegal in ["", ".", "..", "a b", "ä", "a/b", &"x".repeat(250)] {
            assert!(!is_legal_topic_name(illegal), "{illegal}");
        }
    }
}
