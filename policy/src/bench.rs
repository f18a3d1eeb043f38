//! The planning of rules by itself, for measurements: objects in, nft's words out.

use client::ObjectKey;
use host::nft::Family;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::Config;
use crate::compile::Policy;
use crate::model::Model;
use crate::pod::PodFacts;
use crate::text::{self, Place};

/// What a node knows, and what it would tell the kernel.
#[derive(Debug)]
pub struct Planner {
    config: Config,
    model: Model,
}

impl Planner {
    /// Knows nothing.
    pub fn new(config: Config) -> Self {
        Self { config, model: Model::new() }
    }

    /// A namespace was made or changed.
    pub fn set_namespace(&mut self, namespace: &Namespace) {
        let labels = namespace.metadata.labels.clone().unwrap_or_default();
        self.model.set_namespace(namespace.metadata.name.as_deref().unwrap_or_default(), Some(labels));
    }

    /// A pod was made or changed.
    pub fn set_pod(&mut self, pod: &Pod) {
        self.model.set_pod(&ObjectKey::of(pod), PodFacts::of(pod, &self.config.node_name));
    }

    /// A pod is gone.
    pub fn remove_pod(&mut self, pod: &Pod) {
        self.model.set_pod(&ObjectKey::of(pod), None);
    }

    /// A policy was made or changed.
    pub fn set_policy(&mut self, policy: &NetworkPolicy) {
        self.model.set_policy(&ObjectKey::of(policy), Some(Policy::of(policy)));
    }

    /// What the kernel is to be told of IPv4; from then on it counts as told.
    pub fn text(&mut self) -> String {
        let place = Place { table: &self.config.table, bridge: &self.config.bridge };
        let text = text::change(&place, Family::V4, &self.model.table);
        self.model.table.settled();
        text
    }
}
