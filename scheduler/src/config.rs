//! `KubeSchedulerConfiguration` (kubescheduler.config.k8s.io/v1) and flags.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::framework::{Plugin, Profile};
use crate::plugins::{
    BalancedAllocation, DefaultBinder, Fit, FitStrategy, ImageLocality, InterPodAffinity, NodeAffinity, NodeName,
    NodePorts, NodeUnschedulable, PodTopologySpread, PrioritySort, SchedulingGates, TaintToleration,
    UnsupportedVolumes,
};

/// What the scheduler works with.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The profiles; none means one with the default plugins for `default-scheduler`.
    pub profiles: Vec<ProfileConfig>,
    /// This host's name, to compete for the lead; `None` to schedule at once.
    pub leader_elect: Option<String>,
    /// Percentage of nodes to score, for profiles that do not say; 0 adapts to the size of the cluster.
    pub percentage_of_nodes_to_score: u32,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path}")]
    Parse {
        path: PathBuf,
        #[source]
        source: serde_yaml::Error,
    },
    #[error("{field}: {reason}")]
    Invalid { field: String, reason: String },
}

/// The file. A field that is not here is not supported and refused by name.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    profiles: Vec<ProfileConfig>,
    #[serde(default)]
    percentage_of_nodes_to_score: Option<u32>,
    #[serde(default)]
    leader_election: Option<LeaderElectionConfig>,
    #[serde(default)]
    client_connection: Option<ClientConnection>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LeaderElectionConfig {
    leader_elect: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ClientConnection {
    kubeconfig: PathBuf,
}

/// One profile.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProfileConfig {
    #[serde(default = "default_scheduler")]
    pub scheduler_name: String,
    #[serde(default)]
    pub percentage_of_nodes_to_score: Option<u32>,
    #[serde(default)]
    pub plugins: Plugins,
    #[serde(default)]
    pub plugin_config: Vec<PluginConfig>,
}

fn default_scheduler() -> String {
    "default-scheduler".to_owned()
}

/// Which plugins run where. `multiPoint` speaks of all extension points, the others of one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plugins {
    #[serde(default)]
    pub multi_point: PluginSet,
    #[serde(default)]
    pub filter: PluginSet,
    #[serde(default)]
    pub score: PluginSet,
}

/// Plugins to turn on and off; `*` turns all off.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PluginSet {
    #[serde(default)]
    pub enabled: Vec<PluginRef>,
    #[serde(default)]
    pub disabled: Vec<PluginRef>,
}

/// A plugin by name, with a weight where it scores.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginRef {
    pub name: String,
    #[serde(default)]
    pub weight: Option<i64>,
}

/// Arguments of one plugin. Only `NodeResourcesFit` has some.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginConfig {
    pub name: String,
    pub args: FitArgs,
}

/// `NodeResourcesFitArgs`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FitArgs {
    pub scoring_strategy: ScoringStrategy,
}

/// How fitting nodes are compared.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoringStrategy {
    /// `LeastAllocated` or `MostAllocated`.
    #[serde(rename = "type")]
    pub type_: String,
}

/// All plugins: name, weight where it scores.
const KNOWN: &[(&str, i64)] = &[
    ("SchedulingGates", 0),
    ("PrioritySort", 0),
    ("NodeUnschedulable", 0),
    ("NodeName", 0),
    ("TaintToleration", 3),
    ("NodeAffinity", 2),
    ("NodePorts", 0),
    ("NodeResourcesFit", 1),
    ("VolumeBinding", 0),
    ("PodTopologySpread", 2),
    ("InterPodAffinity", 2),
    ("NodeResourcesBalancedAllocation", 1),
    ("ImageLocality", 1),
    ("DefaultBinder", 0),
];

