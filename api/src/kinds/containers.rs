//! Rules for containers: names, images, ports, environment, mounts.

use std::collections::HashSet;

use serde_json::Value;

use super::probes;
use super::resources;
use super::rules;
use super::security;
use super::tree::{Errors, Node};
use super::{meta, volumes};

/// What containers of a pod refer to.
pub(crate) struct Context<'a> {
    pub(crate) volumes: &'a volumes::Names<'a>,
    pub(crate) claims: &'a HashSet<&'a str>,
    pub(crate) host_network: bool,
    /// Pods themselves are held to more than pod templates.
    pub(crate) is_pod: bool,
}

/// `containers` and `initContainers`: every container, and that their names differ.
pub(crate) fn all(spec: &Node<'_, '_>, context: &Context<'_>, errors: &mut Errors) {
    let (main, init) = (spec.field("containers"), spec.field("initContainers"));
    if main.list().is_empty() {
        errors.required(&main, "");
    }
    let mut names = HashSet::new();
    for container in main.items() {
        one(&container, context, errors);
        unique_name(&container, &mut names, errors);
        lifecycle_and_probes(&container, errors);
    }
    host_ports(&main, errors);
    for container in init.items() {
        one(&container, context, errors);
        unique_name(&container, &mut names, errors);
        init_container(&container, errors);
    }
    let ephemeral = spec.field("ephemeralContainers");
    for container in ephemeral.items() {
        one(&container, context, errors);
        unique_name(&container, &mut names, errors);
        ephemeral_container(&container, errors);
    }
}

fn unique_name<'v>(container: &Node<'_, 'v>, names: &mut HashSet<&'v str>, errors: &mut Errors) {
    let name = container.field("name");
    if !name.text().is_empty() && !names.insert(name.text()) {
        errors.duplicate(&name);
    }
}

fn init_container(container: &Node<'_, '_>, errors: &mut Errors) {
    const ALWAYS: &str = "may not be set for init containers without restartPolicy=Always";
    let policy = container.field("restartPolicy");
    if policy.text() == "Always" {
        lifecycle_and_probes(container, errors);
        return;
    }
    for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        let field = container.field(key);
        if field.is_set() {
            errors.forbidden(&field, ALWAYS);
        }
    }
}

fn ephemeral_container(container: &Node<'_, '_>, errors: &mut Errors) {
    for key in ["ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "resizePolicy"] {
        let field = container.field(key);
        if field.is_set() {
            errors.forbidden(&field, "cannot be set for an Ephemeral Container");
        }
    }
    let resources = container.field("resources");
    if resources.map().is_some_and(|map| !map.is_empty()) {
        errors.forbidden(&resources, "cannot be set for an Ephemeral Container");
    }
}

fn lifecycle_and_probes(container: &Node<'_, '_>, errors: &mut Errors) {
    probes::lifecycle(&container.field("lifecycle"), errors);
    probes::liveness(&container.field("livenessProbe"), errors);
    probes::readiness(&container.field("readinessProbe"), errors);
    probes::liveness(&container.field("startupProbe"), errors);
}

fn one(container: &Node<'_, '_>, context: &Context<'_>, errors: &mut Errors) {
    let (name, image) = (container.field("name"), container.field("image"));
    if errors.require_text(&name) {
        errors.invalid_all(&name, rules::label(name.text()));
    }
    if image.text().is_empty() {
        errors.required(&image, "");
    } else if context.is_pod && image.text().trim() != image.text() {
        errors.invalid(&image, "must not have leading or trailing whitespace");
    }
    let termination = container.field("terminationMessagePolicy");
    if errors.require_text(&termination) {
        errors.one_of(&termination, &["FallbackToLogsOnError", "File"]);
    }
    let pull = container.field("imagePullPolicy");
    if errors.require_text(&pull) {
        errors.one_of(&pull, &["Always", "IfNotPresent", "Never"]);
    }
    ports(&container.field("ports"), context.host_network, errors);
    environment(&container.field("env"), errors);
    environment_sources(&container.field("envFrom"), errors);
    mounts(container, context, errors);
    resources::requirements(&container.field("resources"), context.claims, errors);
    restart_policy(container, errors);
    resize_policy(&container.field("resizePolicy"), errors);
    security::container(&container.field("securityContext"), errors);
}

