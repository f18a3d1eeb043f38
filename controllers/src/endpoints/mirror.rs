//! Decides which EndpointSlices show Endpoints that somebody wrote by hand, for a Service without a selector. Each subset
//! becomes one slice of each address family (KEP-752).

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{self as core, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::slices::{Change, Group, group_of};
use super::{MANAGED_BY, MIRROR, SERVICE_NAME};
use crate::meta;

const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Components of long ago elect their leaders by annotations of Endpoints.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Annotations that say something of the Endpoints themselves.
const OWN: [&str; 2] =
    ["endpoints.kubernetes.io/last-change-trigger-time", "kubectl.kubernetes.io/last-applied-configuration"];

/// What to write, and what could not be shown.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Mirrored {
    pub(super) changes: Vec<Change>,
    /// Addresses that are none.
    pub(super) invalid: usize,
    /// Addresses that were too many for one subset.
    pub(super) surplus: usize,
}

/// Whether Endpoints want to be shown in slices.
pub(super) fn is_mirrored(endpoints: &Endpoints) -> bool {
    let (labels, annotations) = (&endpoints.metadata.labels, &endpoints.metadata.annotations);
    let is_skipped = labels.as_ref().and_then(|labels| labels.get(SKIP)).is_some_and(|skip| skip == "true");
    !is_skipped && !annotations.as_ref().is_some_and(|annotations| annotations.contains_key(LEADER))
}

/// Compares the slices that mirror the Endpoints with what is to be shown. A slice that is not needed becomes another
/// one of its family that is.
pub(super) fn plan(endpoints: &Endpoints, existing: &[Arc<EndpointSlice>], per_subset: usize) -> Mirrored {
    let mut mirrored = Mirrored::default();
    let groups = desired(endpoints, per_subset, &mut mirrored);
    let mut left: Vec<&Arc<EndpointSlice>> = existing.iter().collect();
    left.sort_by_key(|slice| meta::name(&slice.metadata));
    let mut missing = Vec::new();
    for (group, (ports, shown)) in groups {
        let is_same = |slice: &&Arc<EndpointSlice>| {
            slice.address_type == group.0 && group_of(group.0, slice.ports.as_deref().unwrap_or_default()) == group
        };
        match left.iter().position(is_same) {
            Some(at) => mirrored.changes.extend(update(endpoints, left.remove(at), ports, shown)),
            None => missing.push((group.0, ports, shown)),
        }
    }
    for (family, ports, shown) in missing {
        match left.iter().position(|slice| slice.address_type == family) {
            Some(at) => mirrored.changes.extend(update(endpoints, left.remove(at), ports, shown)),
            None => mirrored.changes.push(Change::Create(new_slice(endpoints, family, ports, shown))),
        }
    }
    mirrored.changes.extend(left.into_iter().map(|slice| Change::Delete(Arc::clone(slice))));
    mirrored
}

type Shown = (Vec<EndpointPort>, Vec<Endpoint>);

fn desired(endpoints: &Endpoints, per_subset: usize, mirrored: &mut Mirrored) -> BTreeMap<Group, Shown> {
    let mut groups: BTreeMap<Group, Shown> = BTreeMap::new();
    let mut seen = HashSet::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports: Vec<EndpointPort> = subset.ports.iter().flatten().map(port).collect();
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let all = ready.chain(subset.not_ready_addresses.iter().flatten().map(|address| (address, false)));
        let mut count = 0;
        for (address, is_ready) in all {
            let Ok(ip) = address.ip.parse::<IpAddr>() else {
                mirrored.invalid += 1;
                continue;
            };
            if count == per_subset {
                mirrored.surplus += 1;
                continue;
            }
            count += 1;
            let ip = ip.to_canonical();
            let group = group_of(if ip.is_ipv6() { "IPv6" } else { "IPv4" }, &ports);
            let target = address.target_ref.as_ref().and_then(|target| target.uid.clone());
            if seen.insert((group.clone(), ip, address.hostname.clone(), target)) {
                let (_, shown) = groups.entry(group).or_insert_with(|| (ports.clone(), Vec::new()));
                shown.push(endpoint(address, ip, is_ready));
            }
        }
    }
    groups
}

