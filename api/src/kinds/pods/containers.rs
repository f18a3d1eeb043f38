//! Rules for containers: names, images, ports, restarts.

use std::collections::HashSet;

use super::context::Context;
use super::volumes::mounts;
use super::{environment, probes, requirements, security};
use crate::kinds::rules::tree::{Errors, Node};
use crate::kinds::rules::{naming, numbers};

/// `containers`, `initContainers` and `ephemeralContainers`: every container, and that their names differ.
pub(crate) fn all(spec: &Node<'_, '_>, context: &Context<'_>, errors: &mut Errors) {
    let (main, init) = (spec.field("containers"), spec.field("initContainers"));
    if main.list().is_empty() {
        errors.required(&main, "");
    }
    let mut names = HashSet::new();
    for container in main.items() {
        one(&container, context, errors);
        if !names.insert(container.field("name").text()) {
            errors.duplicate(&container.field("name"));
        }
        lifecycle_and_probes(&container, context, errors);
        restarts(&container, errors);
        plain_image(&container, context.is_pod, errors);
    }
    host_ports(main.items(), None, errors);
    for container in init.items() {
        one(&container, context, errors);
        let name = container.field("name");
        if names.contains(name.text()) {
            errors.duplicate(&name);
        } else if !name.text().is_empty() {
            names.insert(name.text());
        }
        // They run one by one; upstream reports each as if it were the first.
        host_ports(std::iter::once(container), Some(&init.index(0)), errors);
        init_container(&container, context, errors);
        plain_image(&container, context.is_pod, errors);
    }
    let others = names.clone();
    for container in spec.field("ephemeralContainers").items() {
        one(&container, context, errors);
        plain_image(&container, true, errors);
        if !names.insert(container.field("name").text()) {
            errors.duplicate(&container.field("name"));
        }
        ephemeral_container(&container, &others, errors);
    }
}

fn plain_image(container: &Node<'_, '_>, is_pod: bool, errors: &mut Errors) {
    let image = container.field("image");
    if is_pod && image.text().trim() != image.text() {
        errors.invalid(&image, "must not have leading or trailing whitespace");
    }
}

fn init_container(container: &Node<'_, '_>, context: &Context<'_>, errors: &mut Errors) {
    const ALWAYS: &str = "may not be set for init containers without restartPolicy=Always";
    restarts(container, errors);
    if container.field("restartPolicy").text() == "Always" {
        lifecycle_and_probes(container, context, errors);
        return;
    }
    for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        let field = container.field(key);
        if field.is_set() {
            errors.forbidden(&field, ALWAYS);
        }
    }
}

/// Ephemeral containers look into a pod and are no part of its work.
fn ephemeral_container(container: &Node<'_, '_>, others: &HashSet<&str>, errors: &mut Errors) {
    const NOT_HERE: &str = "cannot be set for an Ephemeral Container";
    let target = container.field("targetContainerName");
    if !target.text().is_empty() && !others.contains(target.text()) {
        errors.not_found(&target);
    }
    for key in [
        "ports",
        "resizePolicy",
        "restartPolicy",
        "restartPolicyRules",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
    ] {
        let field = container.field(key);
        if field.is_set() {
            errors.forbidden(&field, NOT_HERE);
        }
    }
    let resources = container.field("resources");
    if resources.map().is_some_and(|map| !map.is_empty()) {
        errors.forbidden(&resources, NOT_HERE);
    }
    for mount in container.field("volumeMounts").items() {
        for key in ["subPath", "subPathExpr"] {
            let field = mount.field(key);
            if !field.text().is_empty() {
                errors.forbidden(&field, NOT_HERE);
            }
        }
    }
}

fn lifecycle_and_probes(container: &Node<'_, '_>, context: &Context<'_>, errors: &mut Errors) {
    probes::lifecycle(&container.field("lifecycle"), context.grace, errors);
    probes::liveness(&container.field("livenessProbe"), errors);
    probes::readiness(&container.field("readinessProbe"), errors);
    probes::liveness(&container.field("startupProbe"), errors);
}

/// What every container is held to.
fn one(container: &Node<'_, '_>, context: &Context<'_>, errors: &mut Errors) {
    let name = container.field("name");
    if errors.require_text(&name) {
        errors.invalid_all(&name, naming::label(name.text()));
    }
    errors.require_text(&container.field("image"));
    let termination = container.field("terminationMessagePolicy");
    if errors.require_text(&termination) {
        errors.one_of(&termination, &["File", "FallbackToLogsOnError"]);
    }
    let pull = container.field("imagePullPolicy");
    if errors.require_text(&pull) {
        errors.one_of(&pull, &["Always", "IfNotPresent", "Never"]);
    }
    ports(&container.field("ports"), errors);
    environment::variables(&container.field("env"), errors);
    environment::sources(&container.field("envFrom"), errors);
    mounts::mounts(container, context, errors);
    mounts::devices(container, context, errors);
    requirements::of_container(&container.field("resources"), context.claims, errors);
    resize_policy(&container.field("resizePolicy"), context.restart_policy, errors);
    security::container(&container.field("securityContext"), context.host_users, errors);
}

