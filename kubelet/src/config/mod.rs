//! Configuration: the struct that [`crate::run`] takes, the flags (upstream's names) and the configuration file.
pub(crate) mod command;
pub(crate) mod file;
pub mod tuning;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use daemon::{CipherSuite, MinVersion, TlsOptions};
use k8s_openapi::api::core::v1::Taint;
use runtime::Runtime;

use crate::node::{Registration, machine};
use crate::sandbox::sysctls::Allowlist;
use crate::server;
use file::File;
use tuning::{Threshold, Tuning};

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
}

/// The flags of the kubelet.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Name of this node, instead of the machine's hostname
    #[arg(long)]
    pub hostname_override: Option<String>,
    /// Addresses of this node, the main one first
    #[arg(long, value_delimiter = ',')]
    pub node_ip: Vec<IpAddr>,
    /// Directory for volumes and files of pods
    #[arg(long, default_value = "/var/lib/kubelet")]
    pub root_dir: PathBuf,
    /// Directory for logs of pods [default: /var/log/pods]
    #[arg(long)]
    pub pod_log_dir: Option<PathBuf>,
    /// A KubeletConfiguration file; flags win over it
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// A directory with more of them, *.conf, which are laid over it in the order of their names
    #[arg(long)]
    pub config_dir: Option<PathBuf>,
    /// Addresses of the cluster's name service
    #[arg(long, value_delimiter = ',')]
    pub cluster_dns: Option<Vec<IpAddr>>,
    /// Domain of the cluster
    #[arg(long)]
    pub cluster_domain: Option<String>,
    /// Resolver configuration of the node
    #[arg(long)]
    pub resolv_conf: Option<PathBuf>,
    /// Register the node with the API server
    #[arg(long)]
    pub register_node: Option<bool>,
    /// Labels to register the node with, as key=value
    #[arg(long, value_delimiter = ',')]
    pub node_labels: Vec<String>,
    /// Taints to register the node with, as key=value:effect
    #[arg(long, value_delimiter = ',')]
    pub register_with_taints: Vec<String>,
    /// Number of pods the node takes
    #[arg(long)]
    pub max_pods: Option<usize>,
    /// Number of processes a pod may have
    #[arg(long)]
    pub pod_max_pids: Option<i64>,
    /// Kernel parameters that pods may set beside the safe ones, or their beginnings with a star, as net.core.*
    #[arg(long, value_delimiter = ',')]
    pub allowed_unsafe_sysctls: Option<Vec<String>>,
    /// Fixed address range of pods, instead of the one the cluster assigns
    #[arg(long)]
    pub pod_cidr: Option<String>,
    /// Directory with manifests of static pods
    #[arg(long)]
    pub pod_manifest_path: Option<PathBuf>,
    /// Pull one image at a time
    #[arg(long)]
    pub serialize_image_pulls: Option<bool>,
    /// Resources that pods cannot have, as cpu=100m,memory=200Mi
    #[arg(long, value_delimiter = ',')]
    pub system_reserved: Vec<String>,
    /// Resources that pods cannot have, as cpu=100m,memory=200Mi
    #[arg(long, value_delimiter = ',')]
    pub kube_reserved: Vec<String>,
    /// What a cloud calls this node
    #[arg(long)]
    pub provider_id: Option<String>,
    /// How often the node says that it lives
    #[arg(long, value_parser = daemon::pflag::duration)]
    pub node_status_update_frequency: Option<Duration>,
    /// Images that the node's status lists; -1 for all
    #[arg(long)]
    pub node_status_max_images: Option<i32>,
    /// Percentage of the disk used at which unused images begin to be removed
    #[arg(long)]
    pub image_gc_high_threshold: Option<u64>,
    /// Percentage of the disk used at which no more images are removed
    #[arg(long)]
    pub image_gc_low_threshold: Option<u64>,
    /// Size of a container's log at which it is rotated, such as 10Mi
    #[arg(long)]
    pub container_log_max_size: Option<String>,
    /// Logs of a container that are kept, at least 2
    #[arg(long)]
    pub container_log_max_files: Option<u32>,
    /// What must be available, as memory.available<100Mi,nodefs.available<10%: with less the node is under pressure
    #[arg(long, value_delimiter = ',')]
    pub eviction_hard: Vec<String>,
    /// Serve at all
    #[arg(long)]
    pub enable_server: Option<bool>,
    /// Lowest version of TLS that the server speaks: VersionTLS12 or VersionTLS13
    #[arg(long)]
    pub tls_min_version: Option<MinVersion>,
    /// Cipher suites of TLS 1.2 that the server takes
    #[arg(long, value_delimiter = ',')]
    pub tls_cipher_suites: Vec<CipherSuite>,
    /// Where a self-signed certificate is kept when none is given
    #[arg(long, default_value = "/var/lib/kubelet/pki")]
    pub cert_dir: PathBuf,
    /// Address the server listens on
    #[arg(long)]
    pub address: Option<IpAddr>,
    /// Port the server listens on; 0 for no server
    #[arg(long)]
    pub port: Option<u16>,
    /// Certificate of the server
    #[arg(long)]
    pub tls_cert_file: Option<PathBuf>,
    /// Private key of the server
    #[arg(long)]
    pub tls_private_key_file: Option<PathBuf>,
    /// Authority of client certificates
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
}

