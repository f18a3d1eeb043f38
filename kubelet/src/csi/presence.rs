//! What the API knows of the drivers on this node: its CSINode, and labels and an annotation of the node itself (upstream:
//! pkg/volume/csi/nodeinfomanager).
use std::collections::BTreeMap;

use client::write::{is_already_exists, is_not_found, retry_on_conflict};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::{CSINode, CSINodeDriver, CSINodeSpec, VolumeNodeResources};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::Mutex;

use super::messages::NodeGetInfoResponse;

/// On a node: what its drivers call it, as JSON by the drivers' names.
const NODE_IDS: &str = "csi.volume.kubernetes.io/nodeid";

/// Why it cannot be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PresenceError {
    /// The API refuses.
    #[error("{}", crate::failure::answer(.0))]
    Api(kube::Error),
    /// A driver has no name for the node.
    #[error("driver {0:?} reports an empty node ID")]
    NoId(String),
    /// A driver says that the node is elsewhere.
    #[error(
        "detected topology value collision: driver reported {key:?}:{reported:?} but existing label is {key:?}:{label:?}"
    )]
    Collision {
        /// The label.
        key: String,
        /// What the driver says.
        reported: String,
        /// What the node has.
        label: String,
    },
}

impl From<kube::Error> for PresenceError {
    fn from(err: kube::Error) -> Self {
        Self::Api(err)
    }
}

/// Writes it.
pub(super) struct Presence {
    nodes: Api<Node>,
    csi_nodes: Api<CSINode>,
    node_name: String,
    /// One change at a time: each reads, and then writes.
    turn: Mutex<()>,
}

impl Presence {
    pub(super) fn new(client: kube::Client, node_name: &str) -> Self {
        Self {
            nodes: Api::all(client.clone()),
            csi_nodes: Api::all(client),
            node_name: node_name.to_owned(),
            turn: Mutex::default(),
        }
    }

    /// Makes the CSINode, if there is none.
    pub(super) async fn introduce(&self) -> Result<(), PresenceError> {
        let _turn = self.turn.lock().await;
        let node = self.nodes.get(&self.node_name).await?;
        match self.csi_nodes.create(&PostParams::default(), &empty(&node)).await {
            Err(err) if !is_already_exists(&err) => Err(err.into()),
            _ => Ok(()),
        }
    }

    /// Tells what a driver says of the node.
    pub(super) async fn announce(&self, driver: &str, info: &NodeGetInfoResponse) -> Result<(), PresenceError> {
        if info.node_id.is_empty() {
            return Err(PresenceError::NoId(driver.to_owned()));
        }
        let _turn = self.turn.lock().await;
        let node = self.nodes.get(&self.node_name).await?;
        let topology = info.accessible_topology.as_ref().map(|topology| &topology.segments);
        let labels = new_labels(&node, topology.into_iter().flatten())?;
        let mut ids = node_ids(&node);
        let is_known = ids.insert(driver.to_owned(), info.node_id.clone()).as_ref() == Some(&info.node_id);
        if !is_known || !labels.is_empty() {
            let metadata = json!({ "annotations": { NODE_IDS: json!(ids).to_string() }, "labels": labels });
            self.patch_node(json!({ "metadata": metadata })).await?;
        }
        self.change(&node, |drivers| with(drivers, entry(driver, info))).await
    }

    /// Tells that a driver is gone, unless `is_back` by then.
    pub(super) async fn withdraw(&self, driver: &str, is_back: impl Fn() -> bool) -> Result<(), PresenceError> {
        let _turn = self.turn.lock().await;
        if is_back() {
            return Ok(());
        }
        let node = self.nodes.get(&self.node_name).await?;
        self.change(&node, |drivers| drivers.retain(|known| known.name != driver)).await?;
        let mut ids = node_ids(&node);
        if ids.remove(driver).is_some() {
            let left = (!ids.is_empty()).then(|| json!(ids).to_string());
            self.patch_node(json!({ "metadata": { "annotations": { NODE_IDS: left } } })).await?;
        }
        Ok(())
    }

