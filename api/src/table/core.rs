//! Rows of the core group.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::text::{
    NONE, UNKNOWN, UNSET, age, containers, join, labels, list, list_in, number, or, plain, text, with_more,
};
use super::{Printer, events, pods};
use crate::object::Object;

pub(super) fn printer(plural: &str) -> Option<Printer> {
    Some(match plural {
        "componentstatuses" => component,
        "configmaps" => config_map,
        "endpoints" => endpoints,
        "events" => events::print,
        "namespaces" => namespace,
        "nodes" => node,
        "persistentvolumeclaims" => claim,
        "persistentvolumes" => volume,
        "pods" => pods::print,
        "podtemplates" => pod_template,
        "replicationcontrollers" => replication_controller,
        "resourcequotas" => quota,
        "secrets" => secret,
        "serviceaccounts" => service_account,
        "services" => service,
        _ => return None,
    })
}

fn entries(object: &Object, field: &str) -> usize {
    object.get(&[field]).and_then(Value::as_object).map_or(0, Map::len)
}

fn component(component: &Object, _now: Timestamp) -> Vec<Value> {
    let (mut status, mut message, mut error) = (UNKNOWN, "", "");
    for condition in list(component, &["conditions"]) {
        status = match text(condition, "status") {
            "True" => "Healthy",
            "False" => "Unhealthy",
            _ => UNKNOWN,
        };
        (message, error) = (text(condition, "message"), text(condition, "error"));
    }
    vec![component.name().into(), status.into(), message.into(), error.into()]
}

fn config_map(map: &Object, now: Timestamp) -> Vec<Value> {
    vec![map.name().into(), (entries(map, "data") + entries(map, "binaryData")).into(), age(map, now).into()]
}

fn secret(secret: &Object, now: Timestamp) -> Vec<Value> {
    vec![secret.name().into(), secret.text(&["type"]).into(), entries(secret, "data").into(), age(secret, now).into()]
}

fn service_account(account: &Object, now: Timestamp) -> Vec<Value> {
    vec![account.name().into(), age(account, now).into()]
}

fn namespace(namespace: &Object, now: Timestamp) -> Vec<Value> {
    vec![namespace.name().into(), namespace.text(&["status", "phase"]).into(), age(namespace, now).into()]
}

fn pod_template(template: &Object, _now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(template, &["template", "spec"]);
    vec![template.name().into(), names, images, labels(template.get(&["template", "metadata", "labels"])).into()]
}

fn replication_controller(controller: &Object, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(controller, &["spec", "template", "spec"]);
    vec![
        controller.name().into(),
        number(controller, &["spec", "replicas"]).into(),
        number(controller, &["status", "replicas"]).into(),
        number(controller, &["status", "readyReplicas"]).into(),
        age(controller, now).into(),
        names,
        images,
        labels(controller.get(&["spec", "selector"])).into(),
    ]
}

fn node(node: &Object, now: Timestamp) -> Vec<Value> {
    let ready = list(node, &["status", "conditions"]).iter().find(|condition| text(condition, "type") == "Ready");
    let mut status = match ready {
        Some(condition) if text(condition, "status") == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if node.get(&["spec", "unschedulable"]) == Some(&Value::Bool(true)) {
        status.push_str(",SchedulingDisabled");
    }
    let address = |type_: &str| {
        let found = list(node, &["status", "addresses"]).iter().find(|address| text(address, "type") == type_);
        or(found.map_or("", |address| text(address, "address")), NONE)
    };
    let info = |field: &str| or(node.text(&["status", "nodeInfo", field]), UNKNOWN);
    let kernel = match (info("kernelVersion"), node.text(&["status", "nodeInfo", "architecture"])) {
        (UNKNOWN, _) => UNKNOWN.to_owned(),
        (kernel, "") => kernel.to_owned(),
        (kernel, architecture) => format!("{kernel} ({architecture})"),
    };
    vec![
        node.name().into(),
        status.into(),
        or(&node_roles(node).join(","), NONE).into(),
        age(node, now).into(),
        node.text(&["status", "nodeInfo", "kubeletVersion"]).into(),
        address("InternalIP").into(),
        address("ExternalIP").into(),
        info("osImage").into(),
        kernel.into(),
        info("containerRuntimeVersion").into(),
    ]
}

fn node_roles(node: &Object) -> Vec<&str> {
    let mut roles: Vec<&str> = Vec::new();
    for (key, value) in node.labels().into_iter().flatten() {
        let role = match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => role,
            None if key == "kubernetes.io/role" => value.as_str().unwrap_or(""),
            None => "",
        };
        roles.extend((!role.is_empty()).then_some(role));
    }
    roles.sort_unstable();
    roles.dedup();
    roles
}

/// Access modes in short, in a fixed order.
fn access_modes(modes: &[Value]) -> String {
    let known =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let given = known.into_iter().filter(|(mode, _)| modes.iter().any(|given| given == mode));
    given.map(|(_, short)| short).collect::<Vec<_>>().join(",")
}

fn storage_class(object: &Object) -> &str {
    object
        .annotation("volume.beta.kubernetes.io/storage-class")
        .unwrap_or_else(|| object.text(&["spec", "storageClassName"]))
}

fn phase(object: &Object) -> &str {
    if object.is_being_deleted() { "Terminating" } else { object.text(&["status", "phase"]) }
}

