//! The flags of the controller manager, with upstream's names, and the configuration they make.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use client::LeaderElection;
use daemon::LeaderElectionArgs;

use crate::{Error, all};

/// Default of [`Config::notice_patience`].
const NOTICE_PATIENCE: Duration = Duration::from_secs(30);

/// What the controllers are to do; made in `main` or by the process that embeds them.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which controllers run: `*` for all, `name` for one, `-name` for all but one.
    pub controllers: Vec<String>,
    /// Run only while this lease is held; `None` to run always.
    pub leader_election: Option<LeaderElection>,
    /// Give every node a pod range out of `cluster_cidrs`.
    pub allocate_node_cidrs: bool,
    /// The pod ranges of the cluster, one per address family at most.
    pub cluster_cidrs: Vec<String>,
    /// The prefix length of a node's IPv4 range.
    pub node_cidr_mask_size_ipv4: u8,
    /// The prefix length of a node's IPv6 range.
    pub node_cidr_mask_size_ipv6: u8,
    /// The certificates (PEM) that pods trust the API server by, published as `kube-root-ca.crt`.
    pub root_ca: Option<String>,
    /// The CA that signs certificate requests.
    pub signing: Option<Signing>,
    /// The validity of signed certificates.
    pub cluster_signing_duration: Duration,
    /// A node that is not Ready yet and sends nothing for this long is unhealthy.
    pub node_startup_grace_period: Duration,
    /// A node that sends nothing for this long is unhealthy.
    pub node_monitor_grace_period: Duration,
    /// How many ended pods are kept before the oldest are removed; zero keeps all.
    pub terminated_pod_gc_threshold: usize,
    /// Workers of the ReplicaSet controller.
    pub concurrent_replicaset_syncs: usize,
    /// Workers of the ReplicationController controller.
    pub concurrent_rc_syncs: usize,
    /// Workers of the Deployment controller.
    pub concurrent_deployment_syncs: usize,
    /// Workers of the DaemonSet controller.
    pub concurrent_daemonset_syncs: usize,
    /// Workers of the StatefulSet controller.
    pub concurrent_statefulset_syncs: usize,
    /// Workers of the Job controller.
    pub concurrent_job_syncs: usize,
    /// Workers of each endpoints controller.
    pub concurrent_endpoint_syncs: usize,
    /// How Endpoints are shown in slices.
    pub mirroring: Mirroring,
    /// Workers of the namespace controller.
    pub concurrent_namespace_syncs: usize,
    /// Workers of the garbage collector.
    pub concurrent_gc_syncs: usize,
    /// Workers of the quota controller.
    pub concurrent_resource_quota_syncs: usize,
    /// How often quotas are counted though nothing was given back.
    pub resource_quota_sync_period: Duration,
    /// How long nobody must have taken up an object of a kind that is only stored before an event says so.
    pub notice_patience: Duration,
    /// Workers of every other controller.
    pub concurrent_syncs: usize,
}

/// How Endpoints that are written by hand are shown in EndpointSlices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args)]
pub struct Mirroring {
    /// Workers of the EndpointSlice mirroring controller.
    #[arg(long = "mirroring-concurrent-service-endpoint-syncs", default_value_t = 5)]
    pub workers: usize,
    /// Addresses of each subset that are shown.
    #[arg(long = "mirroring-max-endpoints-per-subset", default_value_t = 1000, value_parser = per_subset)]
    pub per_subset: usize,
    /// How long changes are collected before slices are written.
    #[arg(long = "mirroring-endpointslice-updates-batch-period", default_value = "0s", value_parser = daemon::pflag::duration)]
    pub batch_period: Duration,
}

impl Default for Mirroring {
    fn default() -> Self {
        Self { workers: 5, per_subset: 1000, batch_period: Duration::ZERO }
    }
}

/// As many as a slice can hold.
fn per_subset(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=1000).contains(count));
    count.ok_or_else(|| "must be between 1 and 1000".to_owned())
}

/// A certificate authority.
#[derive(Clone)]
pub struct Signing {
    /// Its certificate, PEM.
    pub certificate: String,
    /// Its private key, PKCS#8 PEM.
    pub key: String,
}

impl std::fmt::Debug for Signing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signing").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Default for Config {
    /// Upstream's defaults, without leader election, node ranges and certificates.
    fn default() -> Self {
        Self {
            controllers: vec!["*".to_owned()],
            leader_election: None,
            allocate_node_cidrs: false,
            cluster_cidrs: Vec::new(),
            node_cidr_mask_size_ipv4: 24,
            node_cidr_mask_size_ipv6: 64,
            root_ca: None,
            signing: None,
            cluster_signing_duration: Duration::from_secs(365 * 24 * 3600),
            node_startup_grace_period: Duration::from_secs(60),
            node_monitor_grace_period: Duration::from_secs(50),
            terminated_pod_gc_threshold: 12_500,
            concurrent_replicaset_syncs: 5,
            concurrent_rc_syncs: 5,
            concurrent_deployment_syncs: 5,
            concurrent_daemonset_syncs: 2,
            concurrent_statefulset_syncs: 5,
            concurrent_job_syncs: 5,
            concurrent_endpoint_syncs: 5,
            mirroring: Mirroring::default(),
            concurrent_namespace_syncs: 10,
            concurrent_gc_syncs: 20,
            concurrent_resource_quota_syncs: 5,
            resource_quota_sync_period: Duration::from_secs(5 * 60),
            notice_patience: NOTICE_PATIENCE,
            concurrent_syncs: 5,
        }
    }
}

