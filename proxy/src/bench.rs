//! The planning of rules by itself, for measurements: objects in, nft's words out.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::ObjectKey;
use host::nft::Family;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::Config;
use crate::rules;
use crate::ruleset::{self, Ruleset};
use crate::services::{self, Place};

/// What a node knows of Services, and what it would tell the kernel.
#[derive(Debug)]
pub struct Planner {
    config: Config,
    services: BTreeMap<ObjectKey, Arc<Service>>,
    slices: BTreeMap<ObjectKey, Arc<EndpointSlice>>,
    applied: Option<Ruleset>,
}

impl Planner {
    /// Knows nothing.
    pub fn new(config: Config) -> Self {
        Self { config, services: BTreeMap::new(), slices: BTreeMap::new(), applied: None }
    }

    /// A Service was made or changed.
    pub fn set_service(&mut self, service: Service) {
        self.services.insert(ObjectKey::of(&service), Arc::new(service));
    }

    /// Endpoints were made or changed.
    pub fn set_slice(&mut self, slice: EndpointSlice) {
        self.slices.insert(ObjectKey::of(&slice), Arc::new(slice));
    }

    /// What the kernel is to be told of IPv4; from then on it counts as told.
    pub fn text(&mut self) -> String {
        let place = Place { node: self.config.node_name.clone(), zone: String::new() };
        let services: Vec<_> = self.services.values().cloned().collect();
        let slices: Vec<_> = self.slices.values().cloned().collect();
        let ports = services::service_ports(Family::V4, &place, &services, &slices);
        let wanted = rules::ruleset(Family::V4, self.config.cluster_cidr(Family::V4), &ports);
        let (table, nothing) = (&self.config.table, Ruleset::default());
        let text = match &self.applied {
            Some(applied) => ruleset::difference(table, Family::V4, applied, &wanted),
            None => ruleset::base(table, Family::V4) + &ruleset::difference(table, Family::V4, &nothing, &wanted),
        };
        self.applied = Some(wanted);
        text
    }
}
