//! What the controllers are to do (upstream: `KubeControllerManagerConfiguration`). Flags are fields of [`Ranges`],
//! [`Mirroring`], [`Autoscaling`] and [`Tuning`], with their defaults; [`Args`] adds what has to be read or made first.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use client::LeaderElection;
use daemon::{LeaderElectionArgs, TokenKey};
use facts::cidr::Cidr;

use crate::load_balancer::pool::AddressRange;

/// What the controllers are to do; made in `main` or by the process that embeds them.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which controllers run: `*` for all, `name` for one, `-name` for all but one.
    pub controllers: Vec<String>,
    /// Run only while this lease is held; `None` to run always.
    pub leader_election: Option<LeaderElection>,
    /// The pod ranges of nodes.
    pub ranges: Ranges,
    /// The certificates (PEM) that pods trust the API server by, published as `kube-root-ca.crt`.
    pub root_ca: Option<String>,
    /// The CA that signs certificate requests.
    pub signing: Option<Signing>,
    /// The key that signs the tokens of Secrets; without it such Secrets stay empty.
    pub token_key: Option<Arc<TokenKey>>,
    /// Ranges in which no node can be, where serving certificates of kubelets are approved without an administrator, which
    /// upstream never does; `None` to leave it to one.
    pub approve_serving: Option<Vec<Cidr>>,
    /// How much is done at once, and how long is waited.
    pub tuning: Tuning,
    /// Addresses that Services of type LoadBalancer get; without any they get none.
    pub load_balancer_pool: Vec<AddressRange>,
    /// What the nodes do, which controllers cannot see.
    pub enforced: Enforced,
    /// How long nobody must have taken up an object of a kind that is only stored before an event says so.
    pub notice_patience: Duration,
}

impl Default for Config {
    /// Upstream's defaults, without leader election, node ranges and certificates.
    fn default() -> Self {
        Self {
            controllers: vec!["*".to_owned()],
            leader_election: None,
            ranges: daemon::pflag::defaults(),
            root_ca: None,
            signing: None,
            token_key: None,
            approve_serving: None,
            tuning: daemon::pflag::defaults(),
            load_balancer_pool: Vec::new(),
            enforced: daemon::pflag::defaults(),
            notice_patience: Duration::from_secs(30),
        }
    }
}

/// What the nodes do, which controllers cannot see.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Enforced {
    /// The nodes enforce NetworkPolicies, by network-policy or by something else: no event says that they are not enforced.
    #[arg(long, default_value_t = false)]
    pub network_policy: bool,
}

/// The pod ranges of nodes.
#[derive(Clone, Debug, clap::Args)]
pub struct Ranges {
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
}

impl Ranges {
    /// Every node gets ranges of the usual sizes out of these, of which there is one of a family at most.
    pub fn out_of(cluster_cidr: Vec<String>) -> Self {
        Self { allocate_node_cidrs: true, cluster_cidr, ..daemon::pflag::defaults() }
    }
}

/// How Endpoints that are written by hand are shown in EndpointSlices.
#[derive(Clone, Copy, Debug, clap::Args)]
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

/// As many as a slice can hold.
fn per_subset(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=1000).contains(count));
    count.ok_or_else(|| "must be between 1 and 1000".to_owned())
}

/// How targets of HorizontalPodAutoscalers are scaled.
#[derive(Clone, Debug, clap::Args)]
pub struct Autoscaling {
    /// Workers of the horizontal pod autoscaler controller.
    #[arg(long = "concurrent-horizontal-pod-autoscaler-syncs", default_value_t = 5)]
    pub autoscaler_workers: usize,
    /// How often each autoscaler is looked at.
    #[arg(long = "horizontal-pod-autoscaler-sync-period", default_value = "15s", value_parser = period)]
    pub sync_period: Duration,
    /// How long a recommendation stops targets from shrinking below it, where the autoscaler does not say.
    #[arg(long = "horizontal-pod-autoscaler-downscale-stabilization", default_value = "5m", value_parser = daemon::pflag::duration)]
    pub downscale_stabilization: Duration,
    /// How far, in parts of its target, a metric may be off before something is done, where the autoscaler does not say.
    #[arg(long = "horizontal-pod-autoscaler-tolerance", default_value_t = 0.1, value_parser = tolerance)]
    pub tolerance: f64,
    /// How long after its start the use of processors by a pod may be left out.
    #[arg(long = "horizontal-pod-autoscaler-cpu-initialization-period", default_value = "5m", value_parser = daemon::pflag::duration)]
    pub cpu_initialization_period: Duration,
    /// How long after its start a change of a pod's readiness counts as its first.
    #[arg(long = "horizontal-pod-autoscaler-initial-readiness-delay", default_value = "30s", value_parser = daemon::pflag::duration)]
    pub initial_readiness_delay: Duration,
}

