//! What the scheduler works with, from flags and the configuration file: profiles of plugins.

mod file;
mod flags;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use client::LeaderElection;

use self::file::File;
pub use self::flags::Args;
use self::flags::default_election;
use crate::framework::Profile;
use crate::plugins::{ALL, MISSING};
pub use crate::profile::{ConfigError, PluginConfig, PluginRef, PluginSet, Plugins, ProfileConfig};
use crate::profile::{Handles, Slot, args_field, default_scheduler, field_of, invalid};

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

    /// Builds the profiles, by scheduler name; all share `handles`. Fails when one cannot work.
    pub fn profiles(&self, client: &kube::Client, handles: &Handles) -> Result<HashMap<String, Profile>, ConfigError> {
        let default = [ProfileConfig { scheduler_name: default_scheduler(), ..ProfileConfig::default() }];
        let configs = if self.profiles.is_empty() { default.as_slice() } else { &self.profiles };
        let mut profiles = HashMap::new();
        for config in configs {
            let profile = self.profile(config, client, handles)?;
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
        handles: &Handles,
    ) -> Result<Profile, ConfigError> {
        check_names(&config.plugins)?;
        let percentage = config.percentage_of_nodes_to_score.unwrap_or(self.percentage_of_nodes_to_score);
        if percentage > 100 {
            return Err(invalid("percentageOfNodesToScore", "must be 0 to 100"));
        }
        check_arguments(&config.plugin_config)?;
        let mut profile = Profile {
            scheduler_name: config.scheduler_name.clone(),
            percentage_of_nodes_to_score: percentage,
            ..Profile::default()
        };
        for spec in ALL {
            (spec.make)(Slot { spec, config, client, handles, profile: &mut profile })?;
        }
        for (point, is_missing, only) in [
            ("queueSort", profile.queue_sort.is_none(), "PrioritySort"),
            ("bind", profile.bind.is_empty(), "DefaultBinder"),
        ] {
            if is_missing {
                return Err(invalid(&field_of(point), format!("there is no other than {only}")));
            }
        }
        Ok(profile)
    }
}

fn is_here(name: &str) -> bool {
    ALL.iter().any(|spec| spec.name == name)
}

/// Every plugin that is named must be known.
fn check_names(plugins: &Plugins) -> Result<(), ConfigError> {
    for (point, set) in plugins.all() {
        for plugin in set.enabled.iter().chain(&set.disabled) {
            if plugin.name != "*" && !is_here(&plugin.name) && !MISSING.contains(&plugin.name.as_str()) {
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

/// A plugin has arguments once. Whether it takes them is for it to say, if it is here.
fn check_arguments(configs: &[PluginConfig]) -> Result<(), ConfigError> {
    for (at, PluginConfig { name, .. }) in configs.iter().enumerate() {
        if configs[..at].iter().any(|other| other.name == *name) {
            return Err(invalid(&args_field(at), format!("{name:?} is configured twice")));
        }
        if !is_here(name) {
            return Err(invalid(&args_field(at), format!("plugin {name:?} takes no arguments")));
        }
    }
    Ok(())
}
