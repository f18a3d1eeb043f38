//! The admission plugins, in the order in which they run (upstream's `pkg/kubeapiserver/options/plugins.go`).
//!
//! A plugin is a file with upstream's name and one constant, `PLUGIN`: its name, whether it runs by default, and how it is
//! made of what the server has ([`Environment`]). To add one:
//!
//! 1. Write `new_plugin.rs` like `taint_nodes_by_condition.rs` (it needs nothing) or `priority.rs` (it reads objects):
//!    a type that implements [`MutatingAdmission`], [`ValidatingAdmission`] or both, and `PLUGIN`.
//! 2. Name it here: a `mod` line, and its place in [`PLUGINS`], which is that of `upstream.txt`; what upstream knows and
//!    is not in the list is refused or ignored by the flags without further ado.
//! 3. Its flags, if upstream has any, are a `clap::Args` of its own (`default_toleration_seconds.rs`), its settings in a
//!    file an arm of `configuration.rs`.
//! 4. A rule that is no plugin upstream and cannot be switched off is [`Plugin::always`].
//! 5. Test what clients see in `apiserver/tests/api/samples.rs` or a neighbour of it.

mod admin_access;
mod always_admit;
mod certificate_approval;
mod certificate_signing;
mod certificate_subject_restriction;
mod claims;
mod default_ingress_class;
mod default_storage_class;
mod default_toleration_seconds;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod persistent_volume_claim_resize;
mod pod_group_protection;
mod pod_group_workload_exists;
mod pod_resize_validator;
mod pod_security;
mod pods;
mod policy;
mod priority;
mod rbac_escalation;
mod resource_quota;
mod runtime_class;
mod service_account;
mod storage_object_in_use_protection;
mod taint_nodes_by_condition;
mod unprivileged;
mod webhook;

use std::sync::Arc;

use super::metrics::Phase;
use super::{AdmissionConfig, Chain, Environment, MutatingAdmission, ValidatingAdmission};
use crate::error::Error;
use crate::watch_cache::{Cached, ResourceCache, Snapshot};

pub(super) use pod_security::{Exemptions, Settings, Standards};

pub(crate) use certificate_subject_restriction::groups_asked_for;

pub use default_toleration_seconds::DefaultTolerationSeconds;

const PLUGINS: &[Plugin] = &[
    always_admit::PLUGIN,
    namespace_lifecycle::PLUGIN,
    limit_ranger::PLUGIN,
    service_account::PLUGIN,
    node_restriction::PLUGIN,
    taint_nodes_by_condition::PLUGIN,
    pod_security::PLUGIN,
    priority::PLUGIN,
    default_toleration_seconds::PLUGIN,
    default_storage_class::PLUGIN,
    storage_object_in_use_protection::PLUGIN,
    pod_group_protection::PLUGIN,
    persistent_volume_claim_resize::PLUGIN,
    runtime_class::PLUGIN,
    certificate_approval::PLUGIN,
    certificate_signing::PLUGIN,
    certificate_subject_restriction::PLUGIN,
    default_ingress_class::PLUGIN,
    pod_group_workload_exists::PLUGIN,
    pod_resize_validator::PLUGIN,
    // They see what all others have made of the object, and are seen by them once more.
    policy::MUTATING,
    webhook::MUTATING,
    policy::VALIDATING,
    webhook::VALIDATING,
    unprivileged::PLUGIN,
    rbac_escalation::PLUGIN,
    admin_access::PLUGIN,
    // Last, since what it books is not given back when another plugin refuses.
    resource_quota::PLUGIN,
];

/// All plugins that upstream knows, in its order, and whether they run by default.
const UPSTREAM: &str = include_str!("upstream.txt");

/// What a plugin's file says of it.
struct Plugin {
    /// Upstream's name, as in `--enable-admission-plugins`.
    name: &'static str,
    switch: Switch,
    /// Makes it; nothing if the server lacks something, such as a resource that is not served.
    start: fn(&Environment) -> Option<Phases>,
}

/// When a plugin runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Switch {
    /// Unless it is disabled.
    On,
    /// If it is enabled.
    Off,
    /// It is no plugin upstream, and flags do not know it.
    Always,
}

impl Plugin {
    const fn on(name: &'static str, start: fn(&Environment) -> Option<Phases>) -> Self {
        Self { name, switch: Switch::On, start }
    }

    const fn off(name: &'static str, start: fn(&Environment) -> Option<Phases>) -> Self {
        Self { name, switch: Switch::Off, start }
    }

    const fn always(name: &'static str, start: fn(&Environment) -> Option<Phases>) -> Self {
        Self { name, switch: Switch::Always, start }
    }

    fn runs(&self, config: &AdmissionConfig) -> bool {
        let is_in = |names: &[String]| names.iter().any(|name| name == self.name);
        match self.switch {
            Switch::On => !is_in(&config.disable_admission_plugins),
            Switch::Off => is_in(&config.enable_admission_plugins),
            Switch::Always => true,
        }
    }
}

/// The phases that a plugin takes part in.
struct Phases {
    mutating: Option<Arc<dyn MutatingAdmission>>,
    validating: Option<Arc<dyn ValidatingAdmission>>,
}

impl Phases {
    fn mutating(plugin: impl MutatingAdmission + 'static) -> Option<Self> {
        Some(Self { mutating: Some(Arc::new(plugin)), validating: None })
    }