/// Not without end, and not all the time.
fn period(text: &str) -> Result<Duration, String> {
    let period = daemon::pflag::duration(text)?;
    if period.is_zero() { Err("must be greater than zero".to_owned()) } else { Ok(period) }
}

fn tolerance(text: &str) -> Result<f64, String> {
    let parts = text.parse().ok().filter(|parts: &f64| parts.is_finite() && *parts >= 0.0);
    parts.ok_or_else(|| "must be a number that is not negative".to_owned())
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

/// How much is done at once, and how long is waited.
#[derive(Clone, Debug, clap::Args)]
pub struct Tuning {
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
    #[command(flatten)]
    pub autoscaling: Autoscaling,
    /// How long a node that is not ready may keep a volume that no pod uses, before it is detached all the same.
    #[arg(long, default_value = "6m", value_parser = daemon::pflag::duration)]
    pub attach_detach_reconcile_max_wait_unmount_duration: Duration,
    /// Never detach a volume that a node says it uses, unless the node is out of service.
    #[arg(long, default_value_t = false)]
    pub disable_force_detach_on_timeout: bool,
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
    /// Workers of the controller of ServiceAccount tokens in Secrets.
    #[arg(long, default_value_t = 5)]
    pub concurrent_serviceaccount_token_syncs: usize,
    /// Workers of every other controller.
    #[arg(skip = 5_usize)]
    pub concurrent_syncs: usize,
}

/// The flags of the controller manager.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Controllers to run: '*' for all, 'foo' for one, '-foo' for all but one.
    #[arg(long, value_delimiter = ',', default_value = "*", allow_hyphen_values = true)]
    pub controllers: Vec<String>,
    #[command(flatten)]
    pub leader: LeaderElectionArgs,
    #[command(flatten)]
    pub ranges: Ranges,
    /// PEM file of the certificates that pods trust the API server by.
    #[arg(long)]
    pub root_ca_file: Option<PathBuf>,
    /// PEM file of the private key that signs the tokens of Secrets for ServiceAccounts.
    #[arg(long)]
    pub service_account_private_key_file: Option<PathBuf>,
    /// PEM file of the CA that signs certificate requests.
    #[arg(long, requires = "cluster_signing_key_file")]
    pub cluster_signing_cert_file: Option<PathBuf>,
    /// PEM file of that CA's private key.
    #[arg(long, requires = "cluster_signing_cert_file")]
    pub cluster_signing_key_file: Option<PathBuf>,
    /// Addresses that Services of type LoadBalancer get, as ranges such as 192.0.2.0/28 or 192.0.2.10-192.0.2.20.
    #[arg(long, value_delimiter = ',')]
    pub load_balancer_pool: Vec<AddressRange>,
    #[command(flatten)]
    pub enforced: Enforced,
    #[command(flatten)]
    pub tuning: Tuning,
}

impl Args {
    /// Makes the election, and reads the files that flags name. Fails when one cannot be read, or the election's times do not
    /// go together.
    pub fn into_config(self) -> anyhow::Result<Config> {
        let token_key = self.service_account_private_key_file.as_ref().map(token_key).transpose()?;
        let signing = match (&self.cluster_signing_cert_file, &self.cluster_signing_key_file) {
            (Some(certificate), Some(key)) => Some(Signing { certificate: read(certificate)?, key: read(key)? }),
            _ => None,
        };
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let election = LeaderElection::new("kube-controller-manager", host.trim()).with_flags(&self.leader);
        election.check()?;
        Ok(Config {
            controllers: self.controllers,
            leader_election: self.leader.leader_elect.unwrap_or(true).then_some(election),
            ranges: self.ranges,
            root_ca: self.root_ca_file.as_ref().map(read).transpose()?,
            signing,
            token_key,
            load_balancer_pool: self.load_balancer_pool,
            enforced: self.enforced,
            tuning: self.tuning,
            ..Config::default()
        })
    }
}

fn token_key(path: &PathBuf) -> anyhow::Result<Arc<TokenKey>> {
    let key = TokenKey::from_pem(&read(path)?);
    key.map(Arc::new).with_context(|| format!("{} holds no usable private key", path.display()))
}

fn read(path: &PathBuf) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn autoscalers_are_looked_at_as_upstream_does_and_not_all_the_time() {
        let Tuning { autoscaling: usual, .. } = daemon::pflag::defaults();
        assert_eq!((usual.sync_period, usual.autoscaler_workers), (Duration::from_secs(15), 5));
        assert_eq!(usual.downscale_stabilization, Duration::from_secs(300));
        assert_eq!(usual.tolerance.to_string(), "0.1");
        assert!(period("0s").is_err() && period("-1s").is_err() && period("100ms").is_ok());
        for (text, is_number) in
            [("0", true), ("0.25", true), ("-0.1", false), ("NaN", false), ("inf", false), ("x", false)]
        {
            assert_eq!(tolerance(text).is_ok(), is_number, "{text}");
        }
    }
}
