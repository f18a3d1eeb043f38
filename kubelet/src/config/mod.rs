//! Configuration: what flags and file say (upstream's names), and the struct that [`crate::run`] takes.
//!
//! To add a flag: a field of [`settings::Settings`], which is the flag, its help and the field of the file at once; what it
//! means, in one of the functions here; and its lines in `upstream_flags.txt` and `config_fields.txt` go.
pub(crate) mod command;
mod credentials;
pub(crate) mod evictions;
mod forms;
mod settings;
pub(crate) mod threshold;
pub(crate) mod tuning;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use daemon::TlsOptions;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use runtime::Runtime;

use crate::certificates::{Certificates, Kept};
use crate::ending::Ending;
use crate::node::{Registration, machine};
use crate::sandbox::sysctls::Allowlist;
use crate::server;
use credentials::Credentials;
use evictions::{Rules, Written};
use settings::Settings;
use tuning::Tuning;

pub(crate) use forms::{Pair, pair};
pub use settings::Args;

/// What a kubelet needs; made in `main`.
pub struct Config {
    /// This node's name.
    pub node_name: String,
    /// This node's addresses, the main one first.
    pub node_ips: Vec<IpAddr>,
    /// Volumes and files of pods.
    pub root_dir: PathBuf,
    /// Logs of pods.
    pub log_dir: PathBuf,
    /// Runs the containers.
    pub runtime: Arc<dyn Runtime>,
    /// Addresses of the cluster's name service.
    pub cluster_dns: Vec<IpAddr>,
    /// Such as `cluster.local`.
    pub cluster_domain: String,
    /// The node's own resolver configuration.
    pub resolv_conf: PathBuf,
    /// What the node says of itself.
    pub registration: Registration,
    /// The cgroup that holds that of this node's pods, one name; empty for the controllers' roots.
    pub cgroup_root: String,
    /// Processes a pod may have; 0 for no limit.
    pub pod_pids_limit: i64,
    /// What pods may set of their kernel parameters.
    pub allowed_sysctls: Allowlist,
    /// Directory with manifests of static pods.
    pub static_pod_path: Option<PathBuf>,
    /// So many image pulls at a time; `None` for any number.
    pub max_parallel_image_pulls: Option<usize>,
    /// Numbers that may be changed.
    pub tuning: Tuning,
    /// The HTTPS server; `None` for no server.
    pub server: Option<server::Config>,
    /// What is renewed while it is used.
    pub certificates: Certificates,
    /// Ends the pods before the kubelet ends; without that they go on running.
    pub ending: Ending,
    /// The node is there in name only: this machine's disks, drivers, paths and networks are not its own to look at.
    pub hollow: bool,
}

const DEFAULT_PORT: u16 = 10250;
const DEFAULT_LOG_DIR: &str = "/var/log/pods";
const DEFAULT_MAX_PODS: usize = 110;

impl Args {
    /// What the kubelet is to do, by its flags and its file; `runtime` runs the containers.
    ///
    /// # Errors
    /// They name what is wrong by its flag, or by its field of the file.
    pub fn into_config(self, runtime: Arc<dyn Runtime>) -> anyhow::Result<Config> {
        config(self.settings()?, runtime)
    }

    /// What one hollow node of this name is to do. It has directories of its own, and no server.
    pub(crate) fn hollow(&self, name: &str, address: IpAddr, runtime: Arc<dyn Runtime>) -> anyhow::Result<Config> {
        let mut settings = self.settings()?;
        for (flag, is_given) in [
            ("--port", settings.port.is_some_and(|port| port > 0)),
            ("--rotate-certificates", settings.rotate_certificates == Some(true)),
            ("--rotate-server-certificates", settings.rotate_server_certificates == Some(true)),
        ] {
            if is_given {
                bail!("{flag}: hollow nodes have no server, and share the credentials of --kubeconfig");
            }
        }
        settings.hostname_override = Some(name.to_owned());
        settings.enable_server = Some(false);
        if settings.node_ip.is_empty() {
            settings.node_ip.push(address);
        }
        settings.root_dir.push(name);
        settings.pod_log_dir.get_or_insert_with(|| DEFAULT_LOG_DIR.into()).push(name);
        Ok(Config { hollow: true, ..config(settings, runtime)? })
    }

    /// The name of this node.
    pub(crate) fn node_name(&self) -> anyhow::Result<String> {
        node_name(&self.settings()?)
    }
}

