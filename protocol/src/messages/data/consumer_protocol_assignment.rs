//! `ConsumerProtocolAssignment`.

use bytes::Bytes;
use smol_str::SmolStr;

data! {
    versions 0..=3, flexible never;

    value ConsumerProtocolAssignment {
        assigned_partitions: Vec<TopicPartition>,
        user_data: Option<Bytes>,
    }
    struct TopicPartition {
        topic: SmolStr,
        partitions: Vec<i32>,
    }
}
