//! `pluginConfig`: the arguments of plugins.

use k8s_openapi::api::core::v1::{NodeAffinity as NodeAffinitySpec, TopologySpreadConstraint};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{ConfigError, PluginConfig, invalid};
use crate::plugins::fit_arguments;
use crate::plugins::{BalancedAllocation, DefaultPreemption, Fit, InterPodAffinity, NodeAffinity, PodTopologySpread};

/// Plugins whose arguments mean nothing here, since the plugins do not look at what they are about.
const WITHOUT: [&str; 2] = ["DynamicResources", "GangScheduling"];

/// The plugins that can be configured.
#[derive(Default)]
pub(crate) struct Configured {
    pub(crate) fit: Fit,
    pub(crate) balanced: BalancedAllocation,
    pub(crate) node_affinity: NodeAffinity,
    pub(crate) inter_pod_affinity: InterPodAffinity,
    pub(crate) spread: PodTopologySpread,
    pub(crate) preemption: DefaultPreemption,
}

/// `InterPodAffinityArgs`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct InterPodAffinityArgs {
    hard_pod_affinity_weight: Option<i64>,
    ignore_preferred_terms_of_existing_pods: bool,
}

/// `NodeAffinityArgs`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct NodeAffinityArgs {
    added_affinity: Option<Value>,
}

/// `PodTopologySpreadArgs`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct TopologySpreadArgs {
    default_constraints: Vec<Value>,
    defaulting_type: String,
}

/// `DefaultPreemptionArgs`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct PreemptionArgs {
    min_candidate_nodes_percentage: Option<i64>,
    min_candidate_nodes_absolute: Option<i64>,
}

/// Makes the plugins out of their arguments.
pub(crate) fn read(configs: &[PluginConfig]) -> Result<Configured, ConfigError> {
    let mut plugins = Configured::default();
    for (at, config) in configs.iter().enumerate() {
        let field = format!("profiles[].pluginConfig[{at}].args");
        if configs[..at].iter().any(|other| other.name == config.name) {
            return Err(invalid(&field, format!("{:?} is configured twice", config.name)));
        }
        match config.name.as_str() {
            "NodeResourcesFit" => plugins.fit = fit_arguments::fit(&field, decode(&field, config)?)?,
            "NodeResourcesBalancedAllocation" => {
                plugins.balanced = fit_arguments::balanced(&field, &decode(&field, config)?)?;
            }
            "InterPodAffinity" => plugins.inter_pod_affinity = inter_pod_affinity(&field, &decode(&field, config)?)?,
            "NodeAffinity" => plugins.node_affinity = node_affinity(&field, decode(&field, config)?)?,
            "PodTopologySpread" => plugins.spread = topology_spread(&field, decode(&field, config)?)?,
            "DefaultPreemption" => plugins.preemption = preemption(&field, &decode(&field, config)?)?,
            // See `volumes::bind_timeout`.
            "VolumeBinding" => {}
            name if WITHOUT.contains(&name) => tracing::warn!("{field} ({name}) means nothing here and is ignored"),
            name => return Err(invalid(&field, format!("plugin {name:?} takes no arguments"))),
        }
    }
    Ok(plugins)
}

pub(crate) fn decode<T: DeserializeOwned>(field: &str, config: &PluginConfig) -> Result<T, ConfigError> {
    let mut args = config.args.clone().unwrap_or_default();
    let kind = format!("{}Args", config.name);
    for (name, wanted) in [("apiVersion", "kubescheduler.config.k8s.io/v1"), ("kind", kind.as_str())] {
        if args.remove(name).is_some_and(|given| given != wanted) {
            return Err(invalid(&format!("{field}.{name}"), format!("must be {wanted}")));
        }
    }
    serde_json::from_value(Value::Object(args)).map_err(|err| invalid(field, err.to_string()))
}

fn inter_pod_affinity(field: &str, args: &InterPodAffinityArgs) -> Result<InterPodAffinity, ConfigError> {
    let hard_weight = args.hard_pod_affinity_weight.unwrap_or(1);
    if !(0..=100).contains(&hard_weight) {
        return Err(invalid(&format!("{field}.hardPodAffinityWeight"), "must be 0 to 100"));
    }
    Ok(InterPodAffinity { hard_weight, ignore_preferences_of_others: args.ignore_preferred_terms_of_existing_pods })
}