fn config(settings: Settings, runtime: Arc<dyn Runtime>) -> anyhow::Result<Config> {
    let name = node_name(&settings)?;
    let port = match settings.enable_server {
        Some(false) => 0,
        _ => settings.port.unwrap_or(DEFAULT_PORT),
    };
    let mut certificates = Certificates::default();
    let server = match port {
        0 => None,
        _ if asks_for_serving(&settings)? => Some(bootstrapped_server(&settings, port, &mut certificates)?),
        _ => Some(server(&settings, &name, port)?),
    };
    let allowed_sysctls = Allowlist::new(&machine::kernel(), &settings.allowed_unsafe_sysctls);
    let serial = settings.serialize_image_pulls.unwrap_or(false);
    Ok(Config {
        node_name: name,
        server,
        certificates,
        ending: Ending::default(),
        hollow: false,
        tuning: tuning(&settings)?,
        registration: registration(&settings, port)?,
        allowed_sysctls: allowed_sysctls.context("allowedUnsafeSysctls")?,
        node_ips: if settings.node_ip.is_empty() { vec![machine::default_ip()] } else { settings.node_ip },
        root_dir: settings.root_dir,
        log_dir: settings.pod_log_dir.unwrap_or_else(|| DEFAULT_LOG_DIR.into()),
        runtime,
        cluster_dns: settings.cluster_dns.unwrap_or_default(),
        cluster_domain: settings.cluster_domain.unwrap_or_else(|| "cluster.local".to_owned()),
        resolv_conf: settings.resolv_conf.unwrap_or_else(|| "/etc/resolv.conf".into()),
        cgroup_root: cgroup_root(settings.cgroup_root.as_deref())?,
        pod_pids_limit: settings.pod_max_pids.unwrap_or(-1).max(0),
        static_pod_path: settings.pod_manifest_path,
        max_parallel_image_pulls: if serial { Some(1) } else { settings.max_parallel_image_pulls },
    })
}

/// Reads `/` or `/name`. What all pods of a node may have together is a limit of the topmost cgroup, which must be theirs.
fn cgroup_root(given: Option<&str>) -> anyhow::Result<String> {
    let name = given.unwrap_or("/").trim_matches('/');
    if name.contains('/') || name == "." || name == ".." {
        bail!("cgroupRoot {name:?}: must be / or one name below it");
    }
    Ok(name.to_owned())
}

impl Args {
    /// How the kubelet gets to credentials, by its flags and its file.
    fn credentials(&self, kubeconfig: Option<PathBuf>, bootstrap: Option<PathBuf>) -> anyhow::Result<Credentials> {
        let settings = self.settings()?;
        Ok(Credentials {
            kubeconfig,
            bootstrap,
            directory: settings.cert_dir.clone(),
            node: node_name(&settings)?,
            rotate: settings.rotate_certificates.unwrap_or(false),
        })
    }
}

fn node_name(settings: &Settings) -> anyhow::Result<String> {
    let name = settings.hostname_override.clone().unwrap_or_else(machine::hostname).trim().to_lowercase();
    if name.is_empty() {
        bail!("this machine has no hostname; name the node with --hostname-override");
    }
    Ok(name)
}

fn registration(settings: &Settings, port: u16) -> anyhow::Result<Registration> {
    let mut reserved = BTreeMap::new();
    reserve(&mut reserved, "kubeReserved", &settings.kube_reserved)?;
    reserve(&mut reserved, "systemReserved", &settings.system_reserved)?;
    Ok(Registration {
        register: settings.register_node.unwrap_or(true),
        labels: settings.node_labels.iter().cloned().collect(),
        taints: settings.register_with_taints.clone(),
        max_pods: settings.max_pods.filter(|number| *number > 0).unwrap_or(DEFAULT_MAX_PODS),
        reserved,
        port: i32::from(port),
        capacity: BTreeMap::new(),
        pod_cidr: settings.pod_cidr.clone(),
        provider_id: settings.provider_id.clone(),
    })
}

fn tuning(settings: &Settings) -> anyhow::Result<Tuning> {
    let default = Tuning::default();
    let size = settings.container_log_max_size.as_ref().map(|text| threshold::bytes(text)).transpose();
    let heartbeat = settings.node_status_update_frequency;
    let lease = settings.node_lease_duration_seconds.filter(|seconds| *seconds > 0);
    let tuning = Tuning {
        heartbeat: heartbeat.unwrap_or(default.heartbeat),
        // As upstream: who changes how often the status is looked at changes how often it is repeated.
        report: settings.node_status_report_frequency.or(heartbeat).unwrap_or(default.report),
        lease_seconds: lease.unwrap_or(default.lease_seconds),
        max_images: settings.node_status_max_images.map_or(default.max_images, |number| usize::try_from(number).ok()),
        image_gc: (
            settings.image_gc_high_threshold.unwrap_or(default.image_gc.0),
            settings.image_gc_low_threshold.unwrap_or(default.image_gc.1),
        ),
        max_log: size.map_err(anyhow::Error::msg).context("containerLogMaxSize")?.unwrap_or(default.max_log),
        log_files: settings.container_log_max_files.unwrap_or(default.log_files),
        restart_backoff: settings.crash_loop_back_off.max_container_restart_period.unwrap_or(default.restart_backoff),
        evictions: Rules::read(&evictions(settings))?,
    };
    if !(tuning.image_gc.1 < tuning.image_gc.0 && tuning.image_gc.0 <= 100) {
        bail!("imageGCHighThresholdPercent must be at most 100 and above imageGCLowThresholdPercent");
    }
    if tuning.log_files < 2 {
        bail!("containerLogMaxFiles must be at least 2");
    }
    if !(Duration::from_secs(1)..=default.restart_backoff).contains(&tuning.restart_backoff) {
        bail!("crashLoopBackOff.maxContainerRestartPeriod must be from 1s to 300s");
    }
    if tuning.heartbeat.is_zero() || tuning.heartbeat.as_secs() >= u64::try_from(tuning.lease_seconds)? {
        bail!("nodeStatusUpdateFrequency must be shorter than the node's lease of {} s", tuning.lease_seconds);
    }
    Ok(tuning)
}