const DEFAULT_PORT: u16 = 10250;
const DEFAULT_MAX_PODS: usize = 110;

impl Args {
    /// Reads the configuration file and what lies over it.
    pub(crate) fn file(&self) -> anyhow::Result<File> {
        File::read(self.config.as_deref(), self.config_dir.as_deref())
    }

    /// Joins flags and file; `runtime` runs the containers.
    pub fn into_config(self, runtime: Arc<dyn Runtime>) -> anyhow::Result<Config> {
        let file = self.file()?;
        let serves = self.enable_server.or(file.enable_server).unwrap_or(true);
        let port = self.port.or(file.port).filter(|_| serves).unwrap_or(if serves { DEFAULT_PORT } else { 0 });
        let node_name = self.hostname_override.clone().unwrap_or_else(machine::hostname).trim().to_lowercase();
        if node_name.is_empty() {
            bail!("this machine has no hostname; name the node with --hostname-override");
        }
        let server = if port == 0 { None } else { Some(self.server(&file, &node_name, port)?) };
        let tuning = self.tuning(&file)?;
        let registration = self.registration(&file, port)?;
        let unsafe_ones = self.allowed_unsafe_sysctls.as_ref().unwrap_or(&file.allowed_unsafe_sysctls);
        let allowed_sysctls = Allowlist::new(&machine::kernel(), unsafe_ones).context("allowedUnsafeSysctls")?;
        let serial = self.serialize_image_pulls.or(file.serialize_image_pulls).unwrap_or(false);
        Ok(Config {
            node_name,
            node_ips: if self.node_ip.is_empty() { vec![machine::default_ip()] } else { self.node_ip },
            root_dir: self.root_dir,
            log_dir: self.pod_log_dir.or(file.pod_logs_dir).unwrap_or_else(|| "/var/log/pods".into()),
            runtime,
            cluster_dns: self.cluster_dns.or(file.cluster_dns).unwrap_or_default(),
            cluster_domain: self.cluster_domain.or(file.cluster_domain).unwrap_or_else(|| "cluster.local".to_owned()),
            resolv_conf: self.resolv_conf.or(file.resolv_conf).unwrap_or_else(|| "/etc/resolv.conf".into()),
            registration,
            pod_pids_limit: self.pod_max_pids.or(file.pod_pids_limit).unwrap_or(-1).max(0),
            allowed_sysctls,
            static_pod_path: self.pod_manifest_path.or(file.static_pod_path),
            max_parallel_image_pulls: if serial { Some(1) } else { file.max_parallel_image_pulls },
            tuning,
            server,
        })
    }

    fn registration(&self, file: &File, port: u16) -> anyhow::Result<Registration> {
        let mut reserved = file.kube_reserved.clone();
        let of_file = file.system_reserved.iter().map(|(resource, amount)| (resource.clone(), amount.clone()));
        for pair in of_file.chain(pairs("kube-reserved", &self.kube_reserved)?) {
            add_reserved(&mut reserved, pair);
        }
        pairs("system-reserved", &self.system_reserved)?.into_iter().for_each(|pair| add_reserved(&mut reserved, pair));
        let mut taints = file.register_with_taints.clone();
        for text in &self.register_with_taints {
            taints.push(taint(text)?);
        }
        Ok(Registration {
            register: self.register_node.or(file.register_node).unwrap_or(true),
            labels: pairs("node-labels", &self.node_labels)?.into_iter().collect(),
            taints,
            max_pods: self.max_pods.or(file.max_pods).filter(|number| *number > 0).unwrap_or(DEFAULT_MAX_PODS),
            reserved,
            port: i32::from(port),
            pod_cidr: self.pod_cidr.clone().or_else(|| file.pod_cidr.clone()),
            provider_id: self.provider_id.clone().or_else(|| file.provider_id.clone()),
        })
    }