/// When a container of its own accord starts again, other than its pod says.
fn restarts(container: &Node<'_, '_>, errors: &mut Errors) {
    let (policy, rules) = (container.field("restartPolicy"), container.field("restartPolicyRules"));
    errors.none_or_one_of(&policy, &["Always", "Never", "OnFailure"]);
    if policy.is_unset() && !rules.is_empty() {
        errors.required(&policy, "must specify restartPolicy when restart rules are used");
    }
    if rules.list().len() > 20 {
        errors.too_many(&rules, rules.list().len(), 20);
    }
    for rule in rules.items() {
        errors.one_of(&rule.field("action"), &["Restart", "RestartAllContainers"]);
        let codes = rule.field("exitCodes");
        if codes.is_unset() {
            errors.required(&codes, "must be specified");
            continue;
        }
        errors.one_of(&codes.field("operator"), &["In", "NotIn"]);
        let values = codes.field("values");
        if values.list().len() > 255 {
            errors.too_many(&values, values.list().len(), 255);
        }
    }
}

/// Upstream names the list for what is wrong in an element.
fn resize_policy(at: &Node<'_, '_>, restart_policy: &str, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for policy in at.items() {
        let (name, restart) = (policy.field("resourceName").text(), policy.field("restartPolicy").text());
        if !seen.insert(name) {
            errors.duplicate_value(&policy, name);
        }
        for (text, known) in [(name, ["cpu", "memory"]), (restart, ["NotRequired", "RestartContainer"])] {
            if text.is_empty() {
                errors.required(at, "");
            } else if !known.contains(&text) {
                errors.push(crate::FieldError::not_supported(&at.path(), text, &known));
            }
        }
        if restart_policy == "Never" && restart != "NotRequired" {
            errors.invalid_value(at, restart, "must be 'NotRequired' when `restartPolicy` is 'Never'");
        }
    }
}

fn ports(at: &Node<'_, '_>, errors: &mut Errors) {
    let mut names = HashSet::new();
    for port in at.items() {
        let (name, number) = (port.field("name"), port.field("containerPort"));
        if !name.text().is_empty() {
            let wrong = naming::port_name(name.text());
            if wrong.is_empty() && !names.insert(name.text()) {
                errors.duplicate(&name);
            }
            errors.invalid_all(&name, wrong);
        }
        if number.number() == 0 {
            errors.required(&number, "");
        } else {
            numbers::port_number(&number, errors);
        }
        let host = port.field("hostPort");
        if host.number() != 0 {
            numbers::port_number(&host, errors);
        }
        let protocol = port.field("protocol");
        if errors.require_text(&protocol) {
            errors.one_of(&protocol, &["SCTP", "TCP", "UDP"]);
        }
    }
}

/// Two containers of a pod cannot listen on the same port of the node. `shown` stands in for the container in paths.
fn host_ports<'a, 'v: 'a>(
    containers: impl Iterator<Item = Node<'a, 'v>>,
    shown: Option<&Node<'_, '_>>,
    errors: &mut Errors,
) {
    let mut taken = HashSet::new();
    for container in containers {
        for (index, port) in container.field("ports").items().enumerate() {
            let host = port.field("hostPort").number();
            if host == 0 {
                continue;
            }
            let key = format!("{}/{}/{host}", port.field("protocol").text(), port.field("hostIP").text());
            if !taken.insert(key.clone()) {
                let at = shown.unwrap_or(&container);
                errors.duplicate_value(&at.field("ports").index(index).field("hostPort"), key);
            }
        }
    }
}

/// Who shares the node's network has the node's ports. A template may leave them to the pods made of it.
pub(crate) fn host_network_ports(containers: &Node<'_, '_>, is_pod: bool, errors: &mut Errors) {
    for container in containers.items() {
        for port in container.field("ports").items() {
            let (host, own) = (port.field("hostPort"), port.field("containerPort").number());
            if (is_pod || host.number() != 0) && host.number() != own {
                errors.invalid_value(&host, host.number(), "must match `containerPort` when `hostNetwork` is true");
            }
        }
    }
}
