//! Where the Services of the cluster can be reached: at one of their ready endpoints, as EndpointSlices tell, or at
//! their cluster address. Upstream: `util/proxy.ResolveEndpoint`, `ResolveCluster`.

use std::ops::Bound;
use std::sync::Arc;

use api::Object;
use rand::seq::IteratorRandom as _;
use serde_json::Value;

use crate::watch_cache::{Cached, ResourceCache, WatchCache};

const SERVICE: &str = "kubernetes.io/service-name";

/// Finds Services.
#[derive(Clone)]
pub(crate) struct Services {
    services: Option<Arc<ResourceCache>>,
    slices: Option<Arc<ResourceCache>>,
}

/// By which of its addresses a Service is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Routing {
    /// By one of its endpoints: whoever asks need not stand where cluster addresses work.
    Endpoints,
    ClusterAddress,
}

/// Why a Service cannot be reached. Texts are upstream's (`util/proxy`).
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Unreachable {
    #[error("service {0:?} not found")]
    NoService(String),
    #[error("no service port {port} found for service {service:?}")]
    NoPort { service: String, port: u16 },
    #[error("no endpoints available for service {0:?}")]
    NoEndpoints(String),
    #[error("cannot route to service with ClusterIP \"None\"")]
    Headless,
}

impl Services {
    pub(crate) fn new(cache: &WatchCache) -> Self {
        Self { services: cache.resource("services/specs"), slices: cache.resource("endpointslices") }
    }

    /// Where to connect to for a port of a Service.
    pub(crate) fn address(
        &self,
        (namespace, name): (&str, &str),
        port: u16,
        routing: Routing,
    ) -> Result<(String, u16), Unreachable> {
        let service = self.service(namespace, name).ok_or_else(|| Unreachable::NoService(name.to_owned()))?;
        if service.text(&["spec", "type"]) == "ExternalName" {
            return Ok((service.text(&["spec", "externalName"]).to_owned(), port));
        }
        let no_port = || Unreachable::NoPort { service: name.to_owned(), port };
        let port_name = port_name(&service, port).ok_or_else(no_port)?;
        if routing == Routing::Endpoints {
            let slices = self.slices.as_ref();
            let endpoint = slices.and_then(|slices| ready(slices, namespace, name, &port_name, |_, _| true));
            return endpoint.ok_or_else(|| Unreachable::NoEndpoints(name.to_owned()));
        }
        match service.text(&["spec", "clusterIP"]) {
            "" | "None" => Err(Unreachable::Headless),
            address => Ok((address.to_owned(), port)),
        }
    }

    /// A Service, if there is one of that name.
    pub(crate) fn service(&self, namespace: &str, name: &str) -> Option<Object> {
        let services = self.services.as_ref()?;
        Some(services.get(&services.key(namespace, name))?.object())
    }

    /// The EndpointSlices of a Service.
    pub(crate) fn slices(&self, namespace: &str, name: &str) -> Vec<Object> {
        self.slices.as_ref().map_or_else(Vec::new, |slices| {
            of_service(slices, namespace, name).iter().map(|cached| cached.object()).collect()
        })
    }

    /// The caches of Services and EndpointSlices, for who follows them.
    pub(crate) fn caches(&self) -> Option<(&Arc<ResourceCache>, &Arc<ResourceCache>)> {
        self.services.as_ref().zip(self.slices.as_ref())
    }
}

/// Whether an EndpointSlice is one of a Service.
pub(crate) fn is_of(slice: &Cached, service: &str) -> bool {
    slice.labels.get(SERVICE) == Some(service)
}

/// The name of the port with a number; ports without one are called `""`.
pub(crate) fn port_name(service: &Object, number: u16) -> Option<String> {
    let ports = service.get(&["spec", "ports"])?.as_array()?;
    let port = ports.iter().find(|port| port["port"].as_u64() == Some(u64::from(number)))?;
    Some(port["name"].as_str().unwrap_or("").to_owned())
}

/// The address and port of one of the ready endpoints behind a named port of a Service, among those that `admit` takes by
/// the endpoint and its address.
pub(crate) fn ready(
    slices: &Arc<ResourceCache>,
    namespace: &str,
    service: &str,
    port_name: &str,
    admit: impl Fn(&Value, &str) -> bool,
) -> Option<(String, u16)> {
    let its = of_service(slices, namespace, service);
    its.iter().flat_map(|cached| addresses(&cached.object(), port_name, &admit)).choose(&mut rand::rng())
}

fn of_service(slices: &ResourceCache, namespace: &str, service: &str) -> Vec<Arc<Cached>> {
    let prefix = format!("{}{namespace}/", slices.prefix());
    let snapshot = slices.snapshot();
    let below = snapshot.objects.range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded));
    let here = below.map(|(_, cached)| cached).take_while(|cached| cached.key.starts_with(&prefix));
    here.filter(|cached| is_of(cached, service)).cloned().collect()
}

fn addresses(slice: &Object, port_name: &str, admit: impl Fn(&Value, &str) -> bool) -> Vec<(String, u16)> {
    let list = |field: &str| slice.get(&[field]).and_then(Value::as_array).into_iter().flatten();
    let mut ports = list("ports").filter(|port| port["name"].as_str().unwrap_or("") == port_name);
    let number = ports.find_map(|port| port["port"].as_u64()).and_then(|port| u16::try_from(port).ok());
    let Some(number) = number else { return Vec::new() };
    let ready = list("endpoints").filter(|endpoint| endpoint["conditions"]["ready"] != Value::Bool(false));
    let first = |endpoint: &Value| endpoint["addresses"][0].as_str().map(str::to_owned);
    let reachable = |endpoint: &Value| first(endpoint).filter(|address| admit(endpoint, address));
    ready.filter_map(|endpoint| Some((reachable(endpoint)?, number))).collect()
}
