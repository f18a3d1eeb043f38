//! What is known of the storage drivers of nodes: how many volumes there is room for, and what is attached.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::volumes::attachment::{csi_source, unique_name};
use client::Event;
use k8s_openapi::api::core::v1::PersistentVolume;
use k8s_openapi::api::storage::v1::{CSINode, VolumeAttachment};

/// A volume of a driver, or one that it is to make.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DriverVolume {
    pub(crate) driver: String,
    /// What tells it from others.
    pub(crate) name: String,
}

impl DriverVolume {
    /// The volume that an object stands for, if it is one of a driver.
    pub(super) fn of(volume: &PersistentVolume) -> Option<Self> {
        let source = csi_source(volume)?;
        Some(Self { driver: source.driver.clone(), name: unique_name(&source.driver, &source.volume_handle) })
    }
}

/// The drivers of the nodes.
#[derive(Debug, Default)]
pub(super) struct Drivers {
    /// By node: what each driver there has room for, `None` for any number.
    rooms: HashMap<String, BTreeMap<String, Option<usize>>>,
    /// By node, and by the name of the attachment: the volume.
    attached: HashMap<String, HashMap<String, String>>,
}

impl Drivers {
    pub(super) fn set_node(&mut self, event: &Event<CSINode>) {
        let name = event.key().name;
        let Event::Applied { new, .. } = event else {
            self.rooms.remove(&name);
            return;
        };
        let rooms = new.spec.drivers.iter().map(|driver| {
            let count = driver.allocatable.as_ref().and_then(|room| room.count);
            (driver.name.clone(), count.and_then(|count| usize::try_from(count).ok()))
        });
        self.rooms.insert(name, rooms.collect());
    }

    pub(super) fn set_attachment(&mut self, event: &Event<VolumeAttachment>) {
        let (name, spec) = (event.key().name, &event.object().spec);
        match (event, &spec.source.persistent_volume_name) {
            (Event::Applied { .. }, Some(volume)) => {
                self.attached.entry(spec.node_name.clone()).or_default().insert(name, volume.clone());
            }
            _ => {
                if let Some(attached) = self.attached.get_mut(&spec.node_name) {
                    attached.remove(&name);
                    if attached.is_empty() {
                        self.attached.remove(&spec.node_name);
                    }
                }
            }
        }
    }

    /// Whether a driver is on the node.
    pub(super) fn is_on(&self, node: &str, driver: &str) -> bool {
        self.rooms.get(node).is_some_and(|rooms| rooms.contains_key(driver))
    }

    /// How many volumes of a driver the node can have; `None` for any number.
    pub(super) fn room(&self, node: &str, driver: &str) -> Option<usize> {
        *self.rooms.get(node)?.get(driver)?
    }

    /// The volumes that are attached to the node.
    pub(super) fn attached<'a>(
        &'a self,
        node: &str,
        volumes: &'a HashMap<String, Arc<PersistentVolume>>,
    ) -> impl Iterator<Item = DriverVolume> {
        let names = self.attached.get(node).into_iter().flat_map(HashMap::values);
        names.filter_map(|name| DriverVolume::of(volumes.get(name)?))
    }
}
