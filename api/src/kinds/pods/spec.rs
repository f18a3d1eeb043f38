//! Rules for pod specs, in pods and in templates.

use std::collections::HashSet;

use super::context::Context;
use super::volumes::{self, Owner};
use super::{affinity, annotations, containers, requirements, security, shown, windows};
use crate::kinds::rules::tree::{Errors, Node};
use crate::kinds::rules::{addresses, labels, naming, union};

/// A `PodTemplateSpec`.
pub(crate) fn template(at: &Node<'_, '_>, errors: &mut Errors) {
    template_of(at, None, errors);
}

/// The `PodTemplateSpec` of a StatefulSet, whose claims are volumes of its pods. It names its pods and their domain
/// itself: `hostname` and `subdomain` of the template mean nothing and may be anything.
pub(crate) fn template_with_claims<'v>(at: &Node<'_, 'v>, claims: &Node<'_, 'v>, errors: &mut Errors) {
    template_of(at, Some(claims), errors);
}

/// Upstream's paths of labels and annotations leave the metadata out.
fn template_of<'v>(at: &Node<'_, 'v>, claims: Option<&Node<'_, 'v>>, errors: &mut Errors) {
    let metadata = at.field("metadata");
    let (labels, annotations) = (at.field("labels").path(), at.field("annotations").path());
    labels::labels(&Node::at(&labels, metadata.field("labels").value()), errors);
    let annotations = Node::at(&annotations, metadata.field("annotations").value());
    labels::annotations(&annotations, errors);
    let pod_spec = at.field("spec");
    annotations::rules(&annotations, &pod_spec, errors);
    spec(&pod_spec, Owner { pod: "", is_pod: false }, claims, errors);
    annotations::match_fields(&annotations, &pod_spec, errors);
    let ephemeral = pod_spec.field("ephemeralContainers");
    if !ephemeral.is_empty() {
        errors.forbidden(&ephemeral, "ephemeral containers not allowed in pod template");
    }
}

pub(crate) fn spec<'v>(
    spec: &Node<'_, 'v>,
    owner: Owner<'_>,
    claim_templates: Option<&Node<'_, 'v>>,
    errors: &mut Errors,
) {
    let names = volumes::all(&spec.field("volumes"), owner, claim_templates, errors);
    let claims = resource_claims(&spec.field("resourceClaims"), errors);
    let context = Context {
        volumes: &names,
        claims: &claims,
        restart_policy: spec.field("restartPolicy").text(),
        grace: spec.field("terminationGracePeriodSeconds").integer(),
        host_users: !spec.field("hostUsers").is_false(),
        is_pod: owner.is_pod,
    };
    containers::all(spec, &context, errors);
    if spec.field("hostNetwork").is_true() {
        containers::host_network_ports(&spec.field("containers"), owner.is_pod, errors);
    }
    policies(spec, errors);
    scheduling(spec, errors);
    naming(spec, errors);
    if claim_templates.is_none() {
        host_and_domain(spec, errors);
    }
    security::pod(spec, errors);
    requirements::of_pod(spec, errors);
    dns(spec, errors);
    host_aliases(&spec.field("hostAliases"), errors);
    windows::host_process(spec, errors);
    windows::operating_system(spec, errors);
}

fn policies(spec: &Node<'_, '_>, errors: &mut Errors) {
    let restart = spec.field("restartPolicy");
    if errors.require_text(&restart) {
        errors.one_of(&restart, &["Always", "OnFailure", "Never"]);
    }
    let preemption = spec.field("preemptionPolicy");
    if preemption.is_set() && errors.require_text(&preemption) {
        errors.one_of(&preemption, &["PreemptLowerPriority", "Never"]);
    }
    let deadline = spec.field("activeDeadlineSeconds");
    if deadline.integer().is_some_and(|seconds| !(1..=i64::from(i32::MAX)).contains(&seconds)) {
        errors.invalid(&deadline, "must be between 1 and 2147483647, inclusive");
    }
    requirements::overhead(&spec.field("overhead"), errors);
}

fn scheduling(spec: &Node<'_, '_>, errors: &mut Errors) {
    labels::labels(&spec.field("nodeSelector"), errors);
    affinity::affinity(&spec.field("affinity"), errors);
    affinity::tolerations(&spec.field("tolerations"), errors);
    affinity::topology_spread(&spec.field("topologySpreadConstraints"), errors);
    let mut gates = HashSet::new();
    for gate in spec.field("schedulingGates").items() {
        let name = gate.field("name");
        for why in naming::qualified_name(name.text()) {
            errors.invalid_value(&gate, name.text(), &why);
        }
        if !gates.insert(name.text()) {
            errors.duplicate_value(&gate, name.text());
        }
    }
    for gate in spec.field("readinessGates").items() {
        labels::label_name(&gate.field("conditionType"), errors);
    }
    scheduling_group(&spec.field("schedulingGroup"), errors);
}

