//! Texts that warn of what is doubtful in a pod, or in the pods of a template, without refusing it.

use std::collections::{BTreeMap, HashSet};

use super::annotations;
use super::volumes::warn;
use crate::kinds::rules::tree::Node;
use crate::kinds::rules::{addresses, doubts, naming};

/// The metadata and spec of a pod or template; `at` is the template, or the pod itself.
pub(crate) fn all(at: &Node<'_, '_>, is_template: bool, texts: &mut Vec<String>) {
    let (metadata, spec) = (at.field("metadata"), at.field("spec"));
    let annotations = metadata.field("annotations");
    doubts::node_labels(&spec, texts);
    deprecated_annotations(&annotations, texts);
    warn::of_pod(&spec.field("volumes"), texts);
    names(&spec, texts);
    fractions(&spec.field("overhead"), texts);
    profiles(&annotations, &spec, is_template, texts);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec.field(list).items() {
            let resources = container.field("resources");
            fractions(&resources.field("limits"), texts);
            fractions(&resources.field("requests"), texts);
            environment(&container.field("env"), texts);
        }
    }
    ports(&spec, texts);
    let grace = spec.field("terminationGracePeriodSeconds");
    if grace.number() < 0 {
        texts.push(format!("{}: must be >= 0; negative values are invalid and will be treated as 1", grace.path()));
    }
    unselective(&spec.field("affinity"), texts);
}

fn unselective(affinity: &Node<'_, '_>, texts: &mut Vec<String>) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let terms = affinity.field(kind);
        for term in terms.field("requiredDuringSchedulingIgnoredDuringExecution").items() {
            doubts::no_selector(&term.field("labelSelector"), texts);
        }
        for weighted in terms.field("preferredDuringSchedulingIgnoredDuringExecution").items() {
            doubts::no_selector(&weighted.field("podAffinityTerm").field("labelSelector"), texts);
        }
    }
}

