//! What each pod requests of a resource, in thousandths (upstream: `calculateRequests`). A pod that does not say stops the
//! calculation: the percentage would be of something else.

use std::collections::BTreeMap;
use std::sync::Arc;

use facts::pods::{demand::Demand, is_sidecar};
use facts::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::meta;

/// Of one container of each pod, or of pods as wholes (KEP-2837).
pub(super) fn of<'a>(
    pods: &'a [Arc<Pod>],
    resource: &str,
    container: Option<&str>,
) -> Result<BTreeMap<&'a str, i64>, String> {
    let request = |pod: &'a Arc<Pod>| Ok((meta::name(&pod.metadata), of_pod(pod, resource, container)?));
    pods.iter().map(request).collect()
}

fn of_pod(pod: &Pod, resource: &str, container: Option<&str>) -> Result<i64, String> {
    let name = meta::name(&pod.metadata);
    if let Some(container) = container {
        let found = containers(pod).find(|known| known.name == container);
        return of_container(
            found.ok_or_else(|| format!("container {container} not found in Pod {name}"))?,
            resource,
            name,
        );
    }
    let demand = Demand::of(pod);
    if demand.has_own_requests() {
        let own = demand.requests().get(resource).map(|amount| amount.milli_value());
        return own.ok_or_else(|| format!("missing pod-level request for {resource} in Pod {name}"));
    }
    containers(pod).try_fold(0_i64, |sum, container| Ok(sum.saturating_add(of_container(container, resource, name)?)))
}

/// The containers that run as long as the pod does.
fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let sidecars = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten()).filter(|it| is_sidecar(it));
    pod.spec.iter().flat_map(|spec| &spec.containers).chain(sidecars)
}

fn of_container(container: &Container, resource: &str, pod: &str) -> Result<i64, String> {
    let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let amount = requests.and_then(|requests| requests.get(resource)?.0.parse::<Quantity>().ok());
    let missing = || format!("missing request for {resource} in container {} of Pod {pod}", container.name);
    amount.map(Quantity::milli_value).ok_or_else(missing)
}