fn volume(volume: &Object, now: Timestamp) -> Vec<Value> {
    let claim = match volume.get(&["spec", "claimRef"]).filter(|claim| !claim.is_null()) {
        Some(claim) => format!("{}/{}", text(claim, "namespace"), text(claim, "name")),
        None => String::new(),
    };
    vec![
        volume.name().into(),
        or(&plain(volume.get(&["spec", "capacity", "storage"])), "0").into(),
        access_modes(list(volume, &["spec", "accessModes"])).into(),
        volume.text(&["spec", "persistentVolumeReclaimPolicy"]).into(),
        phase(volume).into(),
        claim.into(),
        storage_class(volume).into(),
        or(volume.text(&["spec", "volumeAttributesClassName"]), UNSET).into(),
        volume.text(&["status", "reason"]).into(),
        age(volume, now).into(),
        or(volume.text(&["spec", "volumeMode"]), UNSET).into(),
    ]
}

fn claim(claim: &Object, now: Timestamp) -> Vec<Value> {
    let bound = claim.text(&["spec", "volumeName"]);
    let (capacity, modes) = match bound {
        "" => (String::new(), String::new()),
        _ => (
            or(&plain(claim.get(&["status", "capacity", "storage"])), "0").to_owned(),
            access_modes(list(claim, &["status", "accessModes"])),
        ),
    };
    vec![
        claim.name().into(),
        phase(claim).into(),
        bound.into(),
        capacity.into(),
        modes.into(),
        storage_class(claim).into(),
        or(claim.text(&["spec", "volumeAttributesClassName"]), UNSET).into(),
        age(claim, now).into(),
        or(claim.text(&["spec", "volumeMode"]), UNSET).into(),
    ]
}

fn quota(quota: &Object, now: Timestamp) -> Vec<Value> {
    let hard = quota.get(&["status", "hard"]).and_then(Value::as_object);
    let mut names: Vec<&String> = hard.into_iter().flat_map(Map::keys).collect();
    names.sort();
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for name in names {
        let used = plain(quota.get(&["status", "used", name]));
        let entry = format!("{name}: {}/{}", or(&used, "0"), plain(quota.get(&["status", "hard", name])));
        if name.starts_with("limits") { limits.push(entry) } else { requests.push(entry) }
    }
    vec![quota.name().into(), requests.join(", ").into(), limits.join(", ").into(), age(quota, now).into()]
}

fn service(service: &Object, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = list(service, &["spec", "ports"]).iter().map(service_port).collect();
    let cluster_ip = list(service, &["spec", "clusterIPs"]).first().and_then(Value::as_str).unwrap_or("");
    vec![
        service.name().into(),
        service.text(&["spec", "type"]).into(),
        or(cluster_ip, NONE).into(),
        external_ip(service).into(),
        or(&ports.join(","), NONE).into(),
        age(service, now).into(),
        labels(service.get(&["spec", "selector"])).into(),
    ]
}

fn service_port(port: &Value) -> String {
    let number = |field: &str| port.get(field).and_then(Value::as_i64).unwrap_or(0);
    match number("nodePort") {
        0 => format!("{}/{}", number("port"), text(port, "protocol")),
        node_port => format!("{}:{node_port}/{}", number("port"), text(port, "protocol")),
    }
}

fn external_ip(service: &Object) -> String {
    let mut external: Vec<&str> = list(service, &["spec", "externalIPs"]).iter().filter_map(Value::as_str).collect();
    match service.text(&["spec", "type"]) {
        "ClusterIP" | "NodePort" => or(&external.join(","), NONE).to_owned(),
        "LoadBalancer" => {
            let mut all = load_balancer(service);
            all.append(&mut external);
            or(&all.join(","), "<pending>").to_owned()
        }
        "ExternalName" => service.text(&["spec", "externalName"]).to_owned(),
        _ => UNKNOWN.to_owned(),
    }
}

/// The addresses of a load balancer, in order and once each.
pub(super) fn load_balancer(object: &Object) -> Vec<&str> {
    let ingress = list(object, &["status", "loadBalancer", "ingress"]).iter();
    let mut addresses: Vec<&str> = ingress.map(|entry| or(text(entry, "ip"), text(entry, "hostname"))).collect();
    addresses.retain(|address| !address.is_empty());
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

fn endpoints(endpoints: &Object, now: Timestamp) -> Vec<Value> {
    let mut all = Vec::new();
    let subsets = list(endpoints, &["subsets"]);
    for subset in subsets {
        let addresses = list_in(subset, "addresses").iter().map(|address| text(address, "ip"));
        let ports = list_in(subset, "ports");
        if ports.is_empty() {
            all.extend(addresses.clone().map(str::to_owned));
        }
        for port in ports {
            let port = port.get("port").and_then(Value::as_i64).unwrap_or(0);
            all.extend(
                addresses
                    .clone()
                    .map(|ip| if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }),
            );
        }
    }
    let shown = if subsets.is_empty() { NONE.to_owned() } else { with_more(&all, 3, ",") };
    vec![endpoints.name().into(), shown.into(), age(endpoints, now).into()]
}

/// A list of texts as one cell.
pub(super) fn joined_or_none(values: &[Value]) -> String {
    or(&join(values, ","), NONE).to_owned()
}
