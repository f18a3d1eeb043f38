//! What warns the authors of Services (upstream: `GetWarningsForService`).

use crate::kinds::rules::addresses;
use crate::kinds::rules::tree::Node;

/// A `Service`.
pub(crate) fn service(new: &Node<'_, '_>, _old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
    const MODE: &str = "service.kubernetes.io/topology-mode";
    let (metadata, spec) = (new.field("metadata"), new.field("spec"));
    if metadata.field("annotations").map().is_some_and(|map| map.contains_key(HINTS)) {
        texts.push(format!("annotation {HINTS} is deprecated, please use {MODE} instead"));
    }
    let kind = spec.field("type").text();
    let (addresses, external) = (spec.field("clusterIPs"), spec.field("externalIPs"));
    let headless = kind == "ClusterIP" && spec.field("clusterIP").text() == "None";
    for ip in addresses.items().filter(|ip| kind != "ExternalName" && ip.text() != "None") {
        texts.extend(addresses::ip_warning(&ip.path(), ip.text()));
    }
    if headless {
        for (field, used) in [
            ("loadBalancerIP", !spec.field("loadBalancerIP").text().is_empty()),
            ("externalIPs", !external.is_empty()),
            ("SessionAffinity", spec.field("sessionAffinity").text() != "None"),
        ] {
            texts.extend(used.then(|| format!("spec.{field} is ignored for headless services")));
        }
    }
    for ip in external.items() {
        texts.extend(addresses::ip_warning(&ip.path(), ip.text()));
    }
    if !external.is_empty() && !headless && kind != "ExternalName" {
        texts.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned());
    }
    let balancer = spec.field("loadBalancerIP");
    texts.extend(addresses::ip_warning(&balancer.path(), balancer.text()));
    for range in spec.field("loadBalancerSourceRanges").items() {
        texts.extend(addresses::cidr_warnings(&range.path(), range.text()));
    }
    if kind == "ExternalName" && !external.is_empty() {
        texts.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if kind != "ExternalName" && !spec.field("externalName").text().is_empty() {
        texts.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if spec.field("trafficDistribution").text() == "PreferClose" {
        texts.push("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kinds::rules::checks::check_warnings;

    #[test]
    fn fields_of_services_that_do_nothing_are_told() {
        let check = |spec: Value, want: &[&str]| check_warnings(service, &json!({"spec": spec}), None, want);
        check(
            json!({"type": "ClusterIP", "clusterIP": "None", "sessionAffinity": "ClientIP", "externalIPs": ["192.0.2.1"]}),
            &[
                "spec.externalIPs is ignored for headless services",
                "spec.SessionAffinity is ignored for headless services",
            ],
        );
        check(
            json!({"type": "ClusterIP", "externalIPs": ["192.0.2.1"], "externalName": "a", "trafficDistribution": "PreferClose"}),
            &[
                "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
                "spec.externalName is ignored when spec.type is not \"ExternalName\"",
                "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"",
            ],
        );
        check(
            json!({"type": "ExternalName", "externalName": "a", "externalIPs": ["192.0.2.1"]}),
            &["spec.externalIPs is ignored when spec.type is \"ExternalName\""],
        );
        check(
            json!({"type": "LoadBalancer", "loadBalancerIP": "2001:DB8::1"}),
            &[
                "spec.loadBalancerIP: IPv6 address \"2001:DB8::1\" should be in RFC 5952 canonical format (\"2001:db8::1\")",
            ],
        );
    }
}
