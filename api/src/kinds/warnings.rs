//! Texts that warn a client of deprecated or doubtful fields, without refusing them.

use serde_json::Value;

use super::pods::{annotations, volumes, warn};
use super::rules::{addresses, naming};
use super::workloads;
use crate::kinds::rules::tree::Node;

/// A new `Pod`. Changes of pods are by machines, which read no texts.
pub(crate) fn pod(new: &Node<'_, '_>, old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    if old.is_some() {
        return;
    }
    let metadata = new.field("metadata");
    pod_name(&metadata, "the Pod's hostname", texts);
    warn::all(new, false, texts);
}

/// The addresses of a pod's status.
pub(crate) fn pod_status(new: &Node<'_, '_>, texts: &mut Vec<String>) {
    let status = new.field("status");
    for list in ["podIPs", "hostIPs"] {
        for one in status.field(list).items() {
            let ip = one.field("ip");
            texts.extend(addresses::ip_warning(&ip.path(), ip.text()));
        }
    }
}

/// Annotations that had no field beside them, or say nothing that a field could.
pub(crate) fn app_armor(pod: &Node<'_, '_>, texts: &mut Vec<String>) {
    const TEXT: &str = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
    let (metadata, spec) = (pod.field("metadata"), pod.field("spec"));
    if spec.field("os").field("name").text() == "windows" {
        return;
    }
    let (annotations, context) = (metadata.field("annotations"), spec.field("securityContext"));
    for list in ["initContainers", "containers"] {
        for container in spec.field(list).items() {
            let name = format!("{}{}", annotations::APP_ARMOR, container.field("name").text());
            let Some((name, annotation)) = annotations.entries().find(|(known, _)| *known == name) else { continue };
            let profile = annotations::app_armor_profile(annotation.text());
            let own = container.field("securityContext");
            let own = own.field("appArmorProfile");
            let became = profile.is_some() && own.value() == profile.as_ref();
            if became || (own.is_unset() && profile.as_ref() != context.field("appArmorProfile").value()) {
                texts.push(format!("{}: {TEXT}", annotations.key(name).path()));
            }
        }
    }
}

/// Whether a client should hear of what is in the spec: when it is new, or has changed.
fn is_news(new: &Node<'_, '_>, old: Option<&Node<'_, '_>>) -> bool {
    let generation = |object: &Node<'_, '_>| object.field("metadata").field("generation").number();
    old.is_none_or(|old| generation(new) != generation(old))
}

/// A kind with a pod template at `spec.template`.
pub(crate) fn workload(new: &Node<'_, '_>, old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    if old.is_none() {
        pod_name(&new.field("metadata"), PODS_AND_HOSTS, texts);
    }
    if is_news(new, old) {
        warn::all(&new.field("spec").field("template"), true, texts);
    }
}

/// A `DaemonSet`, which counts the changes of its template.
pub(crate) fn daemon_set(new: &Node<'_, '_>, old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    let counted = |set: &Node<'_, '_>| -> Option<String> {
        let metadata = set.field("metadata");
        let annotations = metadata.field("annotations");
        Some(annotations.map()?.get(workloads::TEMPLATE_GENERATION)?.as_str()?.to_owned())
    };
    if old.is_none_or(|old| counted(old) != counted(new)) {
        if old.is_none() {
            pod_name(&new.field("metadata"), PODS_AND_HOSTS, texts);
        }
        warn::all(&new.field("spec").field("template"), true, texts);
    }
}

/// A `StatefulSet`, whose name is held to be that of a host anyway.
pub(crate) fn stateful_set(new: &Node<'_, '_>, old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    let spec = new.field("spec");
    if is_news(new, old) {
        warn::all(&spec.field("template"), true, texts);
    }
    for claim in spec.field("volumeClaimTemplates").items() {
        // Upstream's paths leave the claim's spec out of new sets, and write it large in changed ones.
        let place = if old.is_none() { claim.path() } else { claim.path().child("Spec") };
        volumes::warn::claim_spec(&Node::at(&place, claim.field("spec").value()), texts);
    }
    let history = spec.field("revisionHistoryLimit");
    if history.number() < 0 {
        texts.push(format!(
            "{}: a negative value retains all historical revisions; a value >= 0 is recommended",
            history.path()
        ));
    }
}