fn port(port: &core::EndpointPort) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        app_protocol: port.app_protocol.clone(),
    }
}

fn endpoint(address: &core::EndpointAddress, ip: IpAddr, is_ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions { ready: Some(is_ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn update(
    endpoints: &Endpoints,
    old: &Arc<EndpointSlice>,
    ports: Vec<EndpointPort>,
    shown: Vec<Endpoint>,
) -> Option<Change> {
    let mut new = EndpointSlice { endpoints: Some(shown), ports: Some(ports), ..(**old).clone() };
    let metadata = metadata(endpoints);
    new.metadata.labels = metadata.labels;
    new.metadata.annotations = metadata.annotations;
    new.metadata.owner_references = metadata.owner_references;
    // An absent list and an empty one are the same.
    let ports = |slice: &EndpointSlice| slice.ports.clone().unwrap_or_default();
    let is_same = new.metadata == old.metadata && new.endpoints == old.endpoints && ports(&new) == ports(old);
    (!is_same).then_some(Change::Update(new))
}

fn new_slice(endpoints: &Endpoints, family: &str, ports: Vec<EndpointPort>, shown: Vec<Endpoint>) -> EndpointSlice {
    EndpointSlice {
        metadata: metadata(endpoints),
        address_type: family.to_owned(),
        endpoints: Some(shown),
        ports: Some(ports),
    }
}

fn metadata(endpoints: &Endpoints) -> ObjectMeta {
    let name = meta::name(&endpoints.metadata);
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name.to_owned());
    labels.insert(MANAGED_BY.to_owned(), MIRROR.to_owned());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| !OWN.contains(&key.as_str()));
    ObjectMeta {
        generate_name: Some(format!("{name}-")),
        namespace: endpoints.metadata.namespace.clone(),
        labels: Some(labels),
        annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
        owner_references: Some(vec![meta::controller_reference(endpoints)]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{Value, from_value, json};

    use super::*;

    fn endpoints(subsets: Value) -> Endpoints {
        let metadata = json!({ "name": "hand", "namespace": "n", "uid": "e", "labels": { "team": "a" },
            "annotations": { "note": "x", OWN[1]: "{}" } });
        from_value(json!({ "metadata": metadata, "subsets": subsets })).unwrap()
    }

    fn subset(ips: &[&str], not_ready: &[&str], port: u16) -> Value {
        let addresses = |ips: &[&str]| ips.iter().map(|ip| json!({ "ip": ip })).collect::<Vec<_>>();
        json!({ "addresses": addresses(ips), "notReadyAddresses": addresses(not_ready),
            "ports": [{ "name": "h", "port": port, "protocol": "TCP" }] })
    }

    /// Applies changes to the slices, as the API server would.
    fn apply(slices: &mut Vec<Arc<EndpointSlice>>, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Create(mut slice) => {
                    slice.metadata.name = Some(format!("hand-{}", slices.len()));
                    slices.push(Arc::new(slice));
                }
                Change::Update(slice) => {
                    let at = slices.iter().position(|known| known.metadata.name == slice.metadata.name).unwrap();
                    assert_eq!(slices[at].address_type, slice.address_type, "which cannot change");
                    slices[at] = Arc::new(slice);
                }
                Change::Delete(slice) => slices.retain(|known| known.metadata.name != slice.metadata.name),
            }
        }
    }

    fn shown(slice: &EndpointSlice) -> Vec<(String, bool)> {
        let endpoints = slice.endpoints.iter().flatten();
        endpoints.map(|one| (one.addresses.join(" "), one.conditions.as_ref().unwrap().ready.unwrap())).collect()
    }

    #[test]
    fn a_subset_is_a_slice_of_each_family() {
        let endpoints = endpoints(json!([subset(&["10.0.0.1", "fd00::1"], &["10.0.0.2"], 8080)]));
        let mut slices = Vec::new();
        apply(&mut slices, plan(&endpoints, &[], 1000).changes);
        assert_eq!(slices.len(), 2);
        let (four, six) = (&slices[0], &slices[1]);
        assert_eq!((four.address_type.as_str(), six.address_type.as_str()), ("IPv4", "IPv6"));
        assert_eq!(shown(four), [("10.0.0.1".to_owned(), true), ("10.0.0.2".to_owned(), false)]);
        assert_eq!(shown(six), [("fd00::1".to_owned(), true)]);
        assert_eq!(four.ports.as_ref().unwrap()[0].port, Some(8080));
        let metadata = &four.metadata;
        let labels = metadata.labels.as_ref().unwrap();
        assert_eq!((&*labels["team"], &*labels[SERVICE_NAME], &*labels[MANAGED_BY]), ("a", "hand", MIRROR));
        assert_eq!(metadata.annotations.as_ref().unwrap().keys().collect::<Vec<_>>(), ["note"]);
        assert_eq!(metadata.owner_references.as_ref().unwrap()[0].kind, "Endpoints");
        assert_eq!(plan(&endpoints, &slices, 1000), Mirrored::default(), "once");
    }

    #[test]
    fn slices_are_used_again_and_go_when_they_show_nothing() {
        let mut slices = Vec::new();
        apply(&mut slices, plan(&endpoints(json!([subset(&["10.0.0.1"], &[], 80)])), &[], 1000).changes);
        let moved = endpoints(json!([subset(&["10.0.0.1"], &[], 81)]));
        let changes = plan(&moved, &slices, 1000).changes;
        assert!(matches!(changes.as_slice(), [Change::Update(_)]), "{changes:?}");
        apply(&mut slices, changes);
        assert_eq!(slices[0].ports.as_ref().unwrap()[0].port, Some(81));
        let labels = {
            let mut labelled = moved.clone();
            labelled.metadata.labels = None;
            labelled
        };
        assert!(matches!(plan(&labels, &slices, 1000).changes.as_slice(), [Change::Update(_)]));
        let other_family = plan(&endpoints(json!([subset(&["fd00::1"], &[], 81)])), &slices, 1000).changes;
        assert!(matches!(other_family.as_slice(), [Change::Create(_), Change::Delete(_)]), "{other_family:?}");
        let changes = plan(&endpoints(json!([])), &slices, 1000).changes;
        apply(&mut slices, changes);
        assert!(slices.is_empty());
    }

    #[test]
    fn what_cannot_be_shown_is_counted() {
        let many: Vec<String> = (0..1003).map(|number| format!("10.1.{}.{}", number / 250, number % 250)).collect();
        let mut ips: Vec<&str> = many.iter().map(String::as_str).collect();
        ips.push("nonsense");
        let mirrored = plan(&endpoints(json!([subset(&ips, &[], 80)])), &[], 1000);
        assert_eq!((mirrored.invalid, mirrored.surplus), (1, 3));
    }

    #[test]
    fn two_subsets_with_the_same_ports_are_one_slice() {
        let both = json!([subset(&["10.0.0.1"], &[], 80), subset(&["10.0.0.1", "10.0.0.2"], &[], 80)]);
        let mut slices = Vec::new();
        apply(&mut slices, plan(&endpoints(both), &[], 1000).changes);
        assert_eq!(shown(&slices[0]), [("10.0.0.1".to_owned(), true), ("10.0.0.2".to_owned(), true)]);
    }

    #[test]
    fn some_endpoints_ask_to_be_left_out() {
        let plain = endpoints(json!([]));
        assert!(is_mirrored(&plain));
        let mut skipped = plain.clone();
        skipped.metadata.labels.as_mut().unwrap().insert(SKIP.to_owned(), "true".to_owned());
        assert!(!is_mirrored(&skipped));
        let mut leader = plain;
        leader.metadata.annotations.as_mut().unwrap().insert(LEADER.to_owned(), "{}".to_owned());
        assert!(!is_mirrored(&leader));
    }

    #[test]
    fn as_many_addresses_of_a_subset_are_shown_as_the_flag_says() {
        let written = endpoints(json!([subset(&["10.0.0.1", "10.0.0.2", "10.0.0.3"], &[], 80)]));
        assert_eq!(plan(&written, &[], 2).surplus, 1);
        assert_eq!(plan(&written, &[], 3).surplus, 0);
    }
}
