//! `ConsumerProtocolSubscription`.

use bytes::Bytes;
use smol_str::SmolStr;

data! {
    versions 0..=3, flexible never;

    value ConsumerProtocolSubscription {
        topics: Vec<SmolStr>,
        user_data: Option<Bytes>,
        owned_partitions: Vec<TopicPartition> [from(1).ignorable()],
        generation_id: i32 [from(2).ignorable()] = -1,
        rack_id: Option<SmolStr> [from(3).ignorable()],
    }
    struct TopicPartition {
        topic: SmolStr,
        partitions: Vec<i32>,
    }
}