/// The group that a pod is scheduled with.
fn scheduling_group(group: &Node<'_, '_>, errors: &mut Errors) {
    if group.is_unset() {
        return;
    }
    union::exactly_one(group, &["podGroupName"], errors);
    let name = group.field("podGroupName");
    if name.is_set() {
        errors.invalid_all(&name, naming::subdomain(name.text()));
    }
}

fn naming(spec: &Node<'_, '_>, errors: &mut Errors) {
    for key in ["serviceAccountName", "nodeName", "priorityClassName", "runtimeClassName"] {
        let name = spec.field(key);
        if !name.text().is_empty() || (key == "runtimeClassName" && name.is_set()) {
            errors.invalid_all(&name, naming::subdomain(name.text()));
        }
    }
    host_name(spec, errors);
}

/// The names that a pod has in the cluster's domain.
fn host_and_domain(spec: &Node<'_, '_>, errors: &mut Errors) {
    for key in ["hostname", "subdomain"] {
        let name = spec.field(key);
        if !name.text().is_empty() {
            errors.invalid_all(&name, naming::label(name.text()));
        }
    }
}

/// The name that a pod gives its own host.
fn host_name(spec: &Node<'_, '_>, errors: &mut Errors) {
    const LONGEST: usize = 64;
    let name = spec.field("hostnameOverride");
    if name.is_unset() {
        return;
    }
    errors.invalid_all(&name, naming::subdomain(name.text()));
    if name.text().len() > LONGEST {
        errors.too_long(&name, LONGEST);
    }
    for key in ["setHostnameAsFQDN", "hostNetwork"] {
        if spec.field(key).is_true() {
            errors.forbidden(&name, &format!("may not be specified when {key} is true"));
        }
    }
}

fn dns(spec: &Node<'_, '_>, errors: &mut Errors) {
    let (policy, config) = (spec.field("dnsPolicy"), spec.field("dnsConfig"));
    if errors.require_text(&policy) {
        errors.one_of(&policy, &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"]);
    }
    let servers = config.field("nameservers");
    if policy.text() == "None" {
        if config.is_unset() {
            errors.required(&config, "must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        }
        if servers.is_empty() {
            errors.required(&servers, "must provide at least one DNS nameserver when `dnsPolicy` is None");
            return;
        }
    }
    dns_config(&config, errors);
}

fn dns_config(config: &Node<'_, '_>, errors: &mut Errors) {
    let (servers, searches) = (config.field("nameservers"), config.field("searches"));
    if servers.list().len() > 3 {
        errors.invalid(&servers, "must not have more than 3 nameservers");
    }
    for server in servers.items() {
        errors.invalid_all(&server, addresses::ip(server.text()));
    }
    if searches.list().len() > 32 {
        errors.invalid(&searches, "must not have more than 32 search paths");
    }
    if searches.texts().collect::<Vec<_>>().join(" ").len() > 2048 {
        errors.invalid(&searches, "must not have more than 2048 characters (including spaces) in the search list");
    }
    for search in searches.items() {
        let text = search.text();
        if text != "." {
            let plain = text.strip_suffix('.').unwrap_or(text);
            for why in naming::search_domain(plain) {
                errors.invalid_value(&search, plain, &why);
            }
        }
    }
    for option in config.field("options").items() {
        if option.field("name").text().is_empty() {
            errors.required(&option, "must not be empty");
        }
    }
}

fn host_aliases(at: &Node<'_, '_>, errors: &mut Errors) {
    for alias in at.items() {
        let address = alias.field("ip");
        for why in addresses::ip(address.text()) {
            errors.invalid_value(&address, address.text(), &why);
        }
        let names = alias.field("hostnames");
        for name in names.items() {
            errors.invalid_all(&name, naming::subdomain(name.text()));
        }
    }
}

fn resource_claims<'v>(at: &Node<'_, 'v>, errors: &mut Errors) -> HashSet<&'v str> {
    let mut names = HashSet::new();
    for claim in at.items() {
        let name = claim.field("name");
        if name.text().is_empty() {
            errors.required(&name, "");
        } else if !names.insert(name.text()) {
            errors.duplicate(&name);
        } else {
            errors.invalid_all(&name, naming::label(name.text()));
        }
        let (existing, template) = (claim.field("resourceClaimName"), claim.field("resourceClaimTemplateName"));
        match (existing.is_set(), template.is_set()) {
            (true, true) => {
                let why = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                errors.invalid_shown(&claim, &shown::pod_resource_claim(&claim), why);
            }
            (false, false) => {
                let why = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                errors.invalid_shown(&claim, &shown::pod_resource_claim(&claim), why);
            }
            _ => {}
        }
        for reference in [&existing, &template].into_iter().filter(|reference| reference.is_set()) {
            errors.invalid_all(reference, naming::subdomain(reference.text()));
        }
    }
    names
}