    async fn patch_node(&self, patch: serde_json::Value) -> kube::Result<()> {
        self.nodes.patch(&self.node_name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
    }

    /// Changes the drivers of the CSINode, and writes it if that makes a difference.
    async fn change(&self, node: &Node, change: impl Fn(&mut Vec<CSINodeDriver>)) -> Result<(), PresenceError> {
        let attempt = || async {
            let known = match self.csi_nodes.get(&self.node_name).await {
                Err(err) if is_not_found(&err) => None,
                known => Some(known?),
            };
            let mut wanted = known.clone().unwrap_or_else(|| empty(node));
            change(&mut wanted.spec.drivers);
            match known {
                None => self.csi_nodes.create(&PostParams::default(), &wanted).await.map(drop),
                Some(known) if known == wanted => Ok(()),
                Some(_) => self.csi_nodes.replace(&self.node_name, &PostParams::default(), &wanted).await.map(drop),
            }
        };
        Ok(retry_on_conflict(attempt).await?)
    }
}

/// A CSINode without drivers, which goes with its node.
fn empty(node: &Node) -> CSINode {
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.metadata.name.clone().unwrap_or_default(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    };
    CSINode {
        metadata: ObjectMeta {
            name: node.metadata.name.clone(),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: CSINodeSpec { drivers: Vec::new() },
    }
}

fn entry(driver: &str, info: &NodeGetInfoResponse) -> CSINodeDriver {
    let most = i32::try_from(info.max_volumes_per_node).unwrap_or(i32::MAX);
    let keys = info.accessible_topology.iter().flat_map(|topology| topology.segments.keys().cloned());
    CSINodeDriver {
        name: driver.to_owned(),
        node_id: info.node_id.clone(),
        topology_keys: Some(keys.collect::<Vec<_>>()).filter(|keys| !keys.is_empty()),
        allocatable: (most > 0).then_some(VolumeNodeResources { count: Some(most) }),
    }
}

/// Puts a driver in the place of the one of its name.
fn with(drivers: &mut Vec<CSINodeDriver>, entry: CSINodeDriver) {
    match drivers.iter_mut().find(|known| known.name == entry.name) {
        Some(known) => *known = entry,
        None => drivers.push(entry),
    }
}

/// What the annotation says; nothing if somebody has spoilt it.
fn node_ids(node: &Node) -> BTreeMap<String, String> {
    let text = node.metadata.annotations.as_ref().and_then(|annotations| annotations.get(NODE_IDS));
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// The labels that the node lacks; those that it has must be the same.
fn new_labels<'a>(
    node: &Node,
    segments: impl Iterator<Item = (&'a String, &'a String)>,
) -> Result<BTreeMap<&'a str, &'a str>, PresenceError> {
    let labels = node.metadata.labels.as_ref();
    let mut new = BTreeMap::new();
    for (key, reported) in segments {
        match labels.and_then(|labels| labels.get(key)) {
            None => drop(new.insert(key.as_str(), reported.as_str())),
            Some(label) if label == reported => {}
            Some(label) => {
                let (key, reported, label) = (key.clone(), reported.clone(), label.clone());
                return Err(PresenceError::Collision { key, reported, label });
            }
        }
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::super::messages::Topology;
    use super::*;

    fn node(labels: serde_json::Value, ids: &str) -> Node {
        let annotations = json!({ NODE_IDS: ids });
        serde_json::from_value(json!({"metadata": {"name": "n", "labels": labels, "annotations": annotations}}))
            .unwrap()
    }

    fn info(most: i64) -> NodeGetInfoResponse {
        let segments = [("z".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())].into();
        let accessible_topology = Some(Topology { segments });
        NodeGetInfoResponse { node_id: "id".into(), max_volumes_per_node: most, accessible_topology }
    }

    #[test]
    fn a_driver_is_written_down_with_its_keys_in_order_and_the_room_it_has() {
        let mut drivers = Vec::new();
        with(&mut drivers, entry("d", &info(0)));
        assert_eq!(drivers[0].topology_keys.as_deref().unwrap(), ["a", "z"]);
        assert_eq!((drivers[0].node_id.as_str(), drivers[0].allocatable.as_ref()), ("id", None));
        with(&mut drivers, entry("e", &info(3)));
        with(&mut drivers, entry("d", &info(i64::MAX)));
        let room = |at: usize| drivers[at].allocatable.as_ref().unwrap().count;
        assert_eq!((drivers.len(), room(0), room(1)), (2, Some(i32::MAX), Some(3)));
        assert_eq!(entry("d", &info(-1)).allocatable, None);
    }

    #[test]
    fn a_node_that_is_elsewhere_already_cannot_be_moved_by_a_driver() {
        let segments = info(0).accessible_topology.unwrap().segments;
        let labels = |labels: serde_json::Value| new_labels(&node(labels, ""), segments.iter()).map(|new| new.len());
        assert_eq!(labels(json!({})).unwrap(), 2);
        assert_eq!(labels(json!({"a": "2", "b": "3"})).unwrap(), 1);
        let why = labels(json!({"a": "1"})).unwrap_err().to_string();
        assert!(why.contains("driver reported \"a\":\"2\" but existing label is \"a\":\"1\""), "{why}");
    }

    #[test]
    fn an_annotation_that_somebody_has_spoilt_is_written_anew() {
        assert_eq!(node_ids(&node(json!({}), r#"{"d": "x"}"#)).len(), 1);
        assert!(node_ids(&node(json!({}), "{")).is_empty());
    }
}
