//! Flags of the `scheduler` binary, and how they and a file make one configuration. A new flag is a field of [`Args`] that
//! may be missing, since flags win over the file; `upstream_flags.txt` loses it. A new field of the file is one of `File`.

use std::path::PathBuf;

use client::LeaderElection;
use daemon::LeaderElectionArgs;

use super::Config;

pub(super) fn default_election() -> LeaderElection {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "scheduler".to_owned(), |name| name.trim().to_owned());
    LeaderElection::new("kube-scheduler", &host)
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
        config.leader_election = elects.then(|| chosen.with_flags(&self.leader));
        config.leader_election.as_ref().map_or(Ok(()), LeaderElection::check)?;
        Ok((config, self.kubeconfig.or(kubeconfig)))
    }
}