    fn tuning(&self, file: &File) -> anyhow::Result<Tuning> {
        let default = Tuning::default();
        let size = self.container_log_max_size.as_ref().or(file.container_log_max_size.as_ref());
        let size = size.map(|text| tuning::bytes(text)).transpose().map_err(anyhow::Error::msg);
        let max_images = self.node_status_max_images.or(file.node_status_max_images);
        let heartbeat = self.node_status_update_frequency.or(file.node_status_update_frequency);
        // As upstream: who changes how often the status is looked at changes how often it is repeated.
        let report = file.node_status_report_frequency.or(heartbeat).unwrap_or(default.report);
        let flags = pairs_by('<', "eviction-hard", &self.eviction_hard)?;
        let evictions: BTreeMap<String, String> =
            if flags.is_empty() { file.eviction_hard.clone() } else { flags.into_iter().collect() };
        let tuning = Tuning {
            heartbeat: heartbeat.unwrap_or(default.heartbeat),
            report,
            lease_seconds: file
                .node_lease_duration_seconds
                .filter(|seconds| *seconds > 0)
                .unwrap_or(default.lease_seconds),
            max_images: max_images.map_or(default.max_images, |number| usize::try_from(number).ok()),
            image_gc: (
                self.image_gc_high_threshold.or(file.image_gc_high_threshold_percent).unwrap_or(default.image_gc.0),
                self.image_gc_low_threshold.or(file.image_gc_low_threshold_percent).unwrap_or(default.image_gc.1),
            ),
            max_log: size.context("containerLogMaxSize")?.unwrap_or(default.max_log),
            log_files: self.container_log_max_files.or(file.container_log_max_files).unwrap_or(default.log_files),
            least_memory: threshold(&evictions, "memory.available")?,
            least_disk: threshold(&evictions, "nodefs.available")?,
        };
        if !(tuning.image_gc.1 < tuning.image_gc.0 && tuning.image_gc.0 <= 100) {
            bail!("imageGCHighThresholdPercent must be at most 100 and above imageGCLowThresholdPercent");
        }
        if tuning.log_files < 2 {
            bail!("containerLogMaxFiles must be at least 2");
        }
        if tuning.heartbeat.is_zero() || tuning.heartbeat.as_secs() >= u64::try_from(tuning.lease_seconds)? {
            bail!("nodeStatusUpdateFrequency must be shorter than the node's lease of {} s", tuning.lease_seconds);
        }
        Ok(tuning)
    }

    fn server(&self, file: &File, node_name: &str, port: u16) -> anyhow::Result<server::Config> {
        let certificate = self.tls_cert_file.clone().or_else(|| file.tls_cert_file.clone());
        let key = self.tls_private_key_file.clone().or_else(|| file.tls_private_key_file.clone());
        let (certificate, key) = match (certificate, key) {
            (Some(certificate), Some(key)) => (certificate, key),
            (None, None) => daemon::keep_self_signed(&self.cert_dir, "kubelet", &[node_name], &self.node_ip)?,
            _ => bail!("--tls-cert-file and --tls-private-key-file go together"),
        };
        let client_ca = self.client_ca_file.clone().or_else(|| file.client_ca().cloned());
        let client_ca = client_ca.context("the server needs --client-ca-file (or --port 0 for no server)")?;
        let suites = if self.tls_cipher_suites.is_empty() {
            file.cipher_suites().map_err(|(field, why)| anyhow::anyhow!("{field}: {why}"))?
        } else {
            self.tls_cipher_suites.clone()
        };
        let options = TlsOptions {
            min_version: self.tls_min_version.or(file.tls_min_version).unwrap_or_default(),
            cipher_suites: suites,
        };
        let tls = server::Tls { certificate, key, client_ca, options };
        let ip = self.address.or(file.address).unwrap_or(IpAddr::from([0, 0, 0, 0]));
        server::Config::from_files(SocketAddr::new(ip, port), &tls)
    }
}

