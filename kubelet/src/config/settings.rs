//! What an administrator can set: each field is a flag with its help and a field of the configuration file, a
//! `KubeletConfiguration` of kubelet.config.k8s.io/v1beta1, at once. Drop-ins lie over the file, and flags over both.
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{ArgMatches, Command, FromArgMatches};
use daemon::{CipherSuite, ConfigFile, LogArgs, LogFormat, MinVersion};
use k8s_openapi::api::core::v1::Taint;
use serde::Deserialize;

use super::forms::{Pair, given, given_pairs, pair, pairs, parsed, suites, taint, threshold, time};

const VERSION: &str = "kubelet.config.k8s.io/v1beta1";
const KIND: &str = "KubeletConfiguration";
/// The fields that mean nothing to this kubelet, or that ask for what it does not have.
const OTHERS: &str = include_str!("config_fields.txt");

/// The settings that this kubelet obeys; fields of the file that it does not know are refused. What only the file has is
/// skipped as a flag, and what is this node's alone is no field of the file.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Settings {
    /// Name of this node, instead of the machine's hostname
    #[arg(long)]
    #[serde(skip)]
    pub(super) hostname_override: Option<String>,
    /// Addresses of this node, the main one first
    #[arg(long, value_delimiter = ',')]
    #[serde(skip)]
    pub(super) node_ip: Vec<IpAddr>,
    /// Directory for volumes and files of pods
    #[arg(long, default_value = "/var/lib/kubelet")]
    #[serde(skip)]
    pub(super) root_dir: PathBuf,
    /// Directory for logs of pods [default: /var/log/pods]
    #[arg(long)]
    #[serde(rename = "podLogsDir", deserialize_with = "given")]
    pub(super) pod_log_dir: Option<PathBuf>,
    /// A KubeletConfiguration file; flags win over it
    #[arg(long)]
    #[serde(skip)]
    pub(super) config: Option<PathBuf>,
    /// A directory with more of them, *.conf, which are laid over it in the order of their names
    #[arg(long)]
    #[serde(skip)]
    pub(super) config_dir: Option<PathBuf>,
    /// Addresses of the cluster's name service
    #[arg(long, value_delimiter = ',')]
    #[serde(rename = "clusterDNS")]
    pub(super) cluster_dns: Option<Vec<IpAddr>>,
    /// Domain of the cluster
    #[arg(long)]
    #[serde(deserialize_with = "given")]
    pub(super) cluster_domain: Option<String>,
    /// Resolver configuration of the node
    #[arg(long)]
    pub(super) resolv_conf: Option<PathBuf>,
    /// Register the node with the API server
    #[arg(long)]
    pub(super) register_node: Option<bool>,
    /// Labels to register the node with, as key=value
    #[arg(long, value_delimiter = ',', value_parser = pair)]
    #[serde(skip)]
    pub(super) node_labels: Vec<Pair>,
    /// Taints to register the node with, as key=value:effect
    #[arg(long, value_delimiter = ',', value_parser = taint)]
    pub(super) register_with_taints: Vec<Taint>,
    /// Number of pods the node takes
    #[arg(long)]
    pub(super) max_pods: Option<usize>,
    /// Cgroup that holds those of pods: / or one name below it
    #[arg(long)]
    #[serde(deserialize_with = "given")]
    pub(super) cgroup_root: Option<String>,
    /// Number of processes a pod may have
    #[arg(long)]
    #[serde(rename = "podPidsLimit")]
    pub(super) pod_max_pids: Option<i64>,
    /// Kernel parameters that pods may set beside the safe ones, or their beginnings with a star, as net.core.*
    #[arg(long, value_delimiter = ',')]
    pub(super) allowed_unsafe_sysctls: Vec<String>,
    /// Fixed address range of pods, or one of each family with a comma, instead of what the cluster assigns
    #[arg(long)]
    #[serde(rename = "podCIDR", deserialize_with = "given")]
    pub(super) pod_cidr: Option<String>,
    /// Directory with manifests of static pods
    #[arg(long)]
    #[serde(rename = "staticPodPath", deserialize_with = "given")]
    pub(super) pod_manifest_path: Option<PathBuf>,
    /// Pull one image at a time
    #[arg(long)]
    pub(super) serialize_image_pulls: Option<bool>,
    /// Resources that pods cannot have, as cpu=100m,memory=200Mi
    #[arg(long, value_delimiter = ',', value_parser = pair)]
    #[serde(deserialize_with = "pairs")]
    pub(super) system_reserved: Vec<Pair>,
    /// Resources that pods cannot have, as cpu=100m,memory=200Mi
    #[arg(long, value_delimiter = ',', value_parser = pair)]
    #[serde(deserialize_with = "pairs")]
    pub(super) kube_reserved: Vec<Pair>,
    /// What a cloud calls this node
    #[arg(long)]
    #[serde(rename = "providerID", deserialize_with = "given")]
    pub(super) provider_id: Option<String>,
    /// How often the node says that it lives
    #[arg(long, value_parser = daemon::pflag::duration)]
    #[serde(deserialize_with = "time")]
    pub(super) node_status_update_frequency: Option<Duration>,
    /// Images that the node's status lists; -1 for all
    #[arg(long)]
    pub(super) node_status_max_images: Option<i32>,
    /// Percentage of the disk used at which unused images begin to be removed
    #[arg(long)]
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub(super) image_gc_high_threshold: Option<u64>,
    /// Percentage of the disk used at which no more images are removed
    #[arg(long)]
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub(super) image_gc_low_threshold: Option<u64>,
    /// Size of a container's log at which it is rotated, such as 10Mi
    #[arg(long)]
    #[serde(deserialize_with = "given")]
    pub(super) container_log_max_size: Option<String>,
    /// Logs of a container that are kept, at least 2
    #[arg(long)]
    pub(super) container_log_max_files: Option<u32>,
    /// What must be available, as memory.available<100Mi,nodefs.available<10%: with less the node is under pressure
    #[arg(long, value_delimiter = ',', value_parser = threshold)]
    #[serde(deserialize_with = "given_pairs")]
    pub(super) eviction_hard: Option<Vec<Pair>>,
    /// What should be available; with less for longer than --eviction-soft-grace-period, pods leave in peace
    #[arg(long, value_delimiter = ',', value_parser = threshold)]
    #[serde(deserialize_with = "pairs")]
    pub(super) eviction_soft: Vec<Pair>,
    /// How long a soft threshold is borne, as memory.available=1m30s
    #[arg(long, value_delimiter = ',', value_parser = pair)]
    #[serde(deserialize_with = "pairs")]
    pub(super) eviction_soft_grace_period: Vec<Pair>,
    /// How much more than the threshold is won back, as nodefs.available=2Gi
    #[arg(long, value_delimiter = ',', value_parser = pair)]
    #[serde(deserialize_with = "pairs")]
    pub(super) eviction_minimum_reclaim: Vec<Pair>,
    /// The most seconds that a pod has to end when a soft threshold is crossed
    #[arg(long)]
    pub(super) eviction_max_pod_grace_period: Option<u64>,
    /// How long the node says that it is under pressure after it was [default: 5m]
    #[arg(long, value_parser = daemon::pflag::duration)]
    #[serde(deserialize_with = "time")]
    pub(super) eviction_pressure_transition_period: Option<Duration>,
    /// Whether the usual hard thresholds hold beside those that are given
    #[arg(skip)]
    pub(super) merge_default_eviction_settings: Option<bool>,
    /// Serve at all
    #[arg(long)]
    pub(super) enable_server: Option<bool>,
    /// Lowest version of TLS that the server speaks: VersionTLS12 or VersionTLS13
    #[arg(long)]
    #[serde(deserialize_with = "parsed")]
    pub(super) tls_min_version: Option<MinVersion>,
    /// Cipher suites of TLS 1.2 that the server takes
    #[arg(long, value_delimiter = ',')]
    #[serde(deserialize_with = "suites")]
    pub(super) tls_cipher_suites: Vec<CipherSuite>,
    /// Renew the certificate that is shown to the API server, where it is in --cert-dir
    #[arg(long)]
    pub(super) rotate_certificates: Option<bool>,
    /// Ask the cluster for the certificate of the server, and renew it
    #[arg(long)]
    #[serde(rename = "serverTLSBootstrap")]
    pub(super) rotate_server_certificates: Option<bool>,
    /// Where a self-signed certificate is kept when none is given
    #[arg(long, default_value = "/var/lib/kubelet/pki")]
    #[serde(skip)]
    pub(super) cert_dir: PathBuf,
    /// Address the server listens on
    #[arg(long)]
    #[serde(deserialize_with = "given")]
    pub(super) address: Option<IpAddr>,
    /// Port the server listens on; 0 for no server
    #[arg(long)]
    #[serde(deserialize_with = "given")]
    pub(super) port: Option<u16>,
    /// Certificate of the server
    #[arg(long)]
    #[serde(deserialize_with = "given")]
    pub(super) tls_cert_file: Option<PathBuf>,
    /// Private key of the server
    #[arg(long)]
    #[serde(deserialize_with = "given")]
    pub(super) tls_private_key_file: Option<PathBuf>,
    /// Authority of client certificates
    #[arg(long)]
    #[serde(skip)]
    pub(super) client_ca_file: Option<PathBuf>,

    #[arg(skip)]
    #[serde(deserialize_with = "given")]
    pub(super) healthz_bind_address: Option<IpAddr>,
    #[arg(skip)]
    pub(super) healthz_port: Option<u16>,
    #[arg(skip)]
    pub(super) max_parallel_image_pulls: Option<usize>,
    #[arg(skip)]
    #[serde(deserialize_with = "time")]
    pub(super) node_status_report_frequency: Option<Duration>,
    #[arg(skip)]
    pub(super) node_lease_duration_seconds: Option<i32>,
    #[arg(skip)]
    pub(super) crash_loop_back_off: CrashLoopBackOff,
    #[arg(skip)]
    authentication: Authentication,
    #[arg(skip)]
    authorization: Authorization,
    #[arg(skip)]
    feature_gates: BTreeMap<String, bool>,
    #[arg(skip)]
    memory_swap: MemorySwap,
    #[arg(skip)]
    logging: Logging,
}

