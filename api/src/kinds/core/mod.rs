//! Kinds of the core group, and events of `events.k8s.io`, which are stored here (upstream: `pkg/apis/core`,
//! `pkg/registry/core`).

mod component_status;
mod config_map;
mod endpoints;
mod event;
mod limit_range;
mod namespace;
mod node;
mod persistent_volume;
mod persistent_volume_claim;
mod pod;
mod pod_template;
mod replication_controller;
mod resource_quota;
mod secret;
pub(crate) mod service;
mod service_account;

use super::kind::{Group, Kind};

pub(crate) const GROUP: Group = Group {
    name: "",
    versions: &[(
        "v1",
        &[
            Kind::namespaced("bindings", "Binding").review(),
            component_status::KIND,
            config_map::KIND,
            endpoints::KIND,
            event::KIND,
            limit_range::KIND,
            namespace::KIND,
            node::KIND,
            persistent_volume_claim::KIND,
            persistent_volume::KIND,
            pod::KIND,
            pod_template::KIND,
            replication_controller::KIND,
            resource_quota::KIND,
            secret::KIND,
            service_account::KIND,
            service::KIND,
        ],
    )],
};

pub(crate) const EVENTS: Group = Group { name: "events.k8s.io", versions: &[("v1", &[event::REPORTED])] };
