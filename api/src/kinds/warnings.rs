//! Texts that warn a client of deprecated or doubtful fields, without refusing them.

use std::collections::HashSet;

use super::rules;
use super::tree::Node;

/// A `Pod`.
pub(crate) fn pod(new: &Node<'_, '_>, old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    if old.is_some() {
        return;
    }
    let spec = new.field("spec");
    pod_spec(&spec, texts);
}

/// A kind with a pod template at `spec.template`.
pub(crate) fn workload(new: &Node<'_, '_>, old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    if old.is_none() {
        pod_name(new, texts);
    }
    let changed = old
        .is_none_or(|old| old.field("spec").field("template").value() != new.field("spec").field("template").value());
    if changed {
        let spec = new.field("spec");
        let template = spec.field("template");
        pod_spec(&template.field("spec"), texts);
    }
}

/// A `CronJob`.
pub(crate) fn cron_job(new: &Node<'_, '_>, old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    if old.is_some() {
        return;
    }
    pod_name(new, texts);
    let spec = new.field("spec");
    let job = spec.field("jobTemplate");
    let job_spec = job.field("spec");
    let template = job_spec.field("template");
    pod_spec(&template.field("spec"), texts);
}

/// Names of these kinds become names of pods, and so of hosts.
fn pod_name(new: &Node<'_, '_>, texts: &mut Vec<String>) {
    let metadata = new.field("metadata");
    let name = metadata.field("name").text();
    let mut wrong = rules::label(name);
    if wrong.is_empty() {
        return;
    }
    if name.contains('.') && rules::subdomain(name).is_empty() {
        wrong.retain(|why| why.starts_with("must be no more"));
        wrong.push("must not contain dots".to_owned());
    }
    texts.push(format!(
        "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; \
         a DNS label is recommended: [{}]",
        wrong.join(" ")
    ));
}

fn pod_spec(spec: &Node<'_, '_>, texts: &mut Vec<String>) {
    for term in spec.field("topologySpreadConstraints").items() {
        if term.field("labelSelector").is_unset() {
            texts.push(format!(
                "{}: a null labelSelector results in matching no pod",
                term.field("labelSelector").path()
            ));
        }
    }
    deprecated_volumes(&spec.field("volumes"), texts);
    for list in ["initContainers", "containers"] {
        for container in spec.field(list).items() {
            duplicate_environment(&container.field("env"), texts);
        }
    }
    duplicate_ports(&spec.field("containers"), texts);
    for secret in spec.field("imagePullSecrets").items() {
        if secret.field("name").text().is_empty() {
            texts.push(format!("{}: invalid empty name {:?}", secret.field("name").path(), ""));
        }
    }
    duplicate_aliases(&spec.field("hostAliases"), texts);
}

fn deprecated_volumes(volumes: &Node<'_, '_>, texts: &mut Vec<String>) {
    const GONE: [(&str, &str); 7] = [
        ("gitRepo", "deprecated in v1.11"),
        ("glusterfs", "deprecated in v1.25, this feature will be removed completely in a future release"),
        ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
        ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
        ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
        ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
        ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ];
    for volume in volumes.items() {
        for (source, text) in GONE {
            if volume.field(source).is_set() {
                texts.push(format!("{}: {text}", volume.field(source).path()));
            }
        }
    }
}

fn duplicate_environment(list: &Node<'_, '_>, texts: &mut Vec<String>) {
    let mut names = HashSet::new();
    for variable in list.items() {
        let name = variable.field("name").text();
        if names.insert(name) {
            continue;
        }
        texts.push(format!(
            "{}: hides previous definition of {name:?}, which may be dropped when using apply",
            variable.path()
        ));
    }
}

fn duplicate_ports(containers: &Node<'_, '_>, texts: &mut Vec<String>) {
    for container in containers.items() {
        let mut seen: Vec<(i64, &str, String)> = Vec::new();
        for port in container.field("ports").items() {
            let key = (port.field("containerPort").number(), port.field("protocol").text());
            if let Some((.., first)) = seen.iter().find(|(number, protocol, _)| (*number, *protocol) == key) {
                texts.push(format!("{}: duplicate port definition with {first}", port.path()));
            } else {
                seen.push((key.0, key.1, port.path().to_string()));
            }
        }
    }
}

fn duplicate_aliases(list: &Node<'_, '_>, texts: &mut Vec<String>) {
    let mut seen = HashSet::new();
    for alias in list.items() {
        let ip = alias.field("ip").text();
        if !seen.insert(ip) {
            texts.push(format!("{}: duplicate ip {ip:?}", alias.field("ip").path()));
        }
    }
}

/// A `Secret` that is not the pair it says it is.
pub(crate) fn secret(new: &Node<'_, '_>, old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    use base64::Engine as _;
    if new.field("type").text() != "kubernetes.io/tls"
        || old.is_some_and(|old| old.field("data").value() == new.field("data").value())
    {
        return;
    }
    let data = new.field("data");
    for (key, what) in [("tls.crt", "certificate"), ("tls.key", "key")] {
        let bytes = base64::engine::general_purpose::STANDARD.decode(data.field(key).text()).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let label = if key == "tls.crt" { "-----BEGIN CERTIFICATE-----" } else { "PRIVATE KEY-----" };
        if !text.contains(label) {
            texts.push(format!("tls: failed to find any PEM data in {what} input"));
            return;
        }
    }
}

/// The storage class of a claim or volume was once an annotation.
pub(crate) fn storage_class_annotation(new: &Node<'_, '_>, _old: Option<&Node<'_, '_>>, texts: &mut Vec<String>) {
    const ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
    let metadata = new.field("metadata");
    let annotations = metadata.field("annotations");
    if annotations.map().is_some_and(|map| map.contains_key(ANNOTATION)) {
        texts.push(format!(
            "metadata.annotations[{ANNOTATION}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
        ));
    }
}