impl Config {
    /// Reads a configuration file; returns the kubeconfig that it names, too.
    pub fn from_file(path: &Path) -> Result<(Self, Option<PathBuf>), ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let file: File =
            serde_yaml::from_str(&text).map_err(|source| ConfigError::Parse { path: path.to_owned(), source })?;
        if file.api_version != "kubescheduler.config.k8s.io/v1" || file.kind != "KubeSchedulerConfiguration" {
            return Err(invalid(
                "apiVersion, kind",
                "must be kubescheduler.config.k8s.io/v1, KubeSchedulerConfiguration",
            ));
        }
        let elects = file.leader_election.is_none_or(|election| election.leader_elect);
        let config = Self {
            profiles: file.profiles,
            leader_elect: elects.then(host),
            percentage_of_nodes_to_score: file.percentage_of_nodes_to_score.unwrap_or(0),
        };
        Ok((config, file.client_connection.map(|connection| connection.kubeconfig)))
    }

    /// Builds the profiles, by scheduler name.
    pub fn profiles(&self, client: &kube::Client) -> Result<HashMap<String, Profile>, ConfigError> {
        let default = [ProfileConfig { scheduler_name: default_scheduler(), ..ProfileConfig::default() }];
        let configs = if self.profiles.is_empty() { default.as_slice() } else { &self.profiles };
        let mut profiles = HashMap::new();
        for config in configs {
            let profile = self.profile(config, client)?;
            if profiles.insert(config.scheduler_name.clone(), profile).is_some() {
                return Err(invalid("profiles", format!("schedulerName {:?} is given twice", config.scheduler_name)));
            }
        }
        Ok(profiles)
    }

    fn profile(&self, config: &ProfileConfig, client: &kube::Client) -> Result<Profile, ConfigError> {
        let sets = [&config.plugins.multi_point, &config.plugins.filter, &config.plugins.score];
        for plugin in sets.iter().flat_map(|set| set.enabled.iter().chain(&set.disabled)) {
            if plugin.name != "*" && !KNOWN.iter().any(|(name, _)| *name == plugin.name) {
                return Err(invalid("profiles[].plugins", format!("there is no plugin {:?}", plugin.name)));
            }
        }
        let percentage = config.percentage_of_nodes_to_score.unwrap_or(self.percentage_of_nodes_to_score);
        if percentage > 100 {
            return Err(invalid("percentageOfNodesToScore", "must be 0 to 100"));
        }
        let choice = Choice { plugins: &config.plugins };
        let mut profile = Profile {
            scheduler_name: config.scheduler_name.clone(),
            percentage_of_nodes_to_score: percentage,
            ..Profile::default()
        };
        choice.add_builtin(&mut profile, fit_strategy(&config.plugin_config)?, client);
        Ok(profile)
    }
}

fn fit_strategy(configs: &[PluginConfig]) -> Result<FitStrategy, ConfigError> {
    let mut strategy = FitStrategy::default();
    for config in configs {
        if config.name != "NodeResourcesFit" {
            return Err(invalid(
                "profiles[].pluginConfig",
                format!("plugin {:?} takes no arguments here", config.name),
            ));
        }
        strategy = match config.args.scoring_strategy.type_.as_str() {
            "LeastAllocated" => FitStrategy::LeastAllocated,
            "MostAllocated" => FitStrategy::MostAllocated,
            other => {
                return Err(invalid(
                    "scoringStrategy.type",
                    format!("{other:?} is not supported; LeastAllocated and MostAllocated are"),
                ));
            }
        };
    }
    Ok(strategy)
}

/// Which plugins a profile wants.
struct Choice<'a> {
    plugins: &'a Plugins,
}