/// A `PodTemplate`.
pub(crate) fn pod_template(new: &Node<'_, '_>, old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    if is_news(new, old) {
        warn::all(&new.field("template"), true, texts);
    }
}

/// A `Job`.
pub(crate) fn job(new: &Node<'_, '_>, old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    if old.is_none() {
        pod_name(&new.field("metadata"), PODS_AND_HOSTS, texts);
    }
    if is_news(new, old) {
        job_spec(&new.field("spec"), texts);
    }
}

/// A `CronJob`.
pub(crate) fn cron_job(new: &Node<'_, '_>, old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    const ZONE: &str = "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
                        https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details";
    if old.is_none() {
        pod_name(&new.field("metadata"), PODS_AND_HOSTS, texts);
    }
    let spec = new.field("spec");
    if is_news(new, old) {
        job_spec(&spec.field("jobTemplate").field("spec"), texts);
    }
    if old.is_some() && spec.field("schedule").text().contains("TZ") {
        texts.push(ZONE.to_owned());
    }
}

fn job_spec(spec: &Node<'_, '_>, texts: &mut Vec<String>) {
    let many = spec.field("completions").number() > 100_000 && spec.field("parallelism").number() > 10_000;
    if spec.field("completionMode").text() == "Indexed" && many {
        texts.push(format!(
            "{}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
             Kubernetes might not be able to track completedIndexes when a big number of indexes fail",
            spec.path()
        ));
    }
    warn::all(&spec.field("template"), true, texts);
}

const PODS_AND_HOSTS: &str = "Pod names and hostnames";

/// Names that become names of pods, and so of hosts.
fn pod_name(metadata: &Node<'_, '_>, used_in: &str, texts: &mut Vec<String>) {
    let name = metadata.field("name").text();
    let wrong = naming::label(name);
    if !wrong.is_empty() {
        texts.push(format!(
            "metadata.name: this is used in {used_in}, which can result in surprising behavior; \
             a DNS label is recommended: [{}]",
            wrong.join(" ")
        ));
    }
}

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

/// Where the load balancer of a `Service` or `Ingress` is.
pub(crate) fn balancer_status(new: &Node<'_, '_>, texts: &mut Vec<String>) {
    let status = new.field("status");
    let balancer = status.field("loadBalancer");
    for one in balancer.field("ingress").items() {
        let ip = one.field("ip");
        texts.extend(addresses::ip_warning(&ip.path(), ip.text()));
    }
}

/// A new `Ingress` that names its class as of old.
pub(crate) fn ingress(new: &Node<'_, '_>, old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    const CLASS: &str = "kubernetes.io/ingress.class";
    let metadata = new.field("metadata");
    let annotated = metadata.field("annotations").map().is_some_and(|map| map.contains_key(CLASS));
    if old.is_none() && annotated && new.field("spec").field("ingressClassName").is_unset() {
        texts.push(format!("annotation {CLASS:?} is deprecated, please use 'spec.ingressClassName' instead"));
    }
}

/// A `NetworkPolicy`.
pub(crate) fn network_policy(new: &Node<'_, '_>, _old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    let spec = new.field("spec");
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.field(direction).items() {
            for peer in rule.field(peers).items() {
                let block = peer.field("ipBlock");
                let cidr = block.field("cidr");
                texts.extend(addresses::cidr_warnings(&cidr.path(), cidr.text()));
                for except in block.field("except").items() {
                    texts.extend(addresses::cidr_warnings(&except.path(), except.text()));
                }
            }
        }
    }
}