    fn validating(plugin: impl ValidatingAdmission + 'static) -> Option<Self> {
        Some(Self { mutating: None, validating: Some(Arc::new(plugin)) })
    }

    fn both<P: MutatingAdmission + ValidatingAdmission + 'static>(plugin: P) -> Option<Self> {
        let plugin = Arc::new(plugin);
        Some(Self { mutating: Some(plugin.clone()), validating: Some(plugin) })
    }
}

/// The plugins that the flags ask for. Fails when these name what there is not.
pub(crate) fn chain(environment: &Environment) -> Result<Chain, Error> {
    check(&environment.config)?;
    let metrics = &environment.metrics;
    let mut chain = Chain::new(metrics);
    for plugin in PLUGINS.iter().filter(|plugin| plugin.runs(&environment.config)) {
        let Some(phases) = (plugin.start)(environment) else { continue };
        let times = |phase| metrics.times(Some(plugin.name), phase);
        chain.mutating.extend(phases.mutating.map(|plugin| (times(Phase::Admit), plugin)));
        chain.validating.extend(phases.validating.map(|plugin| (times(Phase::Validate), plugin)));
    }
    Ok(chain)
}

/// The objects of a namespace in a snapshot of `cache`.
fn in_namespace<'a>(
    cache: &ResourceCache,
    snapshot: &'a Snapshot,
    namespace: &str,
) -> impl Iterator<Item = &'a Arc<Cached>> + use<'a> {
    let prefix = format!("{}{namespace}/", cache.prefix());
    let from = Arc::<str>::from(prefix.as_str());
    let found = snapshot.objects.range(from..).map(|(_, cached)| cached);
    found.take_while(move |cached| cached.key.starts_with(&prefix))
}

/// When upstream runs a plugin; nothing if it has none of that name.
fn upstream(name: &str) -> Option<Switch> {
    let switch = UPSTREAM.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    Some(if switch == "on" { Switch::On } else { Switch::Off })
}

/// Checks the names in the flags. To ask for what is missing here is an error, unless upstream runs it anyway: then it
/// says nothing new.
fn check(config: &AdmissionConfig) -> Result<(), Error> {
    let (enable, disable) = ("enable-admission-plugins", "disable-admission-plugins");
    let refuse = |flag, why| Err(Error::Flag { flag, why });
    for (flag, names) in [(enable, &config.enable_admission_plugins), (disable, &config.disable_admission_plugins)] {
        for name in names {
            let is_missing = PLUGINS.iter().all(|plugin| plugin.name != name);
            match upstream(name) {
                None => return refuse(flag, format!("admission plugin {name:?} is unknown")),
                Some(Switch::Off) if flag == enable && is_missing => {
                    return refuse(flag, format!("there is no plugin {name:?} here"));
                }
                Some(_) => {}
            }
        }
    }
    let both = config.enable_admission_plugins.iter().find(|name| config.disable_admission_plugins.contains(name));
    both.map_or(Ok(()), |name| refuse(enable, format!("{name:?} is in --{disable}, too")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(enable: &[&str], disable: &[&str]) -> Result<(), String> {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let config = AdmissionConfig {
            enable_admission_plugins: names(enable),
            disable_admission_plugins: names(disable),
            ..AdmissionConfig::default()
        };
        check(&config).map_err(|err| err.to_string())
    }

    #[test]
    fn plugins_are_turned_on_and_off_by_names_that_are_known() {
        assert_eq!(
            checked(&["TaintNodesByCondition", "PodTopologyLabels", "AlwaysAdmit"], &["AlwaysPullImages"]),
            Ok(())
        );
        assert_eq!(checked(&[], &["TaintNodesByCondition"]), Ok(()));
        assert!(checked(&["AlwaysPullImages"], &[]).unwrap_err().contains("there is no plugin"));
        assert!(checked(&[], &["NoSuchPlugin"]).unwrap_err().contains("--disable-admission-plugins"));
        let both = checked(&["TaintNodesByCondition"], &["TaintNodesByCondition"]);
        assert!(both.unwrap_err().contains("--disable-admission-plugins, too"));
    }

    #[test]
    fn what_is_no_plugin_upstream_cannot_be_switched_off() {
        for rule in PLUGINS.iter().filter(|plugin| plugin.switch == Switch::Always) {
            assert_eq!(upstream(rule.name), None, "{}", rule.name);
            assert!(checked(&[], &[rule.name]).unwrap_err().contains("is unknown"));
        }
    }

    #[test]
    fn plugins_run_in_upstreams_order_and_by_its_defaults() {
        let order: Vec<&str> = UPSTREAM.lines().filter_map(|line| line.split(' ').next()).collect();
        let own = PLUGINS.iter().filter(|plugin| plugin.switch != Switch::Always);
        let places: Vec<usize> = own
            .map(|plugin| {
                // Upstream's installers switch it on.
                let switch = if plugin.name == "NodeRestriction" { Switch::Off } else { plugin.switch };
                assert_eq!(upstream(plugin.name), Some(switch), "{}", plugin.name);
                order.iter().position(|name| *name == plugin.name).unwrap()
            })
            .collect();
        assert!(places.is_sorted_by(|one, next| one < next), "{places:?}");
        assert!(UPSTREAM.lines().all(|line| line.ends_with(" on") || line.ends_with(" off")));
    }
}