fn deprecated_annotations(at: &Node<'_, '_>, texts: &mut Vec<String>) {
    const GONE: [(&str, &str); 3] = [
        (
            "scheduler.alpha.kubernetes.io/critical-pod",
            "non-functional in v1.16+; use the \"priorityClassName\" field instead",
        ),
        ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
        ("security.alpha.kubernetes.io/unsafe-sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    ];
    for (name, text) in GONE {
        if at.map().is_some_and(|map| map.contains_key(name)) {
            texts.push(format!("{}: {text}", at.key(name).path()));
        }
    }
}

/// Names and addresses that come twice, are empty, or are spelled in an unusual way.
fn names(spec: &Node<'_, '_>, texts: &mut Vec<String>) {
    let mut seen = HashSet::new();
    for alias in spec.field("hostAliases").items() {
        let ip = alias.field("ip");
        if !seen.insert(ip.text()) {
            texts.push(format!("{}: duplicate ip {:?}", ip.path(), ip.text()));
        }
        texts.extend(addresses::ip_warning(&ip.path(), ip.text()));
    }
    let mut seen = HashSet::new();
    for secret in spec.field("imagePullSecrets").items() {
        let name = secret.field("name");
        if !seen.insert(name.text()) {
            texts.push(format!("{}: duplicate name {:?}", name.path(), name.text()));
        }
        if name.text().is_empty() {
            texts.push(format!("{}: invalid empty name {:?}", name.path(), ""));
        }
    }
    let dns = spec.field("dnsConfig");
    for server in dns.field("nameservers").items() {
        texts.extend(addresses::ip_warning(&server.path(), server.text()));
    }
}

/// Bytes are whole.
fn fractions(at: &Node<'_, '_>, texts: &mut Vec<String>) {
    for (name, quantity) in at.entries().filter(|(name, _)| matches!(*name, "memory" | "ephemeral-storage")) {
        doubts::fraction(&at.key(name), &quantity, texts);
    }
}

/// Profiles that are given as annotations only.
fn profiles(annotations: &Node<'_, '_>, spec: &Node<'_, '_>, is_template: bool, texts: &mut Vec<String>) {
    let context = spec.field("securityContext");
    let mut tell = |name: &str, text: &str| {
        if let Some((name, _)) = annotations.entries().find(|(known, _)| *known == name) {
            texts.push(format!("{}: {text}", annotations.key(name).path()));
        }
    };
    const SECCOMP: &str = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
    const APP_ARMOR: &str = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
    if context.field("seccompProfile").is_unset() {
        tell(annotations::SECCOMP_POD, SECCOMP);
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec.field(list).items() {
            let (name, own) = (container.field("name").text(), container.field("securityContext"));
            if own.field("seccompProfile").is_unset() {
                tell(&format!("{}{name}", annotations::SECCOMP_CONTAINER), SECCOMP);
            }
            // Of pods themselves this is told when the annotation becomes the field.
            if is_template && context.field("appArmorProfile").is_unset() && own.field("appArmorProfile").is_unset() {
                tell(&format!("{}{name}", annotations::APP_ARMOR), APP_ARMOR);
            }
        }
    }
}

/// A variable that comes twice hides the first one, unless it is made of it.
fn environment(list: &Node<'_, '_>, texts: &mut Vec<String>) {
    let mut names = HashSet::new();
    for variable in list.items() {
        let (name, value) = (variable.field("name").text(), variable.field("value").text());
        let reference = format!("$({name})");
        let hides = variable.field("valueFrom").is_set() || value == reference || !value.contains(&reference);
        if !names.insert(name) && hides {
            texts.push(format!(
                "{}: hides previous definition of {name:?}, which may be dropped when using apply",
                variable.path()
            ));
        }
    }
}

/// A port of a container, and where it is.
struct Port<'v> {
    path: String,
    host_ip: &'v str,
    host_port: i64,
}

/// Ports of all containers together that are the same, or could be.
fn ports(spec: &Node<'_, '_>, texts: &mut Vec<String>) {
    let mut all: BTreeMap<(i64, &str), Vec<Port<'_>>> = BTreeMap::new();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec.field(list).items() {
            for at in container.field("ports").items() {
                let (number, protocol) = (at.field("containerPort").number(), at.field("protocol").text());
                let port = Port {
                    path: at.path().to_string(),
                    host_ip: at.field("hostIP").text(),
                    host_port: at.field("hostPort").number(),
                };
                if !port.host_ip.is_empty() && port.host_port == 0 {
                    let (path, name, ip) = (&port.path, at.field("name").text(), port.host_ip);
                    texts.push(format!(
                        "{path}: hostIP set without hostPort: \
                         {{Name:{name} HostPort:0 ContainerPort:{number} Protocol:{protocol} HostIP:{ip}}}"
                    ));
                }
                let others = all.entry((number, protocol)).or_default();
                for other in others.iter() {
                    texts.extend(
                        likeness(&port, other)
                            .map(|how| format!("{}: {how} port definition with {}", port.path, other.path)),
                    );
                }
                others.push(port);
            }
        }
    }
}

/// How much two ports of the same number and protocol are alike.
fn likeness(one: &Port<'_>, other: &Port<'_>) -> Option<&'static str> {
    if one.host_ip == other.host_ip && one.host_port == other.host_port {
        Some("duplicate")
    } else if one.host_port == 0 || other.host_port == 0 {
        Some("overlapping")
    } else if one.host_port == other.host_port && one.host_ip.is_empty() != other.host_ip.is_empty() {
        Some("dangerously ambiguous")
    } else {
        None
    }
}

/// Whether a client should hear of what is in the spec: when it is new, or has changed.
pub(crate) fn is_news(new: &Node<'_, '_>, old: Option<&Node<'_, '_>>) -> bool {
    let generation = |object: &Node<'_, '_>| object.field("metadata").field("generation").number();
    old.is_none_or(|old| generation(new) != generation(old))
}

pub(crate) const PODS_AND_HOSTS: &str = "Pod names and hostnames";