/// The flags of the kubelet, as they were given: whichever was is laid over the file.
#[derive(Clone, Debug)]
pub struct Args(ArgMatches);

impl clap::Args for Args {
    fn augment_args(command: Command) -> Command {
        Settings::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Settings::augment_args_for_update(command)
    }
}

impl FromArgMatches for Args {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Settings::from_arg_matches(matches).map(|_| Self(matches.clone()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        Self::from_arg_matches(matches).map(|new| *self = new)
    }
}

impl Args {
    /// Reads the configuration file and what lies over it.
    ///
    /// # Errors
    /// They name the file and the field.
    pub(super) fn settings(&self) -> anyhow::Result<Settings> {
        let flags = Settings::from_arg_matches(&self.0)?;
        let mut settings = Settings::read(flags.config.as_deref(), flags.config_dir.as_deref())?;
        settings.update_from_arg_matches(&self.0)?;
        Ok(settings)
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct CrashLoopBackOff {
    #[serde(deserialize_with = "time")]
    pub(super) max_container_restart_period: Option<Duration>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Authentication {
    x509: X509,
    anonymous: Anonymous,
    webhook: AuthenticationWebhook,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct X509 {
    #[serde(rename = "clientCAFile", deserialize_with = "given")]
    client_ca_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Anonymous {
    enabled: Option<bool>,
}

/// The times of caches are upstream's defaults.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct AuthenticationWebhook {
    enabled: Option<bool>,
    #[serde(rename = "cacheTTL", deserialize_with = "time")]
    _cache_ttl: Option<Duration>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Authorization {
    #[serde(deserialize_with = "given")]
    mode: Option<String>,
    #[serde(rename = "webhook")]
    _webhook: AuthorizationWebhook,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AuthorizationWebhook {
    #[serde(rename = "cacheAuthorizedTTL", deserialize_with = "time")]
    _authorized: Option<Duration>,
    #[serde(rename = "cacheUnauthorizedTTL", deserialize_with = "time")]
    _unauthorized: Option<Duration>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct MemorySwap {
    #[serde(deserialize_with = "given")]
    swap_behavior: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Logging {
    #[serde(deserialize_with = "given")]
    format: Option<String>,
    verbosity: u8,
    // Nothing is buffered, and all goes to standard error.
    #[serde(rename = "flushFrequency")]
    _flush_frequency: serde_json::Value,
    #[serde(rename = "options")]
    _options: serde_json::Value,
    #[serde(rename = "vmodule")]
    _vmodule: serde_json::Value,
}

impl Settings {
    /// Reads the file, and the `*.conf` of a directory over it, in the order of their names.
    fn read(path: Option<&Path>, directory: Option<&Path>) -> anyhow::Result<Self> {
        let mut all = path.map(Path::to_owned).into_iter().collect::<Vec<_>>();
        if let Some(directory) = directory {
            all.extend(drop_ins(directory).with_context(|| format!("read --config-dir {}", directory.display()))?);
        }
        let mut joined: Option<ConfigFile> = None;
        for path in all {
            let file = ConfigFile::read(&path, VERSION, KIND)?;
            match &mut joined {
                Some(joined) => joined.overlay(file),
                None => joined = Some(file),
            }
        }
        let Some(mut joined) = joined else { return Ok(Self::default()) };
        joined.ignore(OTHERS)?;
        let about = joined.clone();
        let mut settings: Self = joined.decode()?;
        settings.check().map_err(|(field, why)| about.refused(field, why))?;
        settings.client_ca_file = settings.authentication.x509.client_ca_file.take();
        Ok(settings)
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        let refuse = |field, why: &str| Err((field, why.to_owned()));
        if self.authentication.anonymous.enabled == Some(true) {
            return refuse("authentication.anonymous.enabled", "nobody may ask without saying who it is");
        }
        if self.authentication.webhook.enabled == Some(false) {
            return refuse("authentication.webhook.enabled", "the API server is always asked whose a token is");
        }
        if self.authorization.mode.as_ref().is_some_and(|mode| mode != "Webhook") {
            return refuse("authorization.mode", "the API server is always asked who may: Webhook");
        }
        if self.memory_swap.swap_behavior.as_ref().is_some_and(|behavior| behavior != "NoSwap") {
            return refuse("memorySwap.swapBehavior", "containers never swap: NoSwap");
        }
        if self.logging.format.as_ref().is_some_and(|format| !matches!(format.as_str(), "text" | "json")) {
            return refuse("logging.format", "must be text or json");
        }
        for (name, on) in &self.feature_gates {
            daemon::check_feature(name, *on).map_err(|err| ("featureGates", err.to_string()))?;
        }
        Ok(())
    }

    /// Flags of logging win over the file.
    pub(super) fn set_logs(&self, logs: &mut LogArgs) {
        if logs.verbosity == 0 {
            logs.verbosity = self.logging.verbosity;
        }
        if self.logging.format.as_deref() == Some("json") {
            logs.format = LogFormat::Json;
        }
    }
}

fn drop_ins(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let paths = std::fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<PathBuf> = paths.collect::<Result<_, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "conf") && path.is_file());
    paths.sort();
    Ok(paths)
}