fn restart_policy(container: &Node<'_, '_>, errors: &mut Errors) {
    errors.none_or_one_of(&container.field("restartPolicy"), &["Always", "Never", "OnFailure"]);
}

fn resize_policy(at: &Node<'_, '_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for policy in at.items() {
        let (name, restart) = (policy.field("resourceName"), policy.field("restartPolicy"));
        if name.text().is_empty() {
            errors.required(&name, "");
        } else {
            errors.one_of(&name, &["cpu", "memory"]);
        }
        if restart.text().is_empty() {
            errors.required(&restart, "");
        } else {
            errors.one_of(&restart, &["NotRequired", "RestartContainer"]);
        }
        if !seen.insert(name.text()) {
            errors.duplicate_value(&policy, name.text());
        }
    }
}

fn ports(at: &Node<'_, '_>, host_network: bool, errors: &mut Errors) {
    let mut names = HashSet::new();
    for port in at.items() {
        let (name, number) = (port.field("name"), port.field("containerPort"));
        if !name.text().is_empty() {
            let wrong = rules::port_name(name.text());
            if wrong.is_empty() && !names.insert(name.text()) {
                errors.duplicate(&name);
            }
            errors.invalid_all(&name, wrong);
        }
        if number.number() == 0 {
            errors.required(&number, "");
        } else {
            meta::port_number(&number, errors);
        }
        let host = port.field("hostPort");
        if host.number() != 0 {
            meta::port_number(&host, errors);
        }
        if host_network && host.number() != number.number() {
            errors.invalid_value(&host, host.number(), "must match `containerPort` when `hostNetwork` is true");
        }
        let protocol = port.field("protocol");
        if errors.require_text(&protocol) {
            errors.one_of(&protocol, &["SCTP", "TCP", "UDP"]);
        }
    }
}

/// Two containers of a pod cannot listen on the same port of the node.
fn host_ports(containers: &Node<'_, '_>, errors: &mut Errors) {
    let mut taken = HashSet::new();
    for container in containers.items() {
        for port in container.field("ports").items() {
            let host = port.field("hostPort");
            if host.number() == 0 {
                continue;
            }
            let key = format!("{}/{}/{}", port.field("protocol").text(), port.field("hostIP").text(), host.number());
            if !taken.insert(key.clone()) {
                errors.duplicate_value(&host, key);
            }
        }
    }
}

fn environment(at: &Node<'_, '_>, errors: &mut Errors) {
    for variable in at.items() {
        let name = variable.field("name");
        if errors.require_text(&name) {
            errors.invalid_all(&name, rules::environment_name(name.text()));
        }
        let source = variable.field("valueFrom");
        if source.is_set() {
            value_source(&source, !variable.field("value").text().is_empty(), errors);
        }
    }
}

fn value_source(at: &Node<'_, '_>, has_value: bool, errors: &mut Errors) {
    let mut count = 0;
    for (key, rule) in [
        ("fieldRef", field_reference as fn(&Node<'_, '_>, &mut Errors)),
        ("resourceFieldRef", resource_reference),
        ("configMapKeyRef", key_reference),
        ("secretKeyRef", key_reference),
        ("fileKeyRef", file_reference),
    ] {
        let source = at.field(key);
        if source.is_set() {
            count += 1;
            rule(&source, errors);
        }
    }
    if count == 0 {
        let text =
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.invalid_value(at, "", text);
    } else if has_value {
        errors.invalid_value(at, "", "may not be specified when `value` is not empty");
    } else if count > 1 {
        errors.invalid_value(at, "", "may not have more than one field specified at a time");
    }
}

