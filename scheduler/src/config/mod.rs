//! What the scheduler works with, from flags and the configuration file: profiles of plugins.

mod arguments;
mod file;
mod flags;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use client::LeaderElection;
use serde::Deserialize;

use self::arguments::Configured;
pub(crate) use self::arguments::decode;
use self::file::File;
pub use self::flags::Args;
use self::flags::default_election;
use crate::framework::{Plugin, Profile};
use crate::plugins::bind_timeout;
use crate::plugins::{
    DefaultBinder, ImageLocality, NodeName, NodePorts, NodeUnschedulable, PrioritySort, SchedulingGates,
    TaintToleration, UnsupportedDevices, VolumeBinding, VolumeRestrictions, VolumeZone,
};
use crate::volumes::Volumes;

/// What the scheduler works with.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The profiles; none means one with the default plugins for `default-scheduler`.
    pub profiles: Vec<ProfileConfig>,
    /// Schedule only while this lease is held; `None` to schedule at once.
    pub leader_election: Option<LeaderElection>,
    /// Percentage of nodes to score, for profiles that do not say; 0 adapts to the size of the cluster.
    pub percentage_of_nodes_to_score: u32,
    /// How long a pod waits after its first failed attempt, and at most; `None` for 1 s and 10 s.
    pub backoff: Option<(Duration, Duration)>,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    File(#[from] daemon::ConfigFileError),
    #[error("{field}: {reason}")]
    Invalid { field: String, reason: String },
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
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Plugins {
    pub multi_point: PluginSet,
    pub pre_enqueue: PluginSet,
    pub queue_sort: PluginSet,
    pub pre_filter: PluginSet,
    pub filter: PluginSet,
    pub post_filter: PluginSet,
    pub pre_score: PluginSet,
    pub score: PluginSet,
    pub reserve: PluginSet,
    pub permit: PluginSet,
    pub pre_bind: PluginSet,
    pub bind: PluginSet,
    pub post_bind: PluginSet,
}

impl Plugins {
    fn all(&self) -> [(&'static str, &PluginSet); 13] {
        [
            ("multiPoint", &self.multi_point),
            ("preEnqueue", &self.pre_enqueue),
            ("queueSort", &self.queue_sort),
            ("preFilter", &self.pre_filter),
            ("filter", &self.filter),
            ("postFilter", &self.post_filter),
            ("preScore", &self.pre_score),
            ("score", &self.score),
            ("reserve", &self.reserve),
            ("permit", &self.permit),
            ("preBind", &self.pre_bind),
            ("bind", &self.bind),
            ("postBind", &self.post_bind),
        ]
    }
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

/// Arguments of one plugin.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginConfig {
    pub name: String,
    #[serde(default)]
    pub args: Option<serde_json::Map<String, serde_json::Value>>,
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
    ("VolumeRestrictions", 0),
    ("VolumeBinding", 0),
    ("VolumeZone", 0),
    ("DynamicResources", 0),
    ("PodTopologySpread", 2),
    ("InterPodAffinity", 2),
    ("DefaultPreemption", 0),
    ("NodeResourcesBalancedAllocation", 1),
    ("ImageLocality", 1),
    ("DefaultBinder", 0),
];

/// Plugins of upstream that are not there: turning them off says nothing new, and turning them on does nothing.
const MISSING: &[&str] = &["GangScheduling", "NodeDeclaredFeatures", "NodeVolumeLimits"];

impl Config {
    /// Reads a configuration file; returns the kubeconfig that it names, too.
    pub fn from_file(path: &Path) -> Result<(Self, Option<PathBuf>), ConfigError> {
        let file = File::read(path)?;
        let (kubeconfig, backoff) = (file.kubeconfig(), file.backoff());
        let config = Self {
            leader_election: file.election(default_election()),
            percentage_of_nodes_to_score: file.percentage_of_nodes_to_score.unwrap_or(0),
            backoff: Some(backoff),
            profiles: file.profiles,
        };
        Ok((config, kubeconfig))
    }

    /// Builds the profiles, by scheduler name.
    pub fn profiles(&self, client: &kube::Client) -> Result<HashMap<String, Profile>, ConfigError> {
        let default = [ProfileConfig { scheduler_name: default_scheduler(), ..ProfileConfig::default() }];
        let configs = if self.profiles.is_empty() { default.as_slice() } else { &self.profiles };
        let mut profiles = HashMap::new();
        let volumes = Arc::<Volumes>::default();
        for config in configs {
            let profile = self.profile(config, client, &volumes)?;
            if profiles.insert(config.scheduler_name.clone(), profile).is_some() {
                return Err(invalid("profiles", format!("schedulerName {:?} is given twice", config.scheduler_name)));
            }
        }
        Ok(profiles)
    }

    fn profile(
        &self,
        config: &ProfileConfig,
        client: &kube::Client,
        volumes: &Arc<Volumes>,
    ) -> Result<Profile, ConfigError> {
        check_names(&config.plugins)?;
        let percentage = config.percentage_of_nodes_to_score.unwrap_or(self.percentage_of_nodes_to_score);
        if percentage > 100 {
            return Err(invalid("percentageOfNodesToScore", "must be 0 to 100"));
        }
        let choice = Choice { plugins: &config.plugins };
        let mut profile = Profile {
            scheduler_name: config.scheduler_name.clone(),
            percentage_of_nodes_to_score: percentage,
            volumes: Arc::clone(volumes),
            ..Profile::default()
        };
        choice.check()?;
        choice.add_builtin(&mut profile, arguments::read(&config.plugin_config)?, client);
        choice.add_volumes(&mut profile, bind_timeout(&config.plugin_config)?, client);
        Ok(profile)
    }
}

/// Every plugin that is named must be known.
fn check_names(plugins: &Plugins) -> Result<(), ConfigError> {
    for (point, set) in plugins.all() {
        for plugin in set.enabled.iter().chain(&set.disabled) {
            let is_here = plugin.name == "*" || KNOWN.iter().any(|(name, _)| *name == plugin.name);
            if !is_here && !MISSING.contains(&plugin.name.as_str()) {
                return Err(invalid(&field_of(point), format!("there is no plugin {:?}", plugin.name)));
            }
            if plugin.weight.is_some_and(|weight| !(0..=100).contains(&weight)) {
                return Err(invalid(&field_of(point), format!("the weight of {:?} must be 0 to 100", plugin.name)));
            }
        }
        if let Some(plugin) = set.enabled.iter().find(|plugin| MISSING.contains(&plugin.name.as_str())) {
            tracing::warn!("{}: there is no plugin {:?} here", field_of(point), plugin.name);
        }
    }
    Ok(())
}

fn field_of(point: &str) -> String {
    format!("profiles[].plugins.{point}")
}

/// Plugins that look for what they prepared at the extension point before this one.
const PREPARING: &[(&str, &str)] = &[
    ("NodeAffinity", "filter"),
    ("NodePorts", "filter"),
    ("VolumeRestrictions", "filter"),
    ("VolumeBinding", "filter"),
    ("VolumeZone", "filter"),
    ("PodTopologySpread", "filter"),
    ("InterPodAffinity", "filter"),
    ("NodeAffinity", "score"),
    ("PodTopologySpread", "score"),
    ("InterPodAffinity", "score"),
];

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

    /// Refuses what cannot work: a plugin that looks for what it did not prepare, and a scheduler that cannot bind.
    fn check(&self) -> Result<(), ConfigError> {
        for (first, then, sets) in [
            ("preFilter", "filter", (&self.plugins.pre_filter, &self.plugins.filter)),
            ("preScore", "score", (&self.plugins.pre_score, &self.plugins.score)),
        ] {
            for name in PREPARING.iter().filter(|(_, point)| *point == then).map(|(name, _)| *name) {
                if self.wants(name, Some(sets.1)) && !self.wants(name, Some(sets.0)) {
                    let why = format!("{name} needs what it prepares here: turn it off in {then}, too");
                    return Err(invalid(&field_of(first), why));
                }
            }
        }
        if !self.wants("PrioritySort", Some(&self.plugins.queue_sort)) {
            return Err(invalid(&field_of("queueSort"), "there is no other than PrioritySort"));
        }
        if !self.wants("DefaultBinder", Some(&self.plugins.bind)) {
            return Err(invalid(&field_of("bind"), "there is no other than DefaultBinder"));
        }
        Ok(())
    }

    fn weight(&self, name: &str) -> i64 {
        let sets = [&self.plugins.score, &self.plugins.multi_point];
        let named = |set: &&PluginSet| set.enabled.iter().find(|plugin| plugin.name == name)?.weight;
        // As upstream, a weight of zero is none.
        let given = sets.iter().find_map(|set| named(set).filter(|weight| *weight > 0));
        let default = KNOWN.iter().find(|(known, _)| *known == name).map_or(1, |(_, weight)| *weight);
        given.unwrap_or(default)
    }

    /// Filters run from cheap to dear.
    fn add_builtin(&self, profile: &mut Profile, configured: Configured, client: &kube::Client) {
        let binder = Arc::new(DefaultBinder { client: client.clone() });
        profile.queue_sort = Some(Arc::new(PrioritySort));
        if self.wants("SchedulingGates", Some(&self.plugins.pre_enqueue)) {
            profile.pre_enqueue.push(Arc::new(SchedulingGates));
            profile.rejecters.push(Arc::new(SchedulingGates));
        }
        profile.bind.push(binder);
        macro_rules! add {
            ($plugin:expr => $($point:ident)*) => {
                let plugin = $plugin;
                $(self.$point(profile, &plugin);)*
                if [&self.plugins.filter, &self.plugins.pre_filter].iter().any(|set| self.wants(plugin.name(), Some(set))) {
                    profile.rejecters.push(plugin);
                }
            };
        }
        add!(Arc::new(NodeUnschedulable) => filter);
        add!(Arc::new(NodeName) => filter);
        add!(Arc::new(TaintToleration) => filter score);
        add!(Arc::new(configured.node_affinity) => pre_filter filter pre_score score);
        add!(Arc::new(NodePorts) => pre_filter filter);
        add!(Arc::new(configured.fit) => filter score);
        add!(Arc::new(UnsupportedDevices) => pre_filter);
        add!(Arc::new(configured.spread) => pre_filter filter pre_score score);
        add!(Arc::new(configured.inter_pod_affinity) => pre_filter filter pre_score score);
        add!(Arc::new(configured.preemption) => post_filter);
        add!(Arc::new(configured.balanced) => pre_score score);
        add!(Arc::new(ImageLocality) => prepared_score);
    }

    /// The plugins that look at volumes.
    fn add_volumes(&self, profile: &mut Profile, timeout: Duration, client: &kube::Client) {
        let volumes = || Arc::clone(&profile.volumes);
        let restrictions = Arc::new(VolumeRestrictions { volumes: volumes() });
        let zone = Arc::new(VolumeZone { volumes: volumes() });
        let binding = Arc::new(VolumeBinding { volumes: volumes(), client: client.clone(), timeout });
        self.pre_filter(profile, &restrictions);
        self.filter(profile, &restrictions);
        self.pre_filter(profile, &binding);
        self.filter(profile, &binding);
        self.pre_filter(profile, &zone);
        self.filter(profile, &zone);
        // What one of them takes, the other gives back.
        if [&self.plugins.reserve, &self.plugins.pre_bind].iter().all(|set| self.wants(binding.name(), Some(set))) {
            profile.reserve.push(Arc::clone(&binding) as _);
            profile.pre_bind.push(Arc::clone(&binding) as _);
        }
        let all: [Arc<dyn Plugin>; 3] = [restrictions, zone, binding];
        profile.rejecters.extend(all);
    }

    fn pre_filter<P: crate::framework::PreFilter>(&self, profile: &mut Profile, plugin: &Arc<P>) {
        if self.wants(plugin.name(), Some(&self.plugins.pre_filter)) {
            profile.pre_filter.push(Arc::clone(plugin) as _);
        }
    }

    fn filter<P: crate::framework::Filter>(&self, profile: &mut Profile, plugin: &Arc<P>) {
        if self.wants(plugin.name(), Some(&self.plugins.filter)) {
            profile.filter.push(Arc::clone(plugin) as _);
        }
    }

    fn post_filter<P: crate::framework::PostFilter>(&self, profile: &mut Profile, plugin: &Arc<P>) {
        if self.wants(plugin.name(), Some(&self.plugins.post_filter)) {
            profile.post_filter.push(Arc::clone(plugin) as _);
        }
    }

    fn pre_score<P: crate::framework::PreScore>(&self, profile: &mut Profile, plugin: &Arc<P>) {
        if self.wants(plugin.name(), Some(&self.plugins.pre_score)) {
            profile.pre_score.push(Arc::clone(plugin) as _);
        }
    }

    fn score<P: crate::framework::Score>(&self, profile: &mut Profile, plugin: &Arc<P>) {
        if self.wants(plugin.name(), Some(&self.plugins.score)) {
            profile.score.push((Arc::clone(plugin) as _, self.weight(plugin.name())));
        }
    }

    /// For a plugin that prepares its scores here, though upstream's does not: both, or neither.
    fn prepared_score<P: crate::framework::PreScore + crate::framework::Score>(
        &self,
        profile: &mut Profile,
        plugin: &Arc<P>,
    ) {
        if self.wants(plugin.name(), Some(&self.plugins.score)) {
            profile.pre_score.push(Arc::clone(plugin) as _);
            self.score(profile, plugin);
        }
    }
}

pub(crate) fn invalid(field: &str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Invalid { field: field.to_owned(), reason: reason.into() }
}
