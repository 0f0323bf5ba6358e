//! Why a consumer group does not go on.

use super::{Scene, Why, partition};
use crate::admin::Problem;
use crate::coordinator::CoordinatorError;
use crate::coordinator::group::{DescribedGroup, partition_of};
use rookery_protocol::topics::GROUP_METADATA_TOPIC;
use rookery_raft::ids::NodeId;

/// What the asked node itself knows of the group, where it coordinates it.
pub struct GroupScene {
    /// The scene around it.
    pub scene: Scene,
    /// The coordinator's answer; `None` on a node that coordinates nothing.
    pub described: Option<DescribedGroup>,
}

/// The leader of the partition a group's state is in: its coordinator. `None` while there is none.
fn coordinator(scene: &Scene, partition: i32) -> Option<NodeId> {
    let topic = scene.image.topics.by_name(GROUP_METADATA_TOPIC)?;
    topic.partition(partition).map(|p| p.leader).filter(|leader| *leader != NodeId::NONE)
}

/// Why a group is as it is.
pub fn group(asked: &GroupScene, id: &str) -> Result<Why, Problem> {
    let scene = &asked.scene;
    let Some(topic) = scene.image.topics.by_name(GROUP_METADATA_TOPIC) else {
        let why = format!(
            "there is no group `{id}`: {GROUP_METADATA_TOPIC} does not exist, because no client has asked for a group"
        );
        return Err(Problem::not_found(why));
    };
    let number = partition_of(id, i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX));
    let place = format!("its state is in {GROUP_METADATA_TOPIC}-{number}");
    let below = partition(scene, GROUP_METADATA_TOPIC, number)?;
    let subject = format!("group {id}");
    let Some(coordinator) = coordinator(scene, number) else {
        let summary = format!("no coordinator: {place}, which has no leader; {}", below.summary);
        return Ok(Why { subject, summary, ..below });
    };
    let described = asked.described.as_ref().filter(|_| coordinator == scene.node);
    let Some(described) = described else {
        let summary = format!(
            "coordinated by broker {coordinator}: {place}; only that node knows its members (ask it with --http); {}",
            below.summary
        );
        return Ok(Why { subject, summary, ..below });
    };
    let (healthy, how, waiting_for) = match (described.error, described.state) {
        (Some(CoordinatorError::GroupIdNotFound), _) | (None, "Dead") => {
            return Err(Problem::not_found(format!(
                "there is no group `{id}`: its coordinator, broker {coordinator}, has none"
            )));
        }
        (Some(CoordinatorError::CoordinatorLoadInProgress), _) => {
            (false, "its coordinator is still reading its state".to_owned(), Some("the coordinator to load".to_owned()))
        }
        (Some(CoordinatorError::NotCoordinator), _) => (
            false,
            "its coordinator has not taken over yet".to_owned(),
            Some("the coordinator to take over".to_owned()),
        ),
        (Some(error), _) => (false, format!("its coordinator says: {error}"), None),
        (None, "PreparingRebalance") => {
            (false, "it rebalances".to_owned(), Some("every member to join again".to_owned()))
        }
        (None, "CompletingRebalance") => {
            (false, "it rebalances".to_owned(), Some("its leading member to assign partitions".to_owned()))
        }
        (None, "Empty") => (true, "it has no members".to_owned(), None),
        (None, state) => (true, format!("it is {state}"), None),
    };
    let members = described.members.len();
    let said = format!("{how}; {members} members; coordinated by broker {coordinator}: {place}");
    let healthy = healthy && below.healthy;
    let summary = match (healthy, below.healthy) {
        (true, _) => format!("well: {said}"),
        (_, true) => said,
        (_, false) => format!("{said}; {}", below.summary),
    };
    let mut because = below.because;
    because.extend(described.members.iter().take(MEMBERS_SAID).map(|member| super::Reason {
        time: None,
        event: None,
        text: format!("member {} of client {} at {}", member.member_id, member.client_id, member.client_host),
    }));
    let waiting_for = waiting_for.or(below.waiting_for);
    Ok(Why { subject, healthy, summary, because, waiting_for, ..below })
}

/// Of the members, so many are named.
const MEMBERS_SAID: usize = 20;