fn node_affinity(field: &str, args: NodeAffinityArgs) -> Result<NodeAffinity, ConfigError> {
    let Some(added) = args.added_affinity else { return Ok(NodeAffinity::default()) };
    let field = format!("{field}.addedAffinity");
    let added: NodeAffinitySpec = typed(&field, added)?;
    let required = added.required_during_scheduling_ignored_during_execution.as_ref();
    if required.is_some_and(|required| required.node_selector_terms.is_empty()) {
        let at = format!("{field}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms");
        return Err(invalid(&at, "must have at least one node selector term"));
    }
    Ok(NodeAffinity { added: Some(added) })
}

/// Reads an object of the API. The types of the API skip what they do not know: that is refused here.
fn typed<T: DeserializeOwned + serde::Serialize>(field: &str, value: Value) -> Result<T, ConfigError> {
    let read: T = serde_json::from_value(value.clone()).map_err(|err| invalid(field, err.to_string()))?;
    let known = serde_json::to_value(&read).map_err(|err| invalid(field, err.to_string()))?;
    if has_all(&known, &value) { Ok(read) } else { Err(invalid(field, "has a field that is not known")) }
}

/// Whether everything of `part` is in `whole`.
fn has_all(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(name, value)| whole.get(name).is_some_and(|known| has_all(known, value)))
        }
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(known, value)| has_all(known, value))
        }
        (whole, part) => whole == part,
    }
}

fn topology_spread(field: &str, args: TopologySpreadArgs) -> Result<PodTopologySpread, ConfigError> {
    let given = !args.default_constraints.is_empty();
    let at = format!("{field}.defaultConstraints");
    let constraints = args.default_constraints.into_iter().enumerate().map(|(number, constraint)| {
        let at = format!("{at}[{number}]");
        let constraint = typed(&at, constraint)?;
        check_default(&at, &constraint).map(|()| constraint)
    });
    let constraints: Vec<TopologySpreadConstraint> = constraints.collect::<Result<_, _>>()?;
    match args.defaulting_type.as_str() {
        "" | "System" if given => {
            Err(invalid(&at, "when .defaultingType is \"System\", .defaultConstraints must be empty"))
        }
        "" | "System" => Ok(PodTopologySpread::default()),
        "List" => Ok(PodTopologySpread::with_defaults(constraints)),
        other => Err(invalid(&format!("{field}.defaultingType"), format!("{other:?} is neither System nor List"))),
    }
}

fn check_default(at: &str, constraint: &TopologySpreadConstraint) -> Result<(), ConfigError> {
    if constraint.max_skew <= 0 {
        return Err(invalid(&format!("{at}.maxSkew"), "must be above zero"));
    }
    if constraint.topology_key.is_empty() {
        return Err(invalid(&format!("{at}.topologyKey"), "can not be empty"));
    }
    if !matches!(constraint.when_unsatisfiable.as_str(), "DoNotSchedule" | "ScheduleAnyway") {
        return Err(invalid(&format!("{at}.whenUnsatisfiable"), "is neither DoNotSchedule nor ScheduleAnyway"));
    }
    if constraint.label_selector.is_some() {
        return Err(invalid(&format!("{at}.labelSelector"), "must not be set: it is found for each pod"));
    }
    Ok(())
}

fn preemption(field: &str, args: &PreemptionArgs) -> Result<DefaultPreemption, ConfigError> {
    let percentage = args.min_candidate_nodes_percentage.unwrap_or(10);
    let absolute = args.min_candidate_nodes_absolute.unwrap_or(100);
    if !(0..=100).contains(&percentage) {
        return Err(invalid(&format!("{field}.minCandidateNodesPercentage"), "must be 0 to 100"));
    }
    let min_candidates = usize::try_from(absolute)
        .map_err(|_| invalid(&format!("{field}.minCandidateNodesAbsolute"), "must not be negative"))?;
    if percentage == 0 && min_candidates == 0 {
        let why = "minCandidateNodesPercentage and minCandidateNodesAbsolute cannot both be zero";
        return Err(invalid(field, why));
    }
    Ok(DefaultPreemption { min_candidate_percentage: usize::try_from(percentage).unwrap_or(100), min_candidates })
}
