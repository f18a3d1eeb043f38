//! `pluginConfig`: the arguments of plugins.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config::{ConfigError, PluginConfig, invalid};
use crate::plugins::{Fit, FitStrategy, Weights};

/// Plugins whose arguments mean nothing here, since the plugins do not look at what they are about.
const WITHOUT: [&str; 5] =
    ["DefaultPreemption", "DynamicResources", "GangScheduling", "NodeResourcesBalancedAllocation", "VolumeBinding"];

/// `NodeResourcesFitArgs`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct FitArgs {
    ignored_resources: Vec<String>,
    ignored_resource_groups: Vec<String>,
    scoring_strategy: ScoringStrategy,
}

/// How fitting nodes are compared.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ScoringStrategy {
    #[serde(rename = "type")]
    type_: String,
    resources: Vec<Resource>,
    requested_to_capacity_ratio: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resource {
    name: String,
    #[serde(default)]
    weight: Option<i64>,
}

/// `InterPodAffinityArgs`: only the terms of the pod itself are scored.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct InterPodAffinityArgs {
    #[serde(rename = "hardPodAffinityWeight")]
    _hard_pod_affinity_weight: Option<i32>,
    #[serde(rename = "ignorePreferredTermsOfExistingPods")]
    _ignore_preferred_terms_of_existing_pods: bool,
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

/// Reads the arguments of all plugins: those of `NodeResourcesFit` make it, the others are checked.
pub(crate) fn read(configs: &[PluginConfig]) -> Result<Fit, ConfigError> {
    let mut plugin = Fit::default();
    for (at, config) in configs.iter().enumerate() {
        let field = format!("profiles[].pluginConfig[{at}].args");
        if configs[..at].iter().any(|other| other.name == config.name) {
            return Err(invalid(&field, format!("{:?} is configured twice", config.name)));
        }
        match config.name.as_str() {
            "NodeResourcesFit" => plugin = fit(&field, decode(&field, config)?)?,
            "InterPodAffinity" => drop(decode::<InterPodAffinityArgs>(&field, config)?),
            "NodeAffinity" => {
                if decode::<NodeAffinityArgs>(&field, config)?.added_affinity.is_some() {
                    return Err(invalid(&format!("{field}.addedAffinity"), "is not supported"));
                }
            }
            "PodTopologySpread" => topology_spread(&field, &decode(&field, config)?)?,
            name if WITHOUT.contains(&name) => tracing::warn!("{field} ({name}) means nothing here and is ignored"),
            name => return Err(invalid(&field, format!("plugin {name:?} takes no arguments"))),
        }
    }
    Ok(plugin)
}

fn decode<T: DeserializeOwned>(field: &str, config: &PluginConfig) -> Result<T, ConfigError> {
    let mut args = config.args.clone().unwrap_or_default();
    let kind = format!("{}Args", config.name);
    for (name, wanted) in [("apiVersion", "kubescheduler.config.k8s.io/v1"), ("kind", kind.as_str())] {
        if args.remove(name).is_some_and(|given| given != wanted) {
            return Err(invalid(&format!("{field}.{name}"), format!("must be {wanted}")));
        }
    }
    serde_json::from_value(Value::Object(args)).map_err(|err| invalid(field, err.to_string()))
}

fn fit(field: &str, args: FitArgs) -> Result<Fit, ConfigError> {
    let strategy = &args.scoring_strategy;
    let at = format!("{field}.scoringStrategy");
    if strategy.requested_to_capacity_ratio.is_some() {
        return Err(invalid(&format!("{at}.requestedToCapacityRatio"), "is not supported"));
    }
    let kind = match strategy.type_.as_str() {
        "" | "LeastAllocated" => FitStrategy::LeastAllocated,
        "MostAllocated" => FitStrategy::MostAllocated,
        other => {
            let why = format!("{other:?} is not supported; LeastAllocated and MostAllocated are");
            return Err(invalid(&format!("{at}.type"), why));
        }
    };
    let mut weights = Weights::default();
    if !strategy.resources.is_empty() {
        weights = Weights { cpu: 0, memory: 0 };
    }
    for resource in &strategy.resources {
        let weight = resource.weight.unwrap_or(1);
        if !(1..=100).contains(&weight) {
            return Err(invalid(
                &format!("{at}.resources"),
                format!("the weight of {:?} must be 1 to 100", resource.name),
            ));
        }
        match resource.name.as_str() {
            "cpu" => weights.cpu = weight,
            "memory" => weights.memory = weight,
            other => {
                return Err(invalid(
                    &format!("{at}.resources"),
                    format!("{other:?} is not scored; cpu and memory are"),
                ));
            }
        }
    }
    Ok(Fit { strategy: kind, weights, ignored: args.ignored_resources, ignored_groups: args.ignored_resource_groups })
}

fn topology_spread(field: &str, args: &TopologySpreadArgs) -> Result<(), ConfigError> {
    if !args.default_constraints.is_empty() {
        return Err(invalid(&format!("{field}.defaultConstraints"), "only pods' own constraints count"));
    }
    match args.defaulting_type.as_str() {
        "" | "System" | "List" => Ok(()),
        other => Err(invalid(&format!("{field}.defaultingType"), format!("{other:?} is neither System nor List"))),
    }
}