/// An `EndpointSlice`. Our own controllers spell addresses well.
pub(crate) fn endpoint_slice(new: &Node<'_, '_>, _old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    const OURS: [&str; 2] = ["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"];
    let kind = new.field("addressType").text();
    if kind == "FQDN" {
        texts.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
    }
    if kind == "FQDN" || OURS.contains(&manager(new, "endpointslice.kubernetes.io/managed-by")) {
        return;
    }
    for endpoint in new.field("endpoints").items() {
        for address in endpoint.field("addresses").items() {
            texts.extend(addresses::ip_warning(&address.path(), address.text()));
        }
    }
}

/// `Endpoints`.
pub(crate) fn endpoints(new: &Node<'_, '_>, _old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    if manager(new, "endpoints.kubernetes.io/managed-by") == "endpoint-controller" {
        return;
    }
    for subset in new.field("subsets").items() {
        for list in ["addresses", "notReadyAddresses"] {
            for address in subset.field(list).items() {
                let ip = address.field("ip");
                texts.extend(addresses::ip_warning(&ip.path(), ip.text()));
            }
        }
    }
}

/// Who says in a label that it looks after an object.
fn manager<'v>(object: &Node<'_, 'v>, label: &str) -> &'v str {
    let labels = object.map().and_then(|fields| fields.get("metadata")?.get("labels"));
    labels.and_then(|labels| labels.get(label)).and_then(Value::as_str).unwrap_or("")
}

/// A `ServiceAccount`.
pub(crate) fn service_account(new: &Node<'_, '_>, _old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";
    let metadata = new.field("metadata");
    if metadata.field("annotations").map().is_some_and(|map| map.contains_key(ENFORCE)) {
        texts.push(format!(
            "metadata.annotations[{ENFORCE}]: deprecated in v1.32+; prefer separate namespaces to isolate access to \
             mounted secrets"
        ));
    }
}

/// A `Secret` that is not the pair it says it is.
pub(crate) fn secret(new: &Node<'_, '_>, old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    if new.field("type").text() != "kubernetes.io/tls"
        || old.is_some_and(|old| old.field("data").value() == new.field("data").value())
    {
        return;
    }
    let data = new.field("data");
    texts.extend(certificate_wrong(&pem_types(data.field("tls.crt").text())));
    if texts.is_empty() {
        texts.extend(key_wrong(&pem_types(data.field("tls.key").text())));
    }
}

/// The types of the PEM blocks in a value of a `Secret`.
fn pem_types(encoded: &str) -> Vec<String> {
    use base64::Engine as _;
    let standard = base64::engine::general_purpose::STANDARD;
    let bytes = standard.decode(encoded).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mut types = Vec::new();
    let mut rest: &str = &text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        rest = after;
        let Some((kind, body)) = after.split_once("-----") else { break };
        let Some((body, after)) = body.split_once(&format!("-----END {kind}-----")) else { continue };
        let plain: String = body.chars().filter(|c| !c.is_whitespace()).collect();
        if standard.decode(plain).is_ok() {
            types.push(kind.to_owned());
            rest = after;
        }
    }
    types
}

fn certificate_wrong(types: &[String]) -> Option<String> {
    match types {
        _ if types.iter().any(|kind| kind == "CERTIFICATE") => None,
        [] => Some("tls: failed to find any PEM data in certificate input".to_owned()),
        [one] if one.ends_with("PRIVATE KEY") => Some(
            "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may \
             have been switched"
                .to_owned(),
        ),
        _ => Some(format!(
            "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the \
             following types: [{}]",
            types.join(" ")
        )),
    }
}

