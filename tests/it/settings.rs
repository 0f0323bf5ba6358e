//! Settings that are defaults of topics' configs: a node's own, and those that the cluster decides. Configs change while
//! it runs.

use crate::harness::{Cluster, Role, ask, expected};
use rookery_protocol::messages::describe_configs::{DescribeConfigsResource, DescribeConfigsResourceResult};
use rookery_protocol::messages::incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
use rookery_protocol::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};

pub const TOPIC: i8 = 2;
const BROKER: i8 = 4;
// Kafka's `ConfigSource`.
const OF_TOPIC: i8 = 1;
const OF_CLUSTER: i8 = 3;
const OF_SETTINGS: i8 = 4;
const DEFAULT: i8 = 5;

/// Sets one config, and what the broker answered.
pub fn alter(port: u16, resource: (i8, &str), name: &str, value: &str) -> (i16, Option<String>) {
    let config = AlterableConfig { name: name.into(), config_operation: 0, value: Some(value.into()) };
    let resources = vec![AlterConfigsResource {
        resource_type: resource.0,
        resource_name: resource.1.into(),
        configs: vec![config],
    }];
    let answer = ask(port, 1, &IncrementalAlterConfigsRequest { resources, validate_only: false });
    let first = &answer.responses[0];
    (first.error_code, first.error_message.as_ref().map(ToString::to_string))
}

/// The value and the source of one config.
fn described(port: u16, resource: (i8, &str), name: &str) -> (String, i8) {
    let resource = DescribeConfigsResource {
        resource_type: resource.0,
        resource_name: resource.1.into(),
        configuration_keys: Some(vec![name.into()]),
    };
    let request = DescribeConfigsRequest { resources: vec![resource], include_synonyms: true, ..Default::default() };
    let answer = ask(port, 4, &request);
    assert_eq!(answer.results[0].error_code, 0, "{:?}", answer.results[0].error_message);
    let config: &DescribeConfigsResourceResult = &answer.results[0].configs[0];
    assert_eq!(config.synonyms[0].source, config.config_source);
    (config.value.as_ref().unwrap().to_string(), config.config_source)
}

#[test]
fn settings_of_a_node_are_the_defaults_of_its_topics() {
    let mut cluster = Cluster::planned(&[Role::Both]);
    let set = ["--set", "message.max.bytes=3000", "--set", "log.retention.hours=1", "--set", "min.insync.replicas=1"];
    cluster.launch_with(0, &set);
    cluster.wait_ready(0);
    cluster.rookery(&["topic", "create", "t"], "");
    let port = cluster.nodes[0].kafka;
    assert_eq!(described(port, (TOPIC, "t"), "max.message.bytes"), ("3000".into(), OF_SETTINGS));
    assert_eq!(described(port, (TOPIC, "t"), "retention.ms"), ("3600000".into(), OF_SETTINGS));
    assert_eq!(described(port, (TOPIC, "t"), "min.insync.replicas"), ("1".into(), OF_CLUSTER));
    assert_eq!(described(port, (TOPIC, "t"), "segment.bytes"), ("1073741824".into(), DEFAULT));
    assert_eq!(described(port, (BROKER, "1"), "message.max.bytes"), ("3000".into(), OF_SETTINGS));
    assert_eq!(described(port, (BROKER, "1"), "min.insync.replicas"), ("1".into(), OF_CLUSTER));

    let large = format!("{}\n", "x".repeat(5000));
    let produce = |cluster: &Cluster| cluster.rookery_fallible(&["produce", "t"], &large);
    let refused = produce(&cluster);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("MESSAGE_TOO_LARGE"));
    assert_eq!(alter(port, (TOPIC, "t"), "max.message.bytes", "6000"), (0, None));
    assert_eq!(described(port, (TOPIC, "t"), "max.message.bytes"), ("6000".into(), OF_TOPIC));
    assert!(produce(&cluster).status.success(), "without a restart");

    let (code, why) = alter(port, (TOPIC, "t"), "max.message.bytes", "many");
    assert!(code == 40 && why.as_ref().is_some_and(|w| w.contains("max.message.bytes")), "{code}: {why:?}");
    assert_eq!(alter(port, (TOPIC, "not-there"), "retention.ms", "1").0, 3);
    assert_eq!(alter(port, (BROKER, "1"), "min.insync.replicas", "1").0, 40, "the cluster decides");
}

#[test]
fn what_the_cluster_decides_is_taken_from_its_formation_and_changed_for_all() {
    let mut cluster = Cluster::planned(&[Role::Both; 3]);
    (0..3).for_each(|i| cluster.launch_with(i, &["--set", "min.insync.replicas=3"]));
    (0..3).for_each(|i| cluster.wait_ready(i));
    cluster.rookery(&["topic", "create", "t"], "");
    cluster.produce("t", 0..10);
    cluster.kill(2);
    let under = |cluster: &Cluster| cluster.view(0).and_then(|view| view["partitions"]["under_min_isr"].as_u64());
    cluster.until("the topic to lack a replica", || (under(&cluster) == Some(1)).then_some(()));
    let port = cluster.nodes[1].kafka;
    assert_eq!(alter(port, (BROKER, ""), "min.insync.replicas", "2"), (0, None));
    cluster.until("two to be enough", || (under(&cluster) == Some(0)).then_some(()));
    cluster.produce("t", 10..20);
    assert_eq!(cluster.consume("t"), expected(20));
    // A node that is told otherwise later says that it makes no difference.
    cluster.launch_with(2, &["--set", "min.insync.replicas=1"]);
    cluster.wait_ready(2);
    let log = std::fs::read_to_string(cluster.log(2)).unwrap();
    assert!(log.contains("min.insync.replicas = 1 in the settings of node 3 has no effect"), "{log}");
    assert_eq!(described(cluster.nodes[2].kafka, (TOPIC, "t"), "min.insync.replicas"), ("2".into(), OF_CLUSTER));
}
