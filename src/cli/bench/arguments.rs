//! What can be asked for.

use super::payload::{STAMP_BYTES, Shape};
use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use rookery_protocol::compression::Compression;
use std::time::Duration;

/// A run without an end of its own.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);

/// Where to, and how to tell of it.
#[derive(Args, Clone, Debug)]
pub struct CommonArguments {
    #[command(flatten)]
    pub cluster: super::super::ClusterAddress,
    /// The topic
    #[arg(long, default_value = "rookery-bench", value_name = "NAME")]
    pub topic: String,
    /// Connections to each broker; partitions are spread over them
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub connections: u16,
    /// Threads of this tool
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: u16,
    /// How the results are printed: a table, or one line of JSON with everything
    #[arg(long, default_value = "table", value_name = "FORMAT")]
    pub output: Output,
    /// No progress bar
    #[arg(long)]
    pub quiet: bool,
    /// Process ids of the brokers, if they run on this machine: their CPU time, memory and bytes written are measured too
    #[arg(long, value_delimiter = ',', value_name = "PID,...")]
    pub broker_pids: Vec<u32>,
    /// A request that is not answered within this time is given up, and sent again
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = duration)]
    pub request_timeout: Duration,
    /// End in failure when there was no progress for so long
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = duration)]
    pub patience: Duration,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
}

/// What to write, and how.
#[derive(Args, Clone, Debug)]
pub struct LoadArguments {
    /// Partitions of the topic if it has to be created [default: 12]; it is an error if it has others
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pub partitions: Option<i32>,
    /// Replicas of each partition if the topic has to be created
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub replication_factor: i16,
    /// Kafka's topic configs if the topic has to be created, any number of times
    #[arg(long = "config", value_name = "NAME=VALUE")]
    pub configs: Vec<String>,
    /// Records to write after the warm-up
    #[arg(long, value_name = "N")]
    pub records: Option<u64>,
    /// Time to write for after the warm-up [default: 10s, if --records is not given]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Time to write for before anything is measured
    #[arg(long, default_value = "0s", value_name = "TIME", value_parser = duration)]
    pub warm_up: Duration,
    /// Open loop: records a second, due at even distances. A record's latency counts from when it was due, so that a stall counts for
    /// all that were due meanwhile. Without it: closed loop, as fast as --in-flight lets it
    #[arg(long, value_name = "RECORDS", value_parser = rate)]
    pub rate: Option<f64>,
    /// Records that may be written and not yet acknowledged, or bytes of them with a unit, such as 4MiB
    #[arg(long, default_value = "16MiB", value_name = "RECORDS|BYTES", value_parser = in_flight)]
    pub in_flight: InFlight,
    /// Bytes of each value
    #[arg(long, default_value = "1024", value_name = "BYTES", value_parser = bytes)]
    pub record_bytes: u64,
    /// Bytes of each key; 0 is no key. Keys do not decide on the partition
    #[arg(long, default_value = "0", value_name = "BYTES", value_parser = bytes)]
    pub key_bytes: u64,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(long, default_value = "none", value_name = "CODEC", value_parser = codec)]
    pub codec: Compression,
    /// The part of each value that a codec can save, from 0 to 1
    #[arg(long, default_value = "0.5", value_name = "PART", value_parser = part)]
    pub compressibility: f64,
    /// Bytes of a full batch before compression
    #[arg(long, default_value = "64KiB", value_name = "BYTES", value_parser = bytes)]
    pub batch_bytes: u64,
    /// How long a batch that could be sent waits for more records
    #[arg(long, default_value = "0ms", value_name = "TIME", value_parser = duration)]
    pub linger: Duration,
    /// Bytes of a request above which it takes no further batch
    #[arg(long, default_value = "1MiB", value_name = "BYTES", value_parser = bytes)]
    pub request_bytes: u64,
    /// Requests under way on a connection, and batches of a partition
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub requests_in_flight: u16,
    /// Who must have a record before it counts: all in-sync replicas, the leader (1), nobody (0)
    #[arg(long, default_value = "all", value_name = "ACKS", value_parser = acks)]
    pub acks: i16,
    /// Records are there once even if they have to be sent twice [default: true with --acks all, otherwise false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub idempotent: Option<bool>,
    /// Producers, each with connections and a producer id of its own; --rate and --in-flight are of all together
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub producers: u16,
}

/// A bound on what is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFlight {
    Records(u64),
    Bytes(u64),
}

/// Idempotent producers: as many batches are remembered by a broker (KIP-98).
const IDEMPOTENT_IN_FLIGHT_MAX: u16 = 5;

impl LoadArguments {
    /// Records after the warm-up, and the time after it.
    pub fn measured(&self) -> (Option<u64>, Option<Duration>) {
        match (self.records, self.duration) {
            (None, None) => (None, Some(DURATION_DEFAULT)),
            both => both,
        }
    }

    /// Whether producers are idempotent.
    pub fn is_idempotent(&self) -> Result<bool> {
        let idempotent = self.idempotent.unwrap_or(self.acks == -1);
        if idempotent && self.acks != -1 {
            bail!("--idempotent=true needs --acks all");
        }
        if idempotent && self.requests_in_flight > IDEMPOTENT_IN_FLIGHT_MAX {
            bail!(
                "--requests-in-flight {}: brokers remember {IDEMPOTENT_IN_FLIGHT_MAX} batches of an idempotent producer; \
                 more need --idempotent=false",
                self.requests_in_flight
            );
        }
        Ok(idempotent)
    }

