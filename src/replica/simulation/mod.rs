//! planted
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    SkipBrokerEpochCheck,
    CountUnsynced,
    HighWatermarkBelowMinIsr,
    LeadAgainAfterLostTail,
    AckBeforeFsync,
    SkipLeaderEpochCheck,
    SkipTruncation,
}