/// A signal of node pressure. All others mean nothing here.
fn threshold(evictions: &BTreeMap<String, String>, signal: &str) -> anyhow::Result<Option<Threshold>> {
    const SIGNALS: [&str; 9] = [
        "allocatableMemory.available",
        "containerfs.available",
        "containerfs.inodesFree",
        "imagefs.available",
        "imagefs.inodesFree",
        "memory.available",
        "nodefs.available",
        "nodefs.inodesFree",
        "pid.available",
    ];
    if let Some(unknown) = evictions.keys().find(|known| !SIGNALS.contains(&known.as_str())) {
        bail!("evictionHard: there is no signal {unknown:?}");
    }
    let read = |text: &String| text.parse().map_err(|why| anyhow::anyhow!("evictionHard: {signal}: {why}"));
    evictions.get(signal).map(read).transpose()
}

fn pairs(flag: &str, list: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    pairs_by('=', flag, list)
}

fn pairs_by(sign: char, flag: &str, list: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    let pair = |text: &String| {
        let split = text.split_once(sign);
        let (key, value) = split.with_context(|| format!("--{flag} {text:?}: not of the form key{sign}value"))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    list.iter().map(pair).collect()
}

fn add_reserved(reserved: &mut BTreeMap<String, String>, (resource, more): (String, String)) {
    let milli = |text: &str| {
        crate::resources::milli(&k8s_openapi::apimachinery::pkg::api::resource::Quantity(text.to_owned())).unwrap_or(0)
    };
    let before = reserved.get(&resource).map_or(0, |text| milli(text));
    reserved.insert(resource, format!("{}m", before + milli(&more)));
}

fn taint(text: &str) -> anyhow::Result<Taint> {
    let wrong = || format!("--register-with-taints {text:?}: not of the form key=value:effect");
    let (rest, effect) = text.rsplit_once(':').with_context(wrong)?;
    if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        bail!("{}", wrong());
    }
    let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
    let value = (!value.is_empty()).then(|| value.to_owned());
    Ok(Taint { key: key.to_owned(), value, effect: effect.to_owned(), time_added: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn config(flags: &[&str]) -> anyhow::Result<Config> {
        let flags = ["kubelet", "--hostname-override=n1", "--port=0"].iter().chain(flags);
        let runtime = Arc::new(runtime::fake::FakeRuntime::new());
        let command: Command = daemon::pflag::try_parse_from(flags.map(Into::into))?;
        command.args.into_config(runtime)
    }

    #[test]
    fn flags_have_upstreams_forms() {
        let config = config(&["--node-labels=a=1,b=2", "--register-with-taints=k=v:NoSchedule,x:NoExecute"]).unwrap();
        assert_eq!(config.registration.labels.len(), 2);
        assert_eq!(config.registration.taints[1].effect, "NoExecute");
        assert_eq!(config.registration.max_pods, 110);
    }

    #[test]
    fn wrong_flags_name_themselves() {
        let check = |flag: &str, text: &str| {
            let err = config(&[flag]).err().unwrap();
            assert!(format!("{err:#}").contains(text), "{err:#}");
        };
        check("--node-labels=a", "--node-labels");
        check("--register-with-taints=a:Never", "--register-with-taints");
        check("--config=/nowhere/x.yaml", "/nowhere/x.yaml");
    }

    const HEAD: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";

    /// A kubelet with these fields in its file, and these flags.
    fn with_file(fields: &str, flags: &[&str]) -> Result<Config, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kubelet.yaml");
        std::fs::write(&path, format!("{HEAD}{fields}")).unwrap();
        let file = format!("--config={}", path.display());
        config(&[&[file.as_str()], flags].concat()).map_err(|err| format!("{err:#}"))
    }

    #[test]
    fn the_file_is_read_and_flags_win_over_it() {
        let fields = "maxPods: 7\nclusterDNS: [10.96.0.10]\nnodeStatusUpdateFrequency: 5s\nevictionHard: {memory.available: 1Gi}\n\
                      kubeReserved: {cpu: 100m}\nsystemReserved: {cpu: 100m}";
        let read = with_file(fields, &[]).unwrap();
        assert_eq!((read.registration.max_pods, read.cluster_dns.len()), (7, 1));
        assert_eq!((read.tuning.heartbeat, read.tuning.report), (Duration::from_secs(5), Duration::from_secs(5)));
        assert_eq!(read.tuning.least_memory, Some(Threshold::Bytes(1 << 30)));
        assert_eq!(read.registration.reserved["cpu"], "200m");
        let read = with_file(fields, &["--max-pods=8", "--eviction-hard=nodefs.available<5%"]).unwrap();
        assert_eq!((read.registration.max_pods, read.tuning.least_memory), (8, None));
        assert_eq!(read.tuning.least_disk, Some(Threshold::Percent(5.0)));
    }

    #[test]
    fn what_is_wrong_in_the_file_is_named() {
        for (fields, named) in [
            ("maxPodz: 7", "maxPodz"),
            ("readOnlyPort: 10255", "readOnlyPort"),
            ("authentication: {anonymous: {enabled: true}}", "authentication.anonymous.enabled"),
            ("authorization: {mode: AlwaysAllow}", "authorization.mode"),
            ("cpuManagerPolicy: static", "cpuManagerPolicy"),
            ("containerRuntimeEndpoint: unix:///run/containerd/containerd.sock", "containerRuntimeEndpoint"),
            ("featureGates: {NoSuchGate: true}", "NoSuchGate"),
            ("tlsCipherSuites: [TLS_NULL]", "tlsCipherSuites"),
            ("nodeStatusUpdateFrequency: 5", "5"),
            ("nodeStatusUpdateFrequency: 50s", "nodeStatusUpdateFrequency"),
            ("evictionHard: {memory: 1Gi}", "evictionHard"),
            ("evictionHard: {memory.available: much}", "memory.available"),
            ("allowedUnsafeSysctls: [vm.swappiness]", "allowedUnsafeSysctls"),
            ("imageGCLowThresholdPercent: 90", "imageGCHighThresholdPercent"),
            ("logging: {format: xml}", "logging.format"),
            ("memorySwap: {swapBehavior: LimitedSwap}", "memorySwap.swapBehavior"),
        ] {
            let err = with_file(fields, &[]).err().unwrap_or_else(|| panic!("{fields} is taken"));
            assert!(err.contains(named), "{fields}: {err}");
        }
    }

    #[test]
    fn drop_ins_are_laid_over_the_file_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, fields: &str| {
            std::fs::write(directory.path().join(name), format!("{HEAD}{fields}")).unwrap();
        };
        write("10.conf", "maxPods: 10\nkubeReserved: {memory: 1Gi}");
        write("20.conf", "maxPods: 20");
        write("30.yaml", "maxPods: 30");
        let flag = format!("--config-dir={}", directory.path().display());
        let read = with_file("maxPods: 7\nkubeReserved: {cpu: 1}", &[&flag]);
        assert!(read.err().unwrap().contains("invalid type"), "a quantity is a text");
        let read = with_file("maxPods: 7\nkubeReserved: {cpu: '1'}", &[&flag]).unwrap();
        assert_eq!((read.registration.max_pods, read.registration.reserved.len()), (20, 2));
    }

    /// What kubeadm writes to /var/lib/kubelet/config.yaml.
    const KUBEADM: &str = r"
authentication:
  anonymous: {enabled: false}
  webhook: {cacheTTL: 0s, enabled: true}
  x509: {clientCAFile: /etc/kubernetes/pki/ca.crt}
authorization:
  mode: Webhook
  webhook: {cacheAuthorizedTTL: 0s, cacheUnauthorizedTTL: 0s}
cgroupDriver: systemd
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
containerRuntimeEndpoint: ''
cpuManagerReconcilePeriod: 0s
crashLoopBackOff: {}
evictionPressureTransitionPeriod: 0s
fileCheckFrequency: 0s
healthzBindAddress: 127.0.0.1
healthzPort: 10248
httpCheckFrequency: 0s
imageMaximumGCAge: 0s
imageMinimumGCAge: 0s
logging:
  flushFrequency: 0
  options:
    json: {infoBufferSize: '0'}
    text: {infoBufferSize: '0'}
  verbosity: 0
memorySwap: {}
nodeStatusReportFrequency: 0s
nodeStatusUpdateFrequency: 0s
rotateCertificates: true
runtimeRequestTimeout: 0s
shutdownGracePeriod: 0s
shutdownGracePeriodCriticalPods: 0s
staticPodPath: /etc/kubernetes/manifests
streamingConnectionIdleTimeout: 0s
syncFrequency: 0s
volumeStatsAggPeriod: 0s
";

    #[test]
    fn the_file_that_kubeadm_writes_is_taken() {
        let read = with_file(KUBEADM, &[]).unwrap();
        assert_eq!(read.tuning, Tuning::default());
        assert_eq!(read.static_pod_path, Some("/etc/kubernetes/manifests".into()));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kubelet.yaml");
        std::fs::write(&path, format!("{HEAD}{KUBEADM}")).unwrap();
        let file = File::read(Some(&path), None).unwrap();
        assert_eq!(file.healthz_port, Some(10248));
        assert_eq!(file.client_ca(), Some(&"/etc/kubernetes/pki/ca.crt".into()));
    }
}
