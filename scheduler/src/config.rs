//! What the scheduler works with, from flags and the configuration file: profiles of plugins.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use client::LeaderElection;
use daemon::LeaderElectionArgs;
use serde::Deserialize;

use crate::arguments;
use crate::file::File;
use crate::framework::{Plugin, Profile};
use crate::plugins::{
    BalancedAllocation, DefaultBinder, Fit, ImageLocality, InterPodAffinity, NodeAffinity, NodeName, NodePorts,
    NodeUnschedulable, PodTopologySpread, PrioritySort, SchedulingGates, TaintToleration, UnsupportedVolumes,
};

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
    ("VolumeBinding", 0),
    ("PodTopologySpread", 2),
    ("InterPodAffinity", 2),
    ("NodeResourcesBalancedAllocation", 1),
    ("ImageLocality", 1),
    ("DefaultBinder", 0),
];

/// Plugins of upstream that are not there: turning them off says nothing new, and turning them on does nothing.
const MISSING: &[&str] = &[
    "DefaultPreemption",
    "DynamicResources",
    "GangScheduling",
    "NodeDeclaredFeatures",
    "NodeVolumeLimits",
    "VolumeRestrictions",
    "VolumeZone",
];

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
        for config in configs {
            let profile = self.profile(config, client)?;
            if profiles.insert(config.scheduler_name.clone(), profile).is_some() {
                return Err(invalid("profiles", format!("schedulerName {:?} is given twice", config.scheduler_name)));
            }
        }
        Ok(profiles)
    }

    fn profile(&self, config: &ProfileConfig, client: &kube::Client) -> Result<Profile, ConfigError> {
        check_names(&config.plugins)?;
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
        choice.check()?;
        choice.add_builtin(&mut profile, arguments::read(&config.plugin_config)?, client);
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
    fn add_builtin(&self, profile: &mut Profile, fit: Fit, client: &kube::Client) {
        let fit = Arc::new(fit);
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
        if self.wants(plugin.name(), Some(&self.plugins.pre_filter)) {
            profile.pre_filter.push(Arc::clone(plugin) as _);
        }
    }

    fn filter<P: crate::framework::Filter>(&self, profile: &mut Profile, plugin: &Arc<P>) {
        if self.wants(plugin.name(), Some(&self.plugins.filter)) {
            profile.filter.push(Arc::clone(plugin) as _);
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
}

pub(crate) fn invalid(field: &str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Invalid { field: field.to_owned(), reason: reason.into() }
}

fn default_election() -> LeaderElection {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "scheduler".to_owned(), |name| name.trim().to_owned());
    LeaderElection::new("kube-scheduler", &host)
}

/// What the flags make of an election.
fn election(flags: &LeaderElectionArgs, file: LeaderElection) -> LeaderElection {
    LeaderElection {
        namespace: flags.leader_elect_resource_namespace.clone().unwrap_or(file.namespace),
        name: flags.leader_elect_resource_name.clone().unwrap_or(file.name),
        identity: file.identity,
        lease_duration: flags.leader_elect_lease_duration.unwrap_or(file.lease_duration),
        renew_deadline: flags.leader_elect_renew_deadline.unwrap_or(file.renew_deadline),
        retry_period: flags.leader_elect_retry_period.unwrap_or(file.retry_period),
    }
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
    #[command(flatten)]
    pub leader: LeaderElectionArgs,
}

impl Args {
    /// Joins flags and file; returns the kubeconfig to use, too. Flags win over the file.
    pub fn into_config(self) -> anyhow::Result<(Config, Option<PathBuf>)> {
        let (mut config, kubeconfig) = match &self.config {
            Some(path) => Config::from_file(path)?,
            None => (Config { leader_election: Some(default_election()), ..Config::default() }, None),
        };
        let elects = self.leader.leader_elect.unwrap_or(config.leader_election.is_some());
        let chosen = config.leader_election.take().unwrap_or_else(default_election);
        config.leader_election = elects.then(|| election(&self.leader, chosen));
        config.leader_election.as_ref().map_or(Ok(()), LeaderElection::check)?;
        Ok((config, self.kubeconfig.or(kubeconfig)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The profiles of a file with these fields.
    fn profiles(fields: &str) -> Result<HashMap<String, Profile>, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scheduler.yaml");
        let head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
        std::fs::write(&path, format!("{head}{fields}")).unwrap();
        let shown = |err: ConfigError| format!("{:#}", anyhow::Error::from(err));
        let (config, _) = Config::from_file(&path).map_err(shown)?;
        daemon::install_crypto_provider();
        let client = kube::Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
        config.profiles(&client).map_err(shown)
    }

    fn scores(profile: &Profile) -> HashMap<&'static str, i64> {
        profile.score.iter().map(|(plugin, weight)| (plugin.name(), *weight)).collect()
    }

    fn filters(profile: &Profile) -> Vec<&'static str> {
        profile.filter.iter().map(|plugin| plugin.name()).collect()
    }

    #[tokio::test]
    async fn plugins_are_turned_off_and_weighed_by_profile() {
        let fields = r"
profiles:
- schedulerName: default-scheduler
- schedulerName: packing
  percentageOfNodesToScore: 30
  plugins:
    multiPoint:
      disabled: [{name: ImageLocality}]
    filter:
      disabled: [{name: NodePorts}]
    preFilter:
      disabled: [{name: NodePorts}]
    score:
      disabled: [{name: '*'}]
      enabled: [{name: NodeResourcesFit, weight: 5}]
    postFilter:
      disabled: [{name: DefaultPreemption}]
  pluginConfig:
  - name: NodeResourcesFit
    args:
      apiVersion: kubescheduler.config.k8s.io/v1
      kind: NodeResourcesFitArgs
      scoringStrategy: {type: MostAllocated, resources: [{name: cpu, weight: 3}]}
";
        let profiles = profiles(fields).unwrap();
        let (default, packing) = (&profiles["default-scheduler"], &profiles["packing"]);
        assert_eq!(scores(default)["TaintToleration"], 3);
        assert!(filters(default).contains(&"NodePorts") && !filters(packing).contains(&"NodePorts"));
        assert_eq!(scores(packing), HashMap::from([("NodeResourcesFit", 5)]));
        assert_eq!(packing.percentage_of_nodes_to_score, 30);
    }

    #[tokio::test]
    async fn what_is_wrong_is_named() {
        let plugins = |text: &str| format!("profiles: [{{plugins: {text}}}]");
        let args = |name: &str, args: &str| format!("profiles: [{{pluginConfig: [{{name: {name}, args: {args}}}]}}]");
        for (fields, named) in [
            ("percentageOfNodesToSkore: 1".to_owned(), "percentageOfNodesToSkore"),
            ("extenders: [{urlPrefix: 'http://x'}]".to_owned(), "extenders"),
            ("podInitialBackoffSeconds: 20".to_owned(), "podInitialBackoffSeconds"),
            ("leaderElection: {resourceLock: endpoints}".to_owned(), "leaderElection.resourceLock"),
            ("leaderElection: {leaseDuration: long}".to_owned(), "long"),
            ("percentageOfNodesToScore: 101".to_owned(), "percentageOfNodesToScore"),
            ("profiles: [{}, {}]".to_owned(), "given twice"),
            (plugins("{score: {enabled: [{name: NoSuchPlugin}]}}"), "NoSuchPlugin"),
            (plugins("{score: {enabled: [{name: ImageLocality, weight: 101}]}}"), "weight"),
            (plugins("{preFilter: {disabled: [{name: NodePorts}]}}"), "NodePorts"),
            (plugins("{bind: {disabled: [{name: '*'}]}}"), "plugins.bind"),
            (plugins("{queueSort: {disabled: [{name: PrioritySort}]}}"), "plugins.queueSort"),
            (args("NodeResourcesFit", "{scoringStrategy: {type: Other}}"), "scoringStrategy.type"),
            (args("NodeResourcesFit", "{scoringStrategi: {}}"), "scoringStrategi"),
            (args("NodeResourcesFit", "{kind: OtherArgs}"), "args.kind"),
            (args("NodeAffinity", "{addedAffinity: {}}"), "addedAffinity"),
            (args("PodTopologySpread", "{defaultConstraints: [{maxSkew: 1}]}"), "defaultConstraints"),
            (args("NodeName", "{}"), "NodeName"),
        ] {
            let err = profiles(&fields).err().unwrap_or_else(|| panic!("{fields} is taken"));
            assert!(err.contains(named), "{fields}: {err}");
        }
    }

    #[test]
    fn flags_win_over_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scheduler.yaml");
        let fields = "clientConnection: {kubeconfig: /etc/kubernetes/scheduler.conf, qps: 50}\n\
                      leaderElection: {leaderElect: true, resourceName: mine, leaseDuration: 30s}\n\
                      podMaxBackoffSeconds: 5\nparallelism: 16\n";
        let head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
        std::fs::write(&path, format!("{head}{fields}")).unwrap();
        let args = Args {
            kubeconfig: None,
            config: Some(path),
            leader: LeaderElectionArgs {
                leader_elect_lease_duration: Some(Duration::from_secs(40)),
                ..LeaderElectionArgs::default()
            },
        };
        let (config, kubeconfig) = args.clone().into_config().unwrap();
        assert_eq!(kubeconfig, Some("/etc/kubernetes/scheduler.conf".into()));
        assert_eq!(config.backoff, Some((Duration::from_secs(1), Duration::from_secs(5))));
        let election = config.leader_election.unwrap();
        assert_eq!((election.name.as_str(), election.lease_duration), ("mine", Duration::from_secs(40)));
        let alone = LeaderElectionArgs { leader_elect: Some(false), ..args.leader.clone() };
        assert!(Args { leader: alone, ..args }.into_config().unwrap().0.leader_election.is_none());
    }
}