impl Config {
    /// Whether `controllers` enables this one.
    pub(crate) fn is_enabled(&self, name: &str) -> bool {
        let is_named = |sign: &str| {
            let mut items = self.controllers.iter().filter_map(|item| item.strip_prefix(sign));
            items.any(|item| all::canonical(item) == name)
        };
        is_named("") || (self.controllers.iter().any(|item| item == "*") && !is_named("-"))
    }

    /// A misspelt name is an error, not a controller that silently does not run. Returns those that are wanted and known
    /// to Kubernetes, but not there.
    pub(crate) fn check_controllers(&self) -> Result<Vec<&str>, Error> {
        let named = |item: &'_ str| all::canonical(item.strip_prefix('-').unwrap_or(item)).to_owned();
        let unknown = self.controllers.iter().find(|item| *item != "*" && !all::is_known(&named(item)));
        if let Some(name) = unknown {
            return Err(Error::UnknownController(name.clone()));
        }
        let wanted = self.controllers.iter().filter(|item| *item != "*" && !item.starts_with('-'));
        Ok(wanted.filter(|item| !all::is_here(&named(item))).map(String::as_str).collect())
    }
}

/// The flags of the controller manager.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Controllers to run: '*' for all, 'foo' for one, '-foo' for all but one.
    #[arg(long, value_delimiter = ',', default_value = "*", allow_hyphen_values = true)]
    pub controllers: Vec<String>,
    #[command(flatten)]
    pub leader: LeaderElectionArgs,
    /// Give every node a pod range.
    #[arg(long, default_value_t = false)]
    pub allocate_node_cidrs: bool,
    /// The pod ranges of the cluster, comma separated, one per address family at most.
    #[arg(long, value_delimiter = ',')]
    pub cluster_cidr: Vec<String>,
    /// The prefix length of a node's IPv4 range.
    #[arg(long, default_value_t = 24)]
    pub node_cidr_mask_size: u8,
    /// The prefix length of a node's IPv6 range.
    #[arg(long, default_value_t = 64)]
    pub node_cidr_mask_size_ipv6: u8,
    /// PEM file of the certificates that pods trust the API server by.
    #[arg(long)]
    pub root_ca_file: Option<PathBuf>,
    /// Accepted for compatibility and checked to exist: tokens are signed by the API server on request.
    #[arg(long)]
    pub service_account_private_key_file: Option<PathBuf>,
    /// PEM file of the CA that signs certificate requests.
    #[arg(long, requires = "cluster_signing_key_file")]
    pub cluster_signing_cert_file: Option<PathBuf>,
    /// PEM file of that CA's private key.
    #[arg(long, requires = "cluster_signing_cert_file")]
    pub cluster_signing_key_file: Option<PathBuf>,
    /// The validity of signed certificates.
    #[arg(long, default_value = "8760h", value_parser = daemon::pflag::duration)]
    pub cluster_signing_duration: Duration,
    /// A new node that sends nothing for this long is unhealthy.
    #[arg(long, default_value = "60s", value_parser = daemon::pflag::duration)]
    pub node_startup_grace_period: Duration,
    /// A node that sends nothing for this long is unhealthy.
    #[arg(long, default_value = "50s", value_parser = daemon::pflag::duration)]
    pub node_monitor_grace_period: Duration,
    /// How many ended pods are kept before the oldest are removed; zero keeps all.
    #[arg(long, default_value_t = 12_500)]
    pub terminated_pod_gc_threshold: usize,
    /// Workers of the ReplicaSet controller.
    #[arg(long, default_value_t = 5)]
    pub concurrent_replicaset_syncs: usize,
    /// Workers of the ReplicationController controller.
    #[arg(long, default_value_t = 5)]
    pub concurrent_rc_syncs: usize,
    /// Workers of the Deployment controller.
    #[arg(long, default_value_t = 5)]
    pub concurrent_deployment_syncs: usize,
    /// Workers of the DaemonSet controller.
    #[arg(long, default_value_t = 2)]
    pub concurrent_daemonset_syncs: usize,
    /// Workers of the StatefulSet controller.
    #[arg(long, default_value_t = 5)]
    pub concurrent_statefulset_syncs: usize,
    /// Workers of the Job controller.
    #[arg(long, default_value_t = 5)]
    pub concurrent_job_syncs: usize,
    /// Workers of the Endpoints and EndpointSlice controllers each.
    #[arg(long, default_value_t = 5)]
    pub concurrent_endpoint_syncs: usize,
    #[command(flatten)]
    pub mirroring: Mirroring,
    /// Workers of the namespace controller.
    #[arg(long, default_value_t = 10)]
    pub concurrent_namespace_syncs: usize,
    /// Workers of the garbage collector.
    #[arg(long, default_value_t = 20)]
    pub concurrent_gc_syncs: usize,
    /// Workers of the quota controller.
    #[arg(long, default_value_t = 5)]
    pub concurrent_resource_quota_syncs: usize,
    /// How often quotas are counted though nothing was given back.
    #[arg(long, default_value = "5m", value_parser = daemon::pflag::duration)]
    pub resource_quota_sync_period: Duration,
}

