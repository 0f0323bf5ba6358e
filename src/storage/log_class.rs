//! Which logs share a column family: those whose data dies at about the same time.
//!
//! Space comes back when every value of a blob file is dead. One log kept for ever among logs kept for a day pins every
//! file both wrote to, without bound (measured). So logs are grouped by how long they live: duration buckets, each four
//! times the last, so that within one class the longest-lived is at most four times the shortest-lived.

/// A retention class; each has a column family of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum LogClass {
    /// Kept up to one hour.
    Hours1 = 1,
    /// Up to 4 hours.
    Hours4 = 2,
    /// Up to 16 hours.
    Hours16 = 3,
    /// Up to 64 hours.
    Hours64 = 4,
    /// Up to 256 hours (10.6 days): Kafka's default of seven days is here.
    Hours256 = 5,
    /// Up to 1,024 hours (42 days).
    Hours1024 = 6,
    /// Longer, but not for ever.
    Longer = 7,
    /// Bounded by size alone.
    SizeOnly = 16,
    /// Never deleted.
    Infinite = 17,
    /// Compacted: shortened by key, never by age.
    Compacted = 18,
}

const HOUR_MS: i64 = 3_600_000;

impl LogClass {
    /// Every class.
    pub const ALL: [LogClass; 10] = [
        Self::Hours1,
        Self::Hours4,
        Self::Hours16,
        Self::Hours64,
        Self::Hours256,
        Self::Hours1024,
        Self::Longer,
        Self::SizeOnly,
        Self::Infinite,
        Self::Compacted,
    ];

    /// The class of a topic's settings: whether `cleanup.policy` is compact alone, `retention.ms`, `retention.bytes` (−1:
    /// none).
    pub fn of(compacted: bool, retention_ms: i64, retention_bytes: i64) -> Self {
        if compacted {
            return Self::Compacted;
        }
        if retention_ms < 0 {
            return if retention_bytes < 0 { Self::Infinite } else { Self::SizeOnly };
        }
        let buckets = [Self::Hours1, Self::Hours4, Self::Hours16, Self::Hours64, Self::Hours256, Self::Hours1024];
        let hours = [1, 4, 16, 64, 256, 1024];
        hours.iter().position(|h| retention_ms <= h * HOUR_MS).map_or(Self::Longer, |i| buckets[i])
    }

    /// The class with this number in a stored extent.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|class| *class as u8 == number)
    }

    /// The name of the column family. Part of the disk format.
    pub fn column_family(self) -> &'static str {
        match self {
            Self::Hours1 => "log.1h",
            Self::Hours4 => "log.4h",
            Self::Hours16 => "log.16h",
            Self::Hours64 => "log.64h",
            Self::Hours256 => "log.256h",
            Self::Hours1024 => "log.1024h",
            Self::Longer => "log.longer",
            Self::SizeOnly => "log.size",
            Self::Infinite => "log.infinite",
            Self::Compacted => "log.compacted",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_choose_the_class() {
        assert_eq!(LogClass::of(false, 7 * 24 * HOUR_MS, -1), LogClass::Hours256);
        assert_eq!(LogClass::of(false, HOUR_MS, 1 << 30), LogClass::Hours1);
        assert_eq!(LogClass::of(false, HOUR_MS + 1, -1), LogClass::Hours4);
        assert_eq!(LogClass::of(false, i64::MAX, -1), LogClass::Longer);
        assert_eq!(LogClass::of(false, -1, 1 << 30), LogClass::SizeOnly);
        assert_eq!(LogClass::of(false, -1, -1), LogClass::Infinite);
        assert_eq!(LogClass::of(true, HOUR_MS, -1), LogClass::Compacted);
    }

    #[test]
    fn numbers_and_names_are_unambiguous() {
        for class in LogClass::ALL {
            assert_eq!(LogClass::from_number(class as u8), Some(class));
            assert_eq!(LogClass::ALL.iter().filter(|c| c.column_family() == class.column_family()).count(), 1);
        }
    }
}
