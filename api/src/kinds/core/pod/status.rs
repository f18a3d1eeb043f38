//! Rules for the status of a pod.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::kinds::pods::{annotations, security};
use crate::kinds::rules::tree::{Errors, IMMUTABLE, Node};
use crate::kinds::rules::{addresses, naming, shown};

/// What kubelets and others may write into a pod's status.
pub(crate) fn validate(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (metadata, before) = (new.field("metadata"), old.field("metadata"));
    let (spec, status, had) = (new.field("spec"), new.field("status"), old.field("status"));
    let annotations = metadata.field("annotations");
    annotations::change(&annotations, &before.field("annotations"), errors);
    annotations::rules(&annotations, &spec, errors);
    // Upstream looks for conditions in the metadata.
    let place = metadata.field("conditions").path();
    conditions(&Node::at(&place, status.field("conditions").value()), errors);
    let nominated = status.field("nominatedNodeName");
    if nominated.text() != had.field("nominatedNodeName").text() && !nominated.text().is_empty() {
        errors.invalid_all(&nominated, naming::subdomain(nominated.text()));
    }
    let class = status.field("qosClass");
    if class.text() != had.field("qosClass").text() {
        errors.invalid_value(&class, class.text(), IMMUTABLE);
    }
    transitions(&status, &had, &spec, errors);
    claims(&status.field("resourceClaimStatuses"), &spec.field("resourceClaims"), errors);
    addresses(&status.field("podIPs"), errors);
    host_addresses(&status, errors);
    for list in LISTS {
        for container in status.field(list).items() {
            user(&container, &spec, errors);
        }
    }
    health(&status, &spec, errors);
}

const LISTS: [&str; 3] = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];

fn conditions(at: &Node<'_, '_>, errors: &mut Errors) {
    for condition in at.items() {
        let kind = condition.field("type").text();
        if matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            continue;
        }
        for why in naming::qualified_name(kind) {
            errors.invalid_value(&condition.field("Type"), kind, &why);
        }
    }
}

/// What has ended stays so, unless its pod says that it starts again.
fn transitions(new: &Node<'_, '_>, old: &Node<'_, '_>, spec: &Node<'_, '_>, errors: &mut Errors) {
    for list in LISTS {
        // Ephemeral containers never start again.
        let policy = if list == LISTS[2] { "Never" } else { spec.field("restartPolicy").text() };
        if policy == "Always" {
            continue;
        }
        let (now, then) = (new.field(list), old.field(list));
        for (index, had) in then.items().enumerate() {
            let state = had.field("state");
            let ended = state.field("terminated");
            let failed = ended.field("exitCode").number() != 0;
            let name = had.field("name").text();
            if ended.is_unset() || (failed && policy == "OnFailure") || starts_again(spec, list, name) {
                continue;
            }
            let mut same = now.items().filter(|one| one.field("name").text() == name);
            if same.any(|one| one.field("state").field("terminated").is_unset()) {
                let at = now.index(index);
                errors.forbidden(&at.field("state"), "may not be transitioned to non-terminated state");
            }
        }
    }
}

/// Whether a container has a policy of its own that lets it start again.
fn starts_again(spec: &Node<'_, '_>, list: &str, name: &str) -> bool {
    let containers = match list {
        "containerStatuses" => "containers",
        "initContainerStatuses" => "initContainers",
        _ => return false,
    };
    let containers = spec.field(containers);
    let found = containers.items().find(|one| one.field("name").text() == name);
    found.is_some_and(|one| {
        one.field("restartPolicy").text() == "Always"
            || one.field("restartPolicy").text() == "OnFailure"
            || !one.field("restartPolicyRules").is_empty()
    })
}

fn claims(at: &Node<'_, '_>, claims: &Node<'_, '_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for status in at.items() {
        let (name, claim) = (status.field("name"), status.field("resourceClaimName"));
        if !claims.items().any(|one| one.field("name").text() == name.text()) {
            errors.invalid_value(&name, name.text(), "must match the name of an entry in `spec.resourceClaims`");
        }
        if !seen.insert(name.text()) {
            errors.duplicate(&name);
        }
        if claim.is_set() {
            for why in naming::subdomain(claim.text()) {
                errors.invalid_value(&name, claim.text(), &why);
            }
        }
    }
}

/// At most one address of each family, none twice.
fn addresses(at: &Node<'_, '_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for address in at.items() {
        let ip = address.field("ip").text();
        for why in addresses::ip(ip) {
            errors.invalid_value(&address, ip, &why);
        }
        if !seen.insert(ip) {
            errors.duplicate_shown(&address, &shown::Shown::fields([("IP", ip.into())]), "");
        }
    }
    let families: Vec<bool> =
        at.items().filter_map(|one| Some(one.field("ip").text().parse::<IpAddr>().ok()?.is_ipv4())).collect();
    let dual = families.contains(&true) && families.contains(&false);
    if at.list().len() > 1 && (!dual || at.list().len() > 2) {
        let shown = at.items().map(|one| shown::Shown::fields([("IP", one.field("ip").shown())])).collect();
        let why = "may specify no more than one IP for each IP family";
        errors.invalid_shown(at, &shown::Shown::List(shown), why);
    }
}