/// Fields that environment variables can show.
const ENVIRONMENT_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields that files can show.
const FILE_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
/// Fields of pods that can be named at all.
const KNOWN_FIELDS: [&str; 10] = [
    "metadata.annotations",
    "metadata.labels",
    "spec.host",
    "spec.hostNetwork",
    "spec.restartPolicy",
    "spec.schedulerName",
    "status.nominatedNodeName",
    "status.phase",
    "metadata.name",
    "metadata.namespace",
];

fn field_reference(at: &Node<'_, '_>, errors: &mut Errors) {
    field_selector(at, &ENVIRONMENT_FIELDS, errors);
}

/// A reference to a field of the pod, for files of the downward API.
pub(crate) fn file_field_reference(at: &Node<'_, '_>, errors: &mut Errors) {
    field_selector(at, &FILE_FIELDS, errors);
}

fn field_selector(at: &Node<'_, '_>, allowed: &[&str], errors: &mut Errors) {
    let (version, path) = (at.field("apiVersion"), at.field("fieldPath"));
    if !errors.require_text(&version) || !errors.require_text(&path) {
        return;
    }
    let text = path.text();
    if let Some((map, key)) = text.strip_suffix("']").and_then(|text| text.split_once("['")) {
        match map {
            "metadata.annotations" => errors.invalid_all(&path, rules::qualified_name(&key.to_lowercase())),
            "metadata.labels" => errors.invalid_all(&path, rules::qualified_name(key)),
            _ => errors.invalid_value(&path, map, "does not support subscript"),
        }
        return;
    }
    if allowed.contains(&text) {
        return;
    }
    if ENVIRONMENT_FIELDS.contains(&text) || KNOWN_FIELDS.contains(&text) {
        errors.not_supported(&path, allowed);
    } else {
        errors.invalid(&path, &format!("error converting fieldPath: field label not supported: {text}"));
    }
}

/// A reference to a resource of a container, in the environment of that container.
fn resource_reference(at: &Node<'_, '_>, errors: &mut Errors) {
    resource_selector(at, errors);
}

/// A reference to a resource of a container, for files of the downward API.
pub(crate) fn file_resource_reference(at: &Node<'_, '_>, errors: &mut Errors) {
    errors.require_text(&at.field("containerName"));
    resource_selector(at, errors);
}

