//! The planning of rules by itself, for measurements: objects in, nft's words out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use client::ObjectKey;
use host::nft::Family;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::Config;
use crate::services::{Place, service_of};
use crate::table::Table;

/// What a node knows of Services, and what it would tell the kernel.
#[derive(Debug)]
pub struct Planner {
    config: Config,
    services: BTreeMap<ObjectKey, Arc<Service>>,
    slices: BTreeMap<ObjectKey, Arc<EndpointSlice>>,
    changed: BTreeSet<ObjectKey>,
    table: Table,
}

impl Planner {
    /// Knows nothing.
    pub fn new(config: Config) -> Self {
        let (services, slices, changed) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { config, services, slices, changed, table: Table::new(Family::V4) }
    }

    /// A Service was made or changed.
    pub fn set_service(&mut self, service: Service) {
        let key = ObjectKey::of(&service);
        self.changed.insert(key.clone());
        self.services.insert(key, Arc::new(service));
    }

    /// The endpoints of a Service, which are one slice, were made or changed.
    pub fn set_slice(&mut self, slice: EndpointSlice) {
        let Some(service) = service_of(&slice) else { return };
        self.changed.insert(service.clone());
        self.slices.insert(service, Arc::new(slice));
    }

    /// What the kernel is to be told of IPv4; from then on it counts as told.
    pub fn text(&mut self) -> String {
        let place = Place { node: self.config.node_name.clone(), zone: String::new() };
        let changed = std::mem::take(&mut self.changed).into_iter().map(|key| {
            let slices = self.slices.get(&key).cloned().into_iter().collect();
            let known = self.services.get(&key).cloned().map(|service| (service, slices));
            (key, known)
        });
        let text = self.table.update(&self.config, &place, &changed.collect());
        self.table.is_known = true;
        text
    }
}
