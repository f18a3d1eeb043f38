//! Where the Services of the cluster can be reached: one of their ready endpoints, as EndpointSlices tell.

use std::ops::Bound;
use std::sync::Arc;

use api::Object;
use rand::seq::IteratorRandom as _;
use serde_json::Value;

use crate::watch_cache::ResourceCache;

const SERVICE: &str = "kubernetes.io/service-name";

/// The address and port of one of the ready endpoints behind a named port of a Service, among those that `admit` takes by
/// the endpoint and its address.
pub(crate) fn ready(
    slices: &Arc<ResourceCache>,
    namespace: &str,
    service: &str,
    port_name: &str,
    admit: impl Fn(&Value, &str) -> bool,
) -> Option<(String, u16)> {
    let prefix = format!("{}{namespace}/", slices.prefix());
    let snapshot = slices.snapshot();
    let below = snapshot.objects.range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded));
    let here = below.map(|(_, cached)| cached).take_while(|cached| cached.key.starts_with(&prefix));
    let its = here.filter(|cached| cached.labels.get(SERVICE) == Some(service));
    its.flat_map(|cached| addresses(&cached.object(), port_name, &admit)).choose(&mut rand::rng())
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