/// Names that become names of pods, and so of hosts.
pub(crate) fn pod_name(metadata: &Node<'_, '_>, used_in: &str, texts: &mut Vec<String>) {
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::annotations::SECCOMP_POD;
    use super::*;

    fn check(pod: &Value, want: &[&str]) {
        let mut texts = Vec::new();
        all(&Node::root(pod.as_object().expect("an object")), false, &mut texts);
        assert_eq!(texts, want);
    }

    fn check_spec(spec: &Value, want: &[&str]) {
        check(&json!({"spec": spec}), want);
    }

    #[test]
    fn old_labels_of_nodes_have_new_names() {
        let term = json!({"matchExpressions": [{"key": "beta.kubernetes.io/os", "operator": "In", "values": ["a b"]}]});
        let spec = json!({
            "nodeSelector": {"beta.kubernetes.io/arch": "amd64"},
            "affinity": {"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]},
                "preferredDuringSchedulingIgnoredDuringExecution": [{"preference": {"matchExpressions": [
                    {"key": "a", "operator": "In", "values": ["a b"]}]}}],
            }},
            "topologySpreadConstraints": [{"topologyKey": "failure-domain.beta.kubernetes.io/zone"}],
        });
        let mut texts = Vec::new();
        all(&Node::root(json!({"spec": spec}).as_object().expect("an object")), false, &mut texts);
        assert_eq!(
            texts[0],
            "spec.nodeSelector[beta.kubernetes.io/arch]: deprecated since v1.14; use \"kubernetes.io/arch\" instead"
        );
        assert!(texts[1].ends_with(
            "matchExpressions[0].key: beta.kubernetes.io/os is deprecated since v1.14; use \"kubernetes.io/os\" instead"
        ));
        assert!(texts[2].contains("preference.matchExpressions[0].values[0]: a b is invalid, a valid label must"));
        assert!(texts[3].ends_with("use \"topology.kubernetes.io/zone\" instead"));
        assert_eq!(
            texts[4],
            "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod"
        );
        assert_eq!(texts.len(), 5);
    }

    #[test]
    fn what_comes_twice_is_told() {
        check_spec(
            &json!({"hostAliases": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.1"}],
                    "imagePullSecrets": [{"name": "a"}, {"name": "a"}, {}]}),
            &[
                "spec.hostAliases[1].ip: duplicate ip \"10.0.0.1\"",
                "spec.imagePullSecrets[1].name: duplicate name \"a\"",
                "spec.imagePullSecrets[2].name: invalid empty name \"\"",
            ],
        );
        check_spec(
            &json!({"containers": [{"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"},
                                           {"name": "A", "value": "2"}]}]}),
            &["spec.containers[0].env[2]: hides previous definition of \"A\", which may be dropped when using apply"],
        );
        let port = |host_port: i64, ip: &str| json!({"containerPort": 80, "protocol": "TCP", "hostPort": host_port, "hostIP": ip});
        check_spec(
            &json!({"containers": [{"ports": [port(0, "")]}, {"ports": [port(0, ""), port(90, "")]}]}),
            &[
                "spec.containers[1].ports[0]: duplicate port definition with spec.containers[0].ports[0]",
                "spec.containers[1].ports[1]: overlapping port definition with spec.containers[0].ports[0]",
                "spec.containers[1].ports[1]: overlapping port definition with spec.containers[1].ports[0]",
            ],
        );
        check_spec(
            &json!({"containers": [{"ports": [port(90, ""), port(90, "10.0.0.1"), port(0, "10.0.0.1")]}]}),
            &[
                "spec.containers[0].ports[1]: dangerously ambiguous port definition with spec.containers[0].ports[0]",
                "spec.containers[0].ports[2]: hostIP set without hostPort: {Name: HostPort:0 ContainerPort:80 Protocol:TCP HostIP:10.0.0.1}",
                "spec.containers[0].ports[2]: overlapping port definition with spec.containers[0].ports[0]",
                "spec.containers[0].ports[2]: overlapping port definition with spec.containers[0].ports[1]",
            ],
        );
    }

    #[test]
    fn doubtful_values_are_told() {
        check_spec(
            &json!({"terminationGracePeriodSeconds": -1, "containers": [{"resources": {"limits": {"memory": "100m"}}}],
                    "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}}),
            &[
                "spec.containers[0].resources.limits[memory]: fractional byte value \"100m\" is invalid, must be an integer",
                "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
                "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: a null labelSelector results in matching no pod",
            ],
        );
        check(
            &json!({"metadata": {"annotations": {SECCOMP_POD: "unconfined",
                    "scheduler.alpha.kubernetes.io/critical-pod": ""}}, "spec": {}}),
            &[
                "metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the \"priorityClassName\" field instead",
                "metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: non-functional in v1.27+; use the \"seccompProfile\" field instead",
            ],
        );
    }
}