impl Choice<'_> {
    fn wants(&self, name: &str, point: Option<&PluginSet>) -> bool {
        let named = |set: &[PluginRef]| set.iter().any(|plugin| plugin.name == name);
        let all = |set: &[PluginRef]| set.iter().any(|plugin| plugin.name == "*");
        let decide = |set: &PluginSet, before: bool| {
            named(&set.enabled) || (before && !named(&set.disabled) && !all(&set.disabled))
        };
        let everywhere = decide(&self.plugins.multi_point, true);
        point.map_or(everywhere, |set| decide(set, everywhere))
    }

    fn weight(&self, name: &str) -> i64 {
        let sets = [&self.plugins.score, &self.plugins.multi_point];
        let given = sets.iter().find_map(|set| set.enabled.iter().find(|plugin| plugin.name == name)?.weight);
        let default = KNOWN.iter().find(|(known, _)| *known == name).map_or(1, |(_, weight)| *weight);
        given.unwrap_or(default)
    }

    /// Filters run from cheap to dear.
    fn add_builtin(&self, profile: &mut Profile, strategy: FitStrategy, client: &kube::Client) {
        let fit = Arc::new(Fit { strategy });
        let binder = Arc::new(DefaultBinder { client: client.clone() });
        profile.queue_sort = Some(Arc::new(PrioritySort));
        if self.wants("SchedulingGates", None) {
            profile.pre_enqueue.push(Arc::new(SchedulingGates));
            profile.rejecters.push(Arc::new(SchedulingGates));
        }
        if self.wants("DefaultBinder", None) {
            profile.bind.push(binder);
        }
        macro_rules! add {
            ($plugin:expr => $($point:ident)*) => {
                let plugin = $plugin;
                $(self.$point(profile, &plugin);)*
                if self.wants(plugin.name(), Some(&self.plugins.filter)) {
                    profile.rejecters.push(plugin);
                }
            };
        }
        add!(Arc::new(NodeUnschedulable) => filter);
        add!(Arc::new(NodeName) => filter);
        add!(Arc::new(TaintToleration) => filter score);
        add!(Arc::new(NodeAffinity) => pre_filter filter pre_score score);
        add!(Arc::new(NodePorts) => pre_filter filter);
        add!(fit => filter score);
        add!(Arc::new(UnsupportedVolumes) => pre_filter);
        add!(Arc::new(PodTopologySpread) => pre_filter filter pre_score score);
        add!(Arc::new(InterPodAffinity) => pre_filter filter pre_score score);
        add!(Arc::new(BalancedAllocation) => pre_score score);
        add!(Arc::new(ImageLocality) => score);
    }

    fn pre_filter<P: crate::framework::PreFilter>(&self, profile: &mut Profile, plugin: &Arc<P>) {
        if self.wants(plugin.name(), Some(&self.plugins.filter)) {
            profile.pre_filter.push(Arc::clone(plugin) as _);
        }
    }

    fn filter<P: crate::framework::Filter>(&self, profile: &mut Profile, plugin: &Arc<P>) {
        if self.wants(plugin.name(), Some(&self.plugins.filter)) {
            profile.filter.push(Arc::clone(plugin) as _);
        }
    }

    fn pre_score<P: crate::framework::PreScore>(&self, profile: &mut Profile, plugin: &Arc<P>) {
        if self.wants(plugin.name(), Some(&self.plugins.score)) {
            profile.pre_score.push(Arc::clone(plugin) as _);
        }
    }

    fn score<P: crate::framework::Score>(&self, profile: &mut Profile, plugin: &Arc<P>) {
        if self.wants(plugin.name(), Some(&self.plugins.score)) {
            profile.score.push((Arc::clone(plugin) as _, self.weight(plugin.name())));
        }
    }
}

fn invalid(field: &str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Invalid { field: field.to_owned(), reason: reason.into() }
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "scheduler".to_owned(), |name| name.trim().to_owned())
}

/// Flags of the `scheduler` binary.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Path of a kubeconfig file.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Path of a KubeSchedulerConfiguration file.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Whether to compete for the lead before scheduling.
    #[arg(long, default_value_t = true)]
    pub leader_elect: bool,
}

impl Args {
    /// Checks the flags; returns the kubeconfig to use, too.
    pub fn into_config(self) -> anyhow::Result<(Config, Option<PathBuf>)> {
        let Some(path) = &self.config else {
            return Ok((Config { leader_elect: self.leader_elect.then(host), ..Config::default() }, self.kubeconfig));
        };
        let (config, kubeconfig) = Config::from_file(path)?;
        Ok((config, self.kubeconfig.or(kubeconfig)))
    }
}
