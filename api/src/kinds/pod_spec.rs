//! Rules for pod specs, in pods and in templates.

use std::collections::HashSet;

use super::containers::{self, Context};
use super::tree::{Errors, Node};
use super::{affinity, meta, resources, rules, security, volumes};

/// A new or changed `Pod`.
pub(crate) fn pod(pod: &Node<'_, '_>, errors: &mut Errors) {
    spec(&pod.field("spec"), true, errors);
}

/// Rules that hold for new pods only.
pub(crate) fn new_pod(pod: &Node<'_, '_>, errors: &mut Errors) {
    let spec = pod.field("spec");
    let ephemeral = spec.field("ephemeralContainers");
    if !ephemeral.is_empty() {
        errors.forbidden(&ephemeral, "cannot be set on create");
    }
    let gates = spec.field("schedulingGates");
    if !spec.field("nodeName").text().is_empty() && !gates.is_empty() {
        errors.forbidden(&spec.field("nodeName"), "cannot be set until all schedulingGates have been cleared");
    }
}

/// A `PodTemplateSpec`.
pub(crate) fn template(at: &Node<'_, '_>, errors: &mut Errors) {
    let metadata = at.field("metadata");
    meta::labels(&metadata.field("labels"), errors);
    annotations(&metadata.field("annotations"), errors);
    let pod_spec = at.field("spec");
    spec(&pod_spec, false, errors);
    let ephemeral = pod_spec.field("ephemeralContainers");
    if !ephemeral.is_empty() {
        errors.forbidden(&ephemeral, "ephemeral containers not allowed in pod template");
    }
}

fn annotations(at: &Node<'_, '_>, errors: &mut Errors) {
    for (key, _) in at.entries() {
        for why in rules::qualified_name(&key.to_lowercase()) {
            errors.invalid_value(at, key, &why);
        }
    }
}

fn spec(spec: &Node<'_, '_>, is_pod: bool, errors: &mut Errors) {
    let names = volumes::all(&spec.field("volumes"), errors);
    let claims = resource_claims(&spec.field("resourceClaims"), errors);
    let host_network = security::shares(spec, "hostNetwork");
    let context = Context { volumes: &names, claims: &claims, host_network, is_pod };
    containers::all(spec, &context, errors);
    policies(spec, errors);
    scheduling(spec, errors);
    naming(spec, errors);
    security::pod(&spec.field("securityContext"), errors);
    resources::pod_level(&spec.field("resources"), errors);
    dns(spec, errors);
    host_aliases(&spec.field("hostAliases"), errors);
    let os = spec.field("os");
    if os.is_set() {
        let name = os.field("name");
        if errors.require_text(&name) {
            errors.one_of(&name, &["linux", "windows"]);
        }
    }
}

fn policies(spec: &Node<'_, '_>, errors: &mut Errors) {
    let restart = spec.field("restartPolicy");
    if errors.require_text(&restart) {
        errors.one_of(&restart, &["Always", "OnFailure", "Never"]);
    }
    errors.none_or_one_of(&spec.field("preemptionPolicy"), &["Never", "PreemptLowerPriority"]);
    let deadline = spec.field("activeDeadlineSeconds");
    if deadline.integer().is_some_and(|seconds| !(1..=i64::from(i32::MAX)).contains(&seconds)) {
        errors.invalid(&deadline, "must be between 1 and 2147483647, inclusive");
    }
    for (name, quantity) in spec.field("overhead").entries() {
        resources::value(name, &quantity, errors);
    }
}

fn scheduling(spec: &Node<'_, '_>, errors: &mut Errors) {
    meta::labels(&spec.field("nodeSelector"), errors);
    affinity::affinity(&spec.field("affinity"), errors);
    affinity::tolerations(&spec.field("tolerations"), errors);
    affinity::topology_spread(&spec.field("topologySpreadConstraints"), errors);
    let mut gates = HashSet::new();
    for gate in spec.field("schedulingGates").items() {
        let name = gate.field("name");
        errors.invalid_all(&gate, rules::qualified_name(name.text()));
        if !gates.insert(name.text()) {
            errors.duplicate_value(&gate, name.text());
        }
    }
    for gate in spec.field("readinessGates").items() {
        let kind = gate.field("conditionType");
        for why in rules::qualified_name(kind.text()) {
            errors.invalid_value(&kind, kind.text(), &why);
        }
    }
}

fn naming(spec: &Node<'_, '_>, errors: &mut Errors) {
    for key in ["serviceAccountName", "nodeName", "priorityClassName", "runtimeClassName"] {
        let name = spec.field(key);
        if !name.text().is_empty() || (key == "runtimeClassName" && name.is_set()) {
            errors.invalid_all(&name, rules::subdomain(name.text()));
        }
    }
    for key in ["hostname", "subdomain"] {
        let name = spec.field(key);
        if !name.text().is_empty() {
            errors.invalid_all(&name, rules::label(name.text()));
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
        errors.invalid_all(&server, rules::ip(server.text()));
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
            errors.invalid_all(&search, rules::search_domain(plain));
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
        for why in rules::ip(address.text()) {
            errors.invalid_value(&address, address.text(), &why);
        }
        let names = alias.field("hostnames");
        for name in names.items() {
            for why in rules::subdomain(name.text()) {
                errors.invalid_value(&names, name.text(), &why);
            }
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
            errors.invalid_all(&name, rules::label(name.text()));
        }
        let (existing, template) = (claim.field("resourceClaimName"), claim.field("resourceClaimTemplateName"));
        match (existing.is_set(), template.is_set()) {
            (true, true) => errors
                .invalid(&claim, "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"),
            (false, false) => {
                errors.invalid(&claim, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`")
            }
            _ => {}
        }
        for reference in [&existing, &template].into_iter().filter(|reference| reference.is_set()) {
            errors.invalid_all(reference, rules::subdomain(reference.text()));
        }
    }
    names
}