fn key_wrong(types: &[String]) -> Option<String> {
    match types {
        _ if types.iter().any(|kind| kind == "PRIVATE KEY" || kind.ends_with(" PRIVATE KEY")) => None,
        [] => Some("tls: failed to find any PEM data in key input".to_owned()),
        [one] if one == "CERTIFICATE" => {
            Some("tls: found a certificate rather than a key in the PEM for the private key".to_owned())
        }
        _ => Some(format!(
            "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM blocks of \
             the following types: [{}]",
            types.join(" ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use serde_json::json;

    use super::super::kind::Warn;
    use super::*;

    fn check(warn: Warn, new: &Value, old: Option<&Value>, want: &[&str]) {
        let mut texts = Vec::new();
        let old = old.map(|old| Node::root(old.as_object().expect("an object")));
        warn(&Node::root(new.as_object().expect("an object")), old.as_ref(), &mut texts);
        assert_eq!(texts, want);
    }

    #[test]
    fn names_of_pods_are_names_of_hosts() {
        let pod = json!({"metadata": {"name": "a.b"}});
        check(
            super::pod,
            &pod,
            None,
            &[
                "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]",
            ],
        );
        check(super::pod, &pod, Some(&pod), &[]);
    }

    #[test]
    fn an_annotation_without_its_field_is_told() {
        let name = "container.apparmor.security.beta.kubernetes.io/c";
        let text = "metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: deprecated since v1.30; use the \"appArmorProfile\" field instead";
        let pod = |profile: Value| {
            json!({"metadata": {"name": "p", "annotations": {name: "unconfined"}}, "spec": {
                "securityContext": profile, "containers": [{"name": "c"}]}})
        };
        let told = |pod: Value| {
            let mut texts = Vec::new();
            app_armor(&Node::root(pod.as_object().expect("an object")), &mut texts);
            texts
        };
        assert_eq!(told(pod(json!({}))), [text]);
        assert_eq!(told(pod(json!({"appArmorProfile": {"type": "Unconfined"}}))), Vec::<String>::new());
    }

    #[test]
    fn only_what_is_new_is_told_of_templates() {
        let text = "spec.template.spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+";
        let workload_of = |generation: i64| {
            json!({"metadata": {"name": "w", "generation": generation},
                "spec": {"template": {"spec": {"volumes": [{"name": "v", "gitRepo": {}}]}}}})
        };
        check(workload, &workload_of(1), None, &[text]);
        check(workload, &workload_of(2), Some(&workload_of(1)), &[text]);
        check(workload, &workload_of(1), Some(&workload_of(1)), &[]);
    }

    #[test]
    fn fields_of_services_that_do_nothing_are_told() {
        let check = |spec: Value, want: &[&str]| check(service, &json!({"spec": spec}), None, want);
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

    #[test]
    fn secrets_without_certificate_or_key_are_told() {
        let pem = |kind: &str| {
            let text = format!("-----BEGIN {kind}-----\nAAAA\n-----END {kind}-----\n");
            base64::engine::general_purpose::STANDARD.encode(text)
        };
        let secret_of = |certificate: &str, key: &str| json!({"type": "kubernetes.io/tls", "data": {"tls.crt": certificate, "tls.key": key}});
        let (certificate, key) = (pem("CERTIFICATE"), pem("RSA PRIVATE KEY"));
        for (secret, want) in [
            (secret_of(&certificate, &key), vec![]),
            (secret_of("", ""), vec!["tls: failed to find any PEM data in certificate input"]),
            (secret_of(&certificate, ""), vec!["tls: failed to find any PEM data in key input"]),
            (
                secret_of(&key, &certificate),
                vec![
                    "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched",
                ],
            ),
            (
                secret_of(&certificate, &certificate),
                vec!["tls: found a certificate rather than a key in the PEM for the private key"],
            ),
        ] {
            check(super::secret, &secret, None, &want);
        }
    }

    #[test]
    fn deprecated_ways_are_told() {
        check(
            ingress,
            &json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "c"}}, "spec": {}}),
            None,
            &["annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"],
        );
        check(
            endpoint_slice,
            &json!({"addressType": "FQDN"}),
            None,
            &["spec.addressType: FQDN endpoints are deprecated"],
        );
        check(
            service_account,
            &json!({"metadata": {"annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}}}),
            None,
            &[
                "metadata.annotations[kubernetes.io/enforce-mountable-secrets]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets",
            ],
        );
    }
}