impl Args {
    /// Reads the files the flags name.
    pub fn into_config(self) -> anyhow::Result<Config> {
        if let Some(path) = &self.service_account_private_key_file {
            read(path)?;
        }
        let signing = match (&self.cluster_signing_cert_file, &self.cluster_signing_key_file) {
            (Some(certificate), Some(key)) => Some(Signing { certificate: read(certificate)?, key: read(key)? }),
            _ => None,
        };
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let election = election(&self.leader, LeaderElection::new("kube-controller-manager", host.trim()));
        election.check()?;
        Ok(Config {
            controllers: self.controllers,
            leader_election: self.leader.leader_elect.unwrap_or(true).then_some(election),
            allocate_node_cidrs: self.allocate_node_cidrs,
            cluster_cidrs: self.cluster_cidr,
            node_cidr_mask_size_ipv4: self.node_cidr_mask_size,
            node_cidr_mask_size_ipv6: self.node_cidr_mask_size_ipv6,
            root_ca: self.root_ca_file.as_ref().map(read).transpose()?,
            signing,
            cluster_signing_duration: self.cluster_signing_duration,
            node_startup_grace_period: self.node_startup_grace_period,
            node_monitor_grace_period: self.node_monitor_grace_period,
            terminated_pod_gc_threshold: self.terminated_pod_gc_threshold,
            concurrent_replicaset_syncs: self.concurrent_replicaset_syncs,
            concurrent_rc_syncs: self.concurrent_rc_syncs,
            concurrent_deployment_syncs: self.concurrent_deployment_syncs,
            concurrent_daemonset_syncs: self.concurrent_daemonset_syncs,
            concurrent_statefulset_syncs: self.concurrent_statefulset_syncs,
            concurrent_job_syncs: self.concurrent_job_syncs,
            concurrent_endpoint_syncs: self.concurrent_endpoint_syncs,
            mirroring: self.mirroring,
            concurrent_namespace_syncs: self.concurrent_namespace_syncs,
            concurrent_gc_syncs: self.concurrent_gc_syncs,
            concurrent_resource_quota_syncs: self.concurrent_resource_quota_syncs,
            resource_quota_sync_period: self.resource_quota_sync_period,
            notice_patience: NOTICE_PATIENCE,
            concurrent_syncs: 5,
        })
    }
}

/// What the flags make of the default election.
fn election(flags: &LeaderElectionArgs, default: LeaderElection) -> LeaderElection {
    LeaderElection {
        namespace: flags.leader_elect_resource_namespace.clone().unwrap_or(default.namespace),
        name: flags.leader_elect_resource_name.clone().unwrap_or(default.name),
        identity: default.identity,
        lease_duration: flags.leader_elect_lease_duration.unwrap_or(default.lease_duration),
        renew_deadline: flags.leader_elect_renew_deadline.unwrap_or(default.renew_deadline),
        retry_period: flags.leader_elect_retry_period.unwrap_or(default.retry_period),
    }
}

fn read(path: &PathBuf) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_are_chosen_as_upstream_chooses() {
        let config = |items: &[&str]| Config {
            controllers: items.iter().map(|&item| item.into()).collect(),
            ..Config::default()
        };
        assert!(config(&["*"]).is_enabled("replicaset-controller"));
        assert!(!config(&["*", "-replicaset-controller"]).is_enabled("replicaset-controller"));
        assert!(!config(&["deployment-controller"]).is_enabled("replicaset-controller"));
        assert!(!config(&["*", "-replicaset"]).is_enabled("replicaset-controller"), "by its older name");
        assert!(config(&["*", "-replicasets"]).check_controllers().is_err());
        let missing = config(&["*", "bootstrapsigner", "-route", "garbagecollector"]);
        assert_eq!(missing.check_controllers().unwrap(), ["bootstrapsigner"]);
    }

    #[test]
    fn an_election_is_made_of_flags_and_checked() {
        let default = || LeaderElection::new("kube-controller-manager", "host");
        let flags = LeaderElectionArgs {
            leader_elect_renew_deadline: Some(Duration::from_secs(20)),
            leader_elect_resource_name: Some("mine".to_owned()),
            ..LeaderElectionArgs::default()
        };
        let election = election(&flags, default());
        assert_eq!((election.name.as_str(), election.retry_period), ("mine", default().retry_period));
        assert!(election.check().is_err(), "the leader would go on after the lease ended");
        assert!(default().check().is_ok());
    }
}
