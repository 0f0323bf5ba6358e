//! Dynamic configs: validated here, so that whoever reads one from an image need not doubt it.

use super::cluster_control::ClusterControl;
use super::partition_control::PartitionControl;
use super::{
    AlterConfigsRequest, Batch, ConfigChange, ConfigOp, ControllerError, ControllerResponse,
    IncrementalAlterConfigsRequest,
};
use crate::ids::NodeId;
use crate::image::{MetadataImage, config_def};
use crate::record::{Cause, ConfigResource, ConfigResourceType, MetadataRecord};
use std::collections::{BTreeMap, BTreeSet};

const NAME_BYTES_MAX: usize = 256;
const VALUE_BYTES_MAX: usize = 64 << 10;

pub(super) struct ConfigControl<'c> {
    pub(super) cluster: &'c ClusterControl,
}

impl ConfigControl<'_> {
    /// Each resource on its own: all its changes, or none.
    pub(super) fn incremental_alter(
        &self,
        batch: &mut Batch,
        request: &IncrementalAlterConfigsRequest,
    ) -> ControllerResponse {
        let alter = |(resource, changes): &(ConfigResource, Vec<ConfigChange>)| {
            check_resource(batch.image(), resource)?;
            let present = batch.image().configs.of(resource).cloned().unwrap_or_default();
            let mut wanted = present.clone();
            let mut seen = BTreeSet::new();
            for change in changes {
                if !seen.insert(change.name.as_str()) {
                    let why = format!("Error due to duplicate config keys: {}", change.name);
                    return Err(ControllerError::InvalidRequest(why));
                }
                apply_change(batch.image(), resource, &mut wanted, change)?;
            }
            self.change(batch, resource, &present, &wanted, request.validate_only)
        };
        ControllerResponse::AlterConfigs(request.resources.iter().map(alter).collect())
    }

    pub(super) fn replace(&self, batch: &mut Batch, request: &AlterConfigsRequest) -> ControllerResponse {
        let alter = |(resource, wanted): &(ConfigResource, BTreeMap<String, String>)| {
            check_resource(batch.image(), resource)?;
            let present = batch.image().configs.of(resource).cloned().unwrap_or_default();
            self.change(batch, resource, &present, wanted, request.validate_only)
        };
        ControllerResponse::AlterConfigs(request.resources.iter().map(alter).collect())
    }

    fn change(
        &self,
        batch: &mut Batch,
        resource: &ConfigResource,
        present: &BTreeMap<String, String>,
        wanted: &BTreeMap<String, String>,
        validate_only: bool,
    ) -> Result<(), ControllerError> {
        let mut records = Vec::new();
        let mut set = |name: &String, value: Option<&String>| {
            records.push(MetadataRecord::Config {
                resource: resource.clone(),
                name: name.clone(),
                value: value.cloned(),
            });
        };
        for (name, value) in wanted.iter().filter(|(name, value)| present.get(*name) != Some(value)) {
            if name.len() > NAME_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
                return Err(ControllerError::InvalidConfig("a config name or value is too long".into()));
            }
            config_def::validate(resource, name, value).map_err(ControllerError::InvalidConfig)?;
            set(name, Some(value));
        }
        for name in present.keys().filter(|name| !wanted.contains_key(*name)) {
            set(name, None);
        }
        if validate_only || records.is_empty() {
            return Ok(());
        }
        let before = batch.image().clone();
        let after = batch.preview(&records)?;
        // In the same entry: from its offset on, leaders commit by the new rule.
        records.extend(PartitionControl { cluster: self.cluster }.follow_configs(&before, &after, resource));
        batch.push(Cause::ConfigsRequested, records)?;
        tracing::info!(kind = ?resource.kind, name = %resource.name, "configs changed");
        Ok(())
    }
}

fn apply_change(
    image: &MetadataImage,
    resource: &ConfigResource,
    configs: &mut BTreeMap<String, String>,
    change: &ConfigChange,
) -> Result<(), ControllerError> {
    let name = &change.name;
    let (item, append) = match &change.op {
        ConfigOp::Set(value) => {
            configs.insert(name.clone(), value.clone());
            return Ok(());
        }
        ConfigOp::Delete => {
            configs.remove(name);
            return Ok(());
        }
        ConfigOp::Append(value) => (value, true),
        ConfigOp::Subtract(value) => (value, false),
    };
    let Some(def) = config_def::definition(resource.kind, name) else {
        return Err(ControllerError::InvalidConfig(format!("Unknown config name: {name}")));
    };
    if !def.kind.is_list() {
        return Err(ControllerError::InvalidConfig(format!(
            "Can't append or subtract: the type of config {name} is not list."
        )));
    }
    let inherited = match resource.kind {
        ConfigResourceType::Topic => image.topic_config(&resource.name, name).unwrap_or(def.default),
        _ => def.default,
    };
    let present = configs.get(name).map_or(inherited, String::as_str);
    let mut list: Vec<&str> = present.split(',').map(str::trim).filter(|s| !s.is_empty()).collect();
    for value in item.split(',').map(str::trim).filter(|s| !s.is_empty()) {
        list.retain(|present| *present != value);
        if append {
            list.push(value);
        }
    }
    let joined = list.join(",");
    configs.insert(name.clone(), joined);
    Ok(())
}

fn check_resource(image: &MetadataImage, resource: &ConfigResource) -> Result<(), ControllerError> {
    let name = resource.name.as_str();
    match resource.kind {
        ConfigResourceType::Topic if image.topics.by_name(name).is_none() => {
            Err(ControllerError::UnknownTopicOrPartition)
        }
        ConfigResourceType::Broker if !name.is_empty() => match name.parse().map(NodeId) {
            Ok(id) if id.to_string() == name && image.cluster.broker(id).is_some() => Ok(()),
            _ => Err(ControllerError::InvalidRequest(format!("No broker with id {name} is registered."))),
        },
        ConfigResourceType::Group | ConfigResourceType::ClientMetrics if name.is_empty() => {
            Err(ControllerError::InvalidRequest("The resource name must not be empty.".into()))
        }
        _ => Ok(()),
    }
}
