//! Configs that changed.

use crate::image::ConfigsImage;
use crate::record::ConfigResource;
use std::collections::BTreeSet;

/// Resources whose configs changed.
#[derive(Clone, Debug)]
pub struct ConfigsDelta {
    base: ConfigsImage,
    image: ConfigsImage,
    changed: BTreeSet<ConfigResource>,
}

impl ConfigsDelta {
    pub(super) fn new(base: ConfigsImage) -> Self {
        Self { image: base.clone(), base, changed: BTreeSet::new() }
    }

    pub(super) fn become_image(&mut self, new: &ConfigsImage) {
        let resources = self.base.iter().chain(new.iter()).map(|(resource, _)| resource);
        self.changed = resources.filter(|resource| self.base.of(resource) != new.of(resource)).collect();
        self.image = new.clone();
    }

    /// The configs as they are after this delta.
    pub fn image(&self) -> &ConfigsImage {
        &self.image
    }
    /// Every resource of which a config was set or deleted.
    pub fn changed(&self) -> impl Iterator<Item = &ConfigResource> {
        self.changed.iter()
    }
    /// Whether no config changed.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty()
    }

    pub(super) fn set(&mut self, resource: &ConfigResource, name: &str, value: Option<&str>) {
        let mut configs = self.image.of(resource).cloned().unwrap_or_default();
        match value {
            Some(value) => configs.insert(name.to_owned(), value.to_owned()),
            None => configs.remove(name),
        };
        self.image.replace(resource, configs);
        self.changed.insert(resource.clone());
    }

    pub(super) fn clear_topic(&mut self, topic: &str) {
        let resource = ConfigResource::topic(topic);
        if self.image.of(&resource).is_some() {
            self.image.replace(&resource, Default::default());
            self.changed.insert(resource);
        }
    }
}
