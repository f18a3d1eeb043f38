//! Every controller, and which of them `--controllers` asks for (upstream: `NewControllerDescriptors`).

use crate::descriptor::Descriptor;
use crate::{
    Error, admission_policy_status, aggregation, attach_detach, autoscaler, bootstrap, certificates, cronjob,
    daemonset, deployment, disruption, endpoints, garbage, in_use_protection, job, load_balancer, namespace, node,
    notices, per_namespace, podgc, quota, replicaset, service_account_token, service_cidr, statefulset,
    ttl_after_finished, volumes,
};

/// All that there are. They start in this order.
const ALL: &[Descriptor] = &[
    replicaset::SETS,
    replicaset::CONTROLLERS,
    deployment::DESCRIPTOR,
    daemonset::DESCRIPTOR,
    statefulset::DESCRIPTOR,
    endpoints::SLICES,
    endpoints::mirroring::DESCRIPTOR,
    endpoints::LEGACY,
    namespace::DESCRIPTOR,
    garbage::DESCRIPTOR,
    per_namespace::service_account::DESCRIPTOR,
    per_namespace::root_ca::DESCRIPTOR,
    node::health::DESCRIPTOR,
    node::eviction::DESCRIPTOR,
    node::ipam::DESCRIPTOR,
    podgc::DESCRIPTOR,
    job::DESCRIPTOR,
    cronjob::DESCRIPTOR,
    ttl_after_finished::DESCRIPTOR,
    certificates::APPROVER,
    certificates::SERVING_APPROVER,
    certificates::SIGNER,
    certificates::CLEANER,
    in_use_protection::CLAIMS,
    in_use_protection::VOLUMES,
    in_use_protection::CLASSES,
    in_use_protection::GROUPS,
    aggregation::DESCRIPTOR,
    admission_policy_status::DESCRIPTOR,
    quota::DESCRIPTOR,
    disruption::DESCRIPTOR,
    node::ttl::DESCRIPTOR,
    notices::DESCRIPTOR,
    volumes::BINDER,
    volumes::ephemeral::DESCRIPTOR,
    attach_detach::DESCRIPTOR,
    volumes::expander::DESCRIPTOR,
    service_cidr::DESCRIPTOR,
    service_account_token::DESCRIPTOR,
    autoscaler::DESCRIPTOR,
    load_balancer::DESCRIPTOR,
    bootstrap::signer::DESCRIPTOR,
    bootstrap::cleaner::DESCRIPTOR,
];

/// Controllers that a star does not ask for (upstream: `ControllersDisabledByDefault`).
const BY_NAME_ONLY: &[&str] = &[bootstrap::signer::DESCRIPTOR.name, bootstrap::cleaner::DESCRIPTOR.name];

/// Controllers of upstream that are not here: each with the older name that tools still use, if it has one.
const ELSEWHERE: &[&[&str]] = &[
    &["cloud-node-lifecycle-controller", "cloud-node-lifecycle"],
    &["device-taint-eviction-controller"],
    &["kube-apiserver-serving-clustertrustbundle-publisher-controller"],
    &["legacy-serviceaccount-token-cleaner-controller", "legacy-service-account-token-cleaner"],
    &["node-route-controller", "route"],
    &["podcertificaterequest-cleaner-controller"],
    &["resourceclaim-controller", "resource-claim-controller"],
    &["selinux-warning-controller"],
    &["storage-version-migrator-controller"],
    &["storageversion-garbage-collector-controller", "storage-version-gc"],
];

/// What a value of `--controllers` asks for.
pub(crate) struct Chosen<'a> {
    /// In the order in which they start.
    pub(crate) controllers: Vec<&'static Descriptor>,
    /// What was asked for by name and is known to Kubernetes, but not here.
    pub(crate) missing: Vec<&'a str>,
}

/// Reads `--controllers`: `*` for all, `name` for one, `-name` for all but one. A misspelt name is an error, not a controller
/// that silently does not run.
pub(crate) fn choose(items: &[String]) -> Result<Chosen<'_>, Error> {
    let is_known = |name: &str| is_here(name) || ELSEWHERE.iter().any(|names| names.contains(&name));
    let unknown = items.iter().find(|item| *item != "*" && !is_known(item.strip_prefix('-').unwrap_or(item)));
    if let Some(name) = unknown {
        return Err(Error::UnknownController(name.clone()));
    }
    let wanted = items.iter().map(String::as_str).filter(|item| *item != "*" && !item.starts_with('-'));
    Ok(Chosen {
        controllers: ALL.iter().filter(|controller| is_chosen(controller, items)).collect(),
        missing: wanted.filter(|item| !is_here(item)).collect(),
    })
}

fn is_here(name: &str) -> bool {
    ALL.iter().any(|controller| controller.is_called(name))
}

fn is_chosen(controller: &Descriptor, items: &[String]) -> bool {
    let is_named =
        |sign| items.iter().filter_map(|item| item.strip_prefix(sign)).any(|name| controller.is_called(name));
    let by_star = || items.iter().any(|item| item == "*") && !BY_NAME_ONLY.contains(&controller.name);
    is_named("") || (by_star() && !is_named("-"))
}

/// The names of all controllers.
pub(crate) fn names() -> String {
    ALL.iter().map(|controller| controller.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_name_stands_for_one_controller() {
        let here = ALL.iter().flat_map(|one| one.aliases.iter().chain([&one.name]));
        let mut seen = HashSet::new();
        for name in here.chain(ELSEWHERE.iter().copied().flatten()) {
            assert!(seen.insert(name), "{name} stands for two");
        }
        assert!(ELSEWHERE.is_sorted());
    }

    #[test]
    fn controllers_are_chosen_as_upstream_chooses() {
        let items = |items: &[&str]| -> Vec<String> { items.iter().map(|&item| item.into()).collect() };
        let runs = |chosen: &[&str], name| {
            let items = items(chosen);
            choose(&items).unwrap().controllers.iter().any(|controller| controller.name == name)
        };
        assert!(runs(&["*"], "replicaset-controller"));
        assert!(!runs(&["*", "-replicaset-controller"], "replicaset-controller"));
        assert!(!runs(&["deployment-controller"], "replicaset-controller"));
        assert!(!runs(&["*", "-replicaset"], "replicaset-controller"), "by its older name");
        assert!(choose(&items(&["*", "-replicasets"])).is_err());
        assert!(!runs(&["*"], "token-cleaner-controller") && runs(&["*", "tokencleaner"], "token-cleaner-controller"));
        let some = items(&["*", "selinux-warning-controller", "-route", "garbagecollector"]);
        assert_eq!(choose(&some).unwrap().missing, ["selinux-warning-controller"]);
    }
}