fn host_addresses(status: &Node<'_, '_>, errors: &mut Errors) {
    let list = status.field("hostIPs");
    if list.is_empty() {
        return;
    }
    let first = list.index(0);
    if first.field("ip").text() != status.field("hostIP").text() {
        errors.invalid(&first.field("ip"), "must be equal to `hostIP`");
    }
    addresses(&list, errors);
}

/// Who a container runs as.
fn user(container: &Node<'_, '_>, spec: &Node<'_, '_>, errors: &mut Errors) {
    let user = container.field("user");
    let (linux, shown) = (user.field("linux"), container.field("linux"));
    if linux.is_unset() {
        return;
    }
    if spec.field("os").field("name").text() == "windows" {
        errors.forbidden(&shown, "cannot be set for a windows pod");
        return;
    }
    let place = shown.path();
    let shown = Node::at(&place, linux.value());
    for key in ["uid", "gid"] {
        security::id(&shown.field(key), errors);
    }
    for group in shown.field("supplementalGroups").items() {
        security::id(&group, errors);
    }
}

/// The health of the devices that containers have.
fn health(status: &Node<'_, '_>, spec: &Node<'_, '_>, errors: &mut Errors) {
    for (list, containers) in [("containerStatuses", "containers"), ("initContainerStatuses", "initContainers")] {
        let containers = spec.field(containers);
        for one in status.field(list).items() {
            let name = one.field("name").text();
            let container = containers.items().find(|container| container.field("name").text() == name);
            for resource in one.field("allocatedResourcesStatus").items() {
                if let Some(container) = container {
                    allocated(&resource.field("name"), &container.field("resources"), errors);
                }
                resource_health(&resource.field("resources"), errors);
            }
        }
    }
    for one in status.field(LISTS[2]).items() {
        let allocated = one.field("allocatedResourcesStatus");
        if !allocated.is_empty() {
            errors.forbidden(&allocated, "must not be specified in container status");
        }
    }
}

fn allocated(name: &Node<'_, '_>, resources: &Node<'_, '_>, errors: &mut Errors) {
    const CLAIM: &str = "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or \
                         'claim:<claimName>' if request is empty";
    match name.text().strip_prefix("claim:") {
        Some(wanted) => {
            let (claim, request) = wanted.split_once('/').unwrap_or((wanted, ""));
            let claims = resources.field("claims");
            let known =
                claims.items().any(|one| one.field("name").text() == claim && one.field("request").text() == request);
            if !known {
                errors.invalid(name, CLAIM);
            }
        }
        None => {
            if !resources.field("requests").map().is_some_and(|map| map.contains_key(name.text())) {
                errors.invalid(name, "must match one of the container's resource requests");
            }
        }
    }
}

fn resource_health(at: &Node<'_, '_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for resource in at.items() {
        let id = resource.field("resourceID");
        errors.one_of(&resource.field("health"), &["Healthy", "Unhealthy", "Unknown"]);
        if !seen.insert(id.text()) {
            errors.duplicate(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(new: &Value, old: &Value, want: &[&str]) {
        let pod = |status: &Value| json!({"spec": {"restartPolicy": "Never"}, "status": status});
        let (new, old) = (pod(new), pod(old));
        let mut errors = Errors::default();
        super::validate(
            &Node::root(new.as_object().expect("an object")),
            &Node::root(old.as_object().expect("an object")),
            &mut errors,
        );
        assert_eq!(errors.0.iter().map(ToString::to_string).collect::<Vec<_>>(), want);
    }

    #[test]
    fn what_has_ended_stays_so() {
        let ended = json!({"containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 1}}}]});
        let running = json!({"containerStatuses": [{"name": "c", "state": {"running": {}}}]});
        check(&ended, &running, &[]);
        check(
            &running,
            &ended,
            &["status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"],
        );
    }

    #[test]
    fn a_pod_has_an_address_of_each_family_at_most() {
        check(&json!({"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}), &json!({}), &[]);
        check(
            &json!({"podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]}),
            &json!({}),
            &["status.podIPs: Invalid value: [{\"IP\":\"10.0.0.1\"},{\"IP\":\"10.0.0.2\"}]: \
               may specify no more than one IP for each IP family"],
        );
        check(
            &json!({"hostIP": "10.0.0.1", "hostIPs": [{"ip": "10.0.0.2"}], "qosClass": "BestEffort"}),
            &json!({"qosClass": "Burstable"}),
            &[
                "status.qosClass: Invalid value: \"BestEffort\": field is immutable",
                "status.hostIPs[0].ip: Invalid value: \"10.0.0.2\": must be equal to `hostIP`",
            ],
        );
    }
}