fn resource_selector(at: &Node<'_, '_>, errors: &mut Errors) {
    let resource = at.field("resource");
    if !errors.require_text(&resource) {
        return;
    }
    const KNOWN: [&str; 6] = [
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    let text = resource.text();
    let huge = text.starts_with("limits.hugepages-") || text.starts_with("requests.hugepages-");
    if !KNOWN.contains(&text) && !huge {
        errors.not_supported(&resource, &KNOWN);
    }
    resources::divisor(text, &at.field("divisor"), errors);
}

fn key_reference(at: &Node<'_, '_>, errors: &mut Errors) {
    let (name, key) = (at.field("name"), at.field("key"));
    for why in rules::subdomain(name.text()) {
        errors.invalid_value(&name, name.text(), &why);
    }
    if errors.require_text(&key) {
        errors.invalid_all(&key, rules::config_map_key(key.text()));
    }
}

fn file_reference(at: &Node<'_, '_>, errors: &mut Errors) {
    let (key, path) = (at.field("key"), at.field("path"));
    errors.require_text(&at.field("volumeName"));
    if errors.require_text(&key) {
        errors.invalid_all(&key, rules::environment_name(key.text()));
    }
    if errors.require_text(&path) {
        volumes::descending_path(&path, errors);
    }
}

fn environment_sources(at: &Node<'_, '_>, errors: &mut Errors) {
    for source in at.items() {
        let prefix = source.field("prefix");
        if !prefix.text().is_empty() {
            errors.invalid_all(&prefix, rules::environment_name(prefix.text()));
        }
        let (map, secret) = (source.field("configMapRef"), source.field("secretRef"));
        for reference in [&map, &secret].into_iter().filter(|reference| reference.is_set()) {
            let name = reference.field("name");
            if errors.require_text(&name) {
                errors.invalid_all(&name, rules::subdomain_name(name.text(), true));
            }
        }
        // Upstream names the list here, not the element.
        match (map.is_set(), secret.is_set()) {
            (false, false) => errors.invalid_value(at, "", "must specify one of: `configMapRef` or `secretRef`"),
            (true, true) => errors.invalid_value(at, "", "may not have more than one field specified at a time"),
            _ => {}
        }
    }
}

fn mounts(container: &Node<'_, '_>, context: &Context<'_>, errors: &mut Errors) {
    let devices: HashSet<&str> =
        container.field("volumeDevices").list().iter().filter_map(|d| d.get("devicePath")?.as_str()).collect();
    let mut paths = HashSet::new();
    let list = container.field("volumeMounts");
    for mount in list.items() {
        let (name, path) = (mount.field("name"), mount.field("mountPath"));
        if errors.require_text(&name) && !context.volumes.contains(name.text()) {
            errors.not_found(&name);
        }
        if errors.require_text(&path) && !paths.insert(path.text()) {
            errors.invalid(&path, "must be unique");
        }
        if devices.contains(path.text()) {
            errors.invalid(&path, "must not already exist as a path in volumeDevices");
        }
        sub_path(&mount, errors);
        errors.none_or_one_of(&mount.field("mountPropagation"), &["Bidirectional", "HostToContainer", "None"]);
        recursive_read_only(&mount, errors);
        if mount.field("mountPropagation").text() == "Bidirectional"
            && !container.field("securityContext").field("privileged").is_true()
        {
            errors.forbidden(
                &mount.field("mountPropagation"),
                "Bidirectional mount propagation is available only to privileged containers",
            );
        }
    }
    volume_devices(container, context, &paths, errors);
}

fn sub_path(mount: &Node<'_, '_>, errors: &mut Errors) {
    let (plain, expression) = (mount.field("subPath"), mount.field("subPathExpr"));
    if !plain.text().is_empty() {
        volumes::descending_path(&plain, errors);
    }
    if !expression.text().is_empty() {
        if !plain.text().is_empty() {
            errors.invalid(&expression, "subPathExpr and subPath are mutually exclusive");
        }
        volumes::descending_path(&expression, errors);
    }
}

fn recursive_read_only(mount: &Node<'_, '_>, errors: &mut Errors) {
    let recursive = mount.field("recursiveReadOnly");
    match recursive.value().and_then(Value::as_str) {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if !mount.field("readOnly").is_true() {
                errors.forbidden(&recursive, "may only be specified when readOnly is true");
            }
            if !matches!(mount.field("mountPropagation").text(), "" | "None") {
                errors.forbidden(&recursive, "may only be specified when mountPropagation is None or not specified");
            }
        }
        Some(_) => errors.not_supported(&recursive, &["Disabled", "Enabled", "IfPossible"]),
    }
}

fn volume_devices(container: &Node<'_, '_>, context: &Context<'_>, mounted: &HashSet<&str>, errors: &mut Errors) {
    let (mut names, mut paths) = (HashSet::new(), HashSet::new());
    for device in container.field("volumeDevices").items() {
        let (name, path) = (device.field("name"), device.field("devicePath"));
        if errors.require_text(&name) {
            if !names.insert(name.text()) {
                errors.invalid(&name, "must be unique");
            }
            if !context.volumes.contains(name.text()) {
                errors.not_found(&name);
            } else if !context.volumes.is_claim(name.text()) {
                errors.invalid(
                    &name,
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
                );
            }
        }
        if errors.require_text(&path) {
            if !paths.insert(path.text()) {
                errors.invalid(&path, "must be unique");
            }
            if mounted.contains(path.text()) {
                errors.invalid(&path, "must not already exist as a path in volumeMounts");
            }
            volumes::no_back_steps(&path, errors);
        }
    }
}