fn server(settings: &Settings, node_name: &str, port: u16) -> anyhow::Result<server::Config> {
    let (certificate, key) = match (settings.tls_cert_file.clone(), settings.tls_private_key_file.clone()) {
        (Some(certificate), Some(key)) => (certificate, key),
        (None, None) => daemon::keep_self_signed(&settings.cert_dir, "kubelet", &[node_name], &settings.node_ip)?,
        _ => bail!("--tls-cert-file and --tls-private-key-file go together"),
    };
    let (client_ca, options) = (client_ca(settings)?, tls(settings));
    server::Config::from_files(listen_at(settings, port), &server::Tls { certificate, key, client_ca, options })
}

/// Whether the certificate of the server is to be asked for.
fn asks_for_serving(settings: &Settings) -> anyhow::Result<bool> {
    let asks = settings.rotate_server_certificates.unwrap_or(false);
    if asks && settings.tls_cert_file.is_some() {
        bail!("--rotate-server-certificates and --tls-cert-file exclude each other: one of them is the certificate");
    }
    Ok(asks)
}

/// A server whose certificate is asked for; until there is one, nobody can connect.
fn bootstrapped_server(
    settings: &Settings,
    port: u16,
    certificates: &mut Certificates,
) -> anyhow::Result<server::Config> {
    let client_ca = client_ca(settings)?;
    credentials::make_directory(&settings.cert_dir)?;
    let kept = Kept { identity: Arc::default(), file: settings.cert_dir.join("kubelet-server-current.pem") };
    kept.read().with_context(|| kept.file.display().to_string())?;
    let identity = Arc::clone(&kept.identity);
    certificates.serving = Some(kept);
    server::Config::live_with(
        listen_at(settings, port),
        identity,
        daemon::certificates_from(&client_ca)?,
        &tls(settings),
    )
}

fn client_ca(settings: &Settings) -> anyhow::Result<PathBuf> {
    settings.client_ca_file.clone().context("the server needs --client-ca-file (or --port 0 for no server)")
}

fn tls(settings: &Settings) -> TlsOptions {
    TlsOptions {
        min_version: settings.tls_min_version.unwrap_or_default(),
        cipher_suites: settings.tls_cipher_suites.clone(),
    }
}

fn listen_at(settings: &Settings, port: u16) -> SocketAddr {
    SocketAddr::new(settings.address.unwrap_or(IpAddr::from([0, 0, 0, 0])), port)
}

fn evictions(settings: &Settings) -> Written {
    let map = |pairs: &[Pair]| pairs.iter().cloned().collect();
    Written {
        hard: settings.eviction_hard.as_deref().map(map),
        merge_defaults: settings.merge_default_eviction_settings.unwrap_or(false),
        soft: map(&settings.eviction_soft),
        soft_grace: map(&settings.eviction_soft_grace_period),
        minimum_reclaim: map(&settings.eviction_minimum_reclaim),
        longest_grace: Duration::from_secs(settings.eviction_max_pod_grace_period.unwrap_or(0)),
        transition: settings.eviction_pressure_transition_period,
    }
}

/// Adds amounts to what pods cannot have; `field` names them in errors.
fn reserve(reserved: &mut BTreeMap<String, String>, field: &'static str, amounts: &[Pair]) -> anyhow::Result<()> {
    let milli = |text: &str| crate::resources::milli(&Quantity(text.to_owned()));
    for (resource, amount) in amounts {
        if !matches!(resource.as_str(), "cpu" | "memory" | "ephemeral-storage" | "pid") {
            bail!("{field}: cannot reserve {resource:?}");
        }
        let more = milli(amount).filter(|milli| *milli >= 0);
        let more = more.with_context(|| format!("{field}: {resource}: {amount:?} is no amount to reserve"))?;
        let before = reserved.get(resource).and_then(|text| milli(text)).unwrap_or(0);
        reserved.insert(resource.clone(), format!("{}m", before + more));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