    /// What the records look like.
    pub fn shape(&self) -> Result<Shape> {
        if self.record_bytes < STAMP_BYTES as u64 {
            bail!("--record-bytes {}: a value has at least {STAMP_BYTES} bytes", self.record_bytes);
        }
        Ok(Shape {
            value_bytes: usize::try_from(self.record_bytes)?,
            key_bytes: usize::try_from(self.key_bytes)?,
            batch_bytes: usize::try_from(self.batch_bytes)?,
            codec: self.codec,
            compressibility: self.compressibility,
        })
    }

    /// Records that one producer may have under way.
    pub fn in_flight_records(&self) -> u64 {
        let all = match self.in_flight {
            InFlight::Records(records) => records,
            InFlight::Bytes(bytes) => bytes / (self.record_bytes + self.key_bytes),
        };
        (all / u64::from(self.producers)).max(1)
    }
}

/// How to read.
#[derive(Args, Clone, Debug)]
pub struct FetchArguments {
    /// Bytes of an answer
    #[arg(long, default_value = "16MiB", value_name = "BYTES", value_parser = bytes)]
    pub fetch_bytes: u64,
    /// Bytes of one partition in an answer
    #[arg(long, default_value = "1MiB", value_name = "BYTES", value_parser = bytes)]
    pub partition_bytes: u64,
    /// An answer waits for so many bytes
    #[arg(long, default_value = "1", value_name = "BYTES", value_parser = bytes)]
    pub min_bytes: u64,
    /// but not longer than this
    #[arg(long, default_value = "500ms", value_name = "TIME", value_parser = duration)]
    pub max_wait: Duration,
}

/// The largest size that Kafka's int32 fields take.
const BYTES_MAX: u64 = i32::MAX as u64;

/// `N`, `NKiB`, `NMiB`, `NGiB`, `NkB`, `NMB`, `NGB`.
fn bytes(text: &str) -> Result<u64, String> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let factor = match unit.trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" | "k" | "K" => 1 << 10,
        "MiB" | "m" | "M" => 1 << 20,
        "GiB" | "g" | "G" => 1 << 30,
        _ => return Err("expected bytes, such as 65536, 64KiB or 1MB".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "expected bytes, such as 65536, 64KiB or 1MB".to_owned())?;
    let all = number.checked_mul(factor).filter(|all| *all <= BYTES_MAX);
    all.ok_or_else(|| format!("at most {BYTES_MAX} bytes"))
}

fn in_flight(text: &str) -> Result<InFlight, String> {
    let bound = match text.parse() {
        Ok(records) => InFlight::Records(records),
        Err(_) => InFlight::Bytes(bytes(text)?),
    };
    match bound {
        InFlight::Records(0) | InFlight::Bytes(0) => Err("at least one".to_owned()),
        bound => Ok(bound),
    }
}

/// `Nms`, `Ns`, `Nm`, `Nh`; the number may have decimals.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a time, such as 500ms, 10s, 5m or 1h".to_owned();
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
    let (number, unit) = text.split_at(at);
    let seconds = match unit.trim() {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "expected records a second, such as 1000".to_owned())?;
    if (0.001..=1e9).contains(&rate) { Ok(rate) } else { Err("from 0.001 to 1000000000 records a second".to_owned()) }
}

fn part(text: &str) -> Result<f64, String> {
    let part: Option<f64> = text.parse().ok();
    part.filter(|part| (0.0..=1.0).contains(part)).ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

fn codec(text: &str) -> Result<Compression, String> {
    let found = Compression::ALL.into_iter().find(|codec| codec.name() == text);
    found.ok_or_else(|| format!("expected one of {}", Compression::ALL.map(Compression::name).join(", ")))
}

fn acks(text: &str) -> Result<i16, String> {
    match text {
        "all" | "-1" => Ok(-1),
        "1" => Ok(1),
        "0" => Ok(0),
        _ => Err("expected all, 1 or 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_as_people_write_them() {
        assert_eq!(bytes("100"), Ok(100));
        assert_eq!((bytes("64KiB"), bytes("1MB"), bytes("1 GiB")), (Ok(65_536), Ok(1_000_000), Ok(1 << 30)));
        assert!(bytes("2GiB").is_err() && bytes("1.5MiB").is_err() && bytes("MiB").is_err() && bytes("-1").is_err());
        assert_eq!(in_flight("20000"), Ok(InFlight::Records(20_000)));
        assert_eq!(in_flight("4MiB"), Ok(InFlight::Bytes(4 << 20)));
        assert!(in_flight("0").is_err() && in_flight("0MiB").is_err());
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!((duration("0ms"), duration("2m")), (Ok(Duration::ZERO), Ok(Duration::from_secs(120))));
        assert!(duration("5").is_err() && duration("s").is_err() && duration("1 year").is_err());
    }

    #[test]
    fn rates_parts_codecs_acks() {
        assert!(rate("0").is_err() && rate("nan").is_err() && rate("1000") == Ok(1000.0));
        assert!(part("1.1").is_err() && part("0.25") == Ok(0.25));
        assert!(codec("lz4") == Ok(Compression::Lz4) && codec("brotli").is_err());
        assert!(acks("all") == Ok(-1) && acks("2").is_err());
    }
}
