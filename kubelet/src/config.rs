//! Configuration: the struct that [`crate::run`] takes, the flags (upstream's names) and the configuration file.
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Taint;
use runtime::Runtime;
use serde::Deserialize;

use crate::node::{Registration, machine};
use crate::server;

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
    /// Directory with manifests of static pods.
    pub static_pod_path: Option<PathBuf>,
    /// One image pull at a time.
    pub serialize_image_pulls: bool,
    /// The HTTPS server; `None` for no server.
    pub server: Option<server::Config>,
}

/// PEM files of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authority of client certificates.
    pub client_ca: PathBuf,
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
    /// Directory for logs of pods
    #[arg(long, default_value = "/var/log/pods")]
    pub pod_log_dir: PathBuf,
    /// A KubeletConfiguration file; flags win over it
    #[arg(long)]
    pub config: Option<PathBuf>,
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

/// The fields of `kubelet.config.k8s.io/v1beta1` that this kubelet knows; any other is refused.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct File {
    api_version: String,
    kind: String,
    address: Option<IpAddr>,
    port: Option<u16>,
    authentication: Authentication,
    #[serde(rename = "clusterDNS")]
    cluster_dns: Option<Vec<IpAddr>>,
    cluster_domain: Option<String>,
    kube_reserved: BTreeMap<String, String>,
    system_reserved: BTreeMap<String, String>,
    max_pods: Option<usize>,
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
    pod_pids_limit: Option<i64>,
    register_node: Option<bool>,
    register_with_taints: Vec<Taint>,
    #[serde(rename = "resolvConf")]
    resolv_conf: Option<PathBuf>,
    serialize_image_pulls: Option<bool>,
    static_pod_path: Option<PathBuf>,
    tls_cert_file: Option<PathBuf>,
    tls_private_key_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Authentication {
    x509: X509,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct X509 {
    #[serde(rename = "clientCAFile")]
    client_ca_file: Option<PathBuf>,
}

const DEFAULT_PORT: u16 = 10250;
const DEFAULT_MAX_PODS: usize = 110;

impl Args {
    /// Joins flags and file; `runtime` runs the containers.
    pub fn into_config(self, runtime: Arc<dyn Runtime>) -> anyhow::Result<Config> {
        let file = self.config.as_deref().map(read).transpose()?.unwrap_or_default();
        let port = self.port.or(file.port).unwrap_or(DEFAULT_PORT);
        let server = if port == 0 { None } else { Some(self.server(&file, port)?) };
        let mut reserved = file.kube_reserved;
        for pair in file.system_reserved.into_iter().chain(pairs("kube-reserved", &self.kube_reserved)?) {
            add_reserved(&mut reserved, pair);
        }
        pairs("system-reserved", &self.system_reserved)?.into_iter().for_each(|pair| add_reserved(&mut reserved, pair));
        let mut taints = file.register_with_taints;
        for text in &self.register_with_taints {
            taints.push(taint(text)?);
        }
        let registration = Registration {
            register: self.register_node.or(file.register_node).unwrap_or(true),
            labels: pairs("node-labels", &self.node_labels)?.into_iter().collect(),
            taints,
            max_pods: self.max_pods.or(file.max_pods).unwrap_or(DEFAULT_MAX_PODS),
            reserved,
            port: i32::from(port),
            pod_cidr: self.pod_cidr.or(file.pod_cidr),
        };
        let node_name = self.hostname_override.unwrap_or_else(machine::hostname).trim().to_lowercase();
        if node_name.is_empty() {
            bail!("this machine has no hostname; name the node with --hostname-override");
        }
        Ok(Config {
            node_name,
            node_ips: if self.node_ip.is_empty() { vec![machine::default_ip()] } else { self.node_ip },
            root_dir: self.root_dir,
            log_dir: self.pod_log_dir,
            runtime,
            cluster_dns: self.cluster_dns.or(file.cluster_dns).unwrap_or_default(),
            cluster_domain: self.cluster_domain.or(file.cluster_domain).unwrap_or_else(|| "cluster.local".to_owned()),
            resolv_conf: self.resolv_conf.or(file.resolv_conf).unwrap_or_else(|| "/etc/resolv.conf".into()),
            registration,
            pod_pids_limit: self.pod_max_pids.or(file.pod_pids_limit).unwrap_or(-1).max(0),
            static_pod_path: self.pod_manifest_path.or(file.static_pod_path),
            serialize_image_pulls: self.serialize_image_pulls.or(file.serialize_image_pulls).unwrap_or(false),
            server,
        })
    }

    fn server(&self, file: &File, port: u16) -> anyhow::Result<server::Config> {
        let required = |flag: &Option<PathBuf>, file: &Option<PathBuf>, name: &str| {
            let path = flag.clone().or_else(|| file.clone());
            path.with_context(|| format!("the server needs --{name} (or --port 0 for no server)"))
        };
        let tls = Tls {
            certificate: required(&self.tls_cert_file, &file.tls_cert_file, "tls-cert-file")?,
            key: required(&self.tls_private_key_file, &file.tls_private_key_file, "tls-private-key-file")?,
            client_ca: required(&self.client_ca_file, &file.authentication.x509.client_ca_file, "client-ca-file")?,
        };
        let ip = self.address.or(file.address).unwrap_or(IpAddr::from([0, 0, 0, 0]));
        server::Config::from_files(SocketAddr::new(ip, port), &tls)
    }
}

fn read(path: &Path) -> anyhow::Result<File> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let file: File = serde_yaml::from_str(&text).with_context(|| format!("read {}", path.display()))?;
    if file.kind != "KubeletConfiguration" || file.api_version != "kubelet.config.k8s.io/v1beta1" {
        bail!("{}: not a KubeletConfiguration of kubelet.config.k8s.io/v1beta1", path.display());
    }
    Ok(file)
}

fn pairs(flag: &str, list: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    let pair = |text: &String| {
        let (key, value) =
            text.split_once('=').with_context(|| format!("--{flag} {text:?}: not of the form key=value"))?;
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
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn config(flags: &[&str]) -> anyhow::Result<Config> {
        let flags = ["kubelet", "--hostname-override=n1", "--port=0"].iter().chain(flags);
        let runtime = Arc::new(runtime::fake::FakeRuntime::new());
        Command::try_parse_from(flags)?.args.into_config(runtime)
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

    #[test]
    fn the_file_is_read_and_unknown_fields_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kubelet.yaml");
        let flag = format!("--config={}", path.display());
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
        std::fs::write(&path, format!("{head}maxPods: 7\nclusterDNS: [10.96.0.10]\n")).unwrap();
        let read = config(&[&flag]).unwrap();
        assert_eq!((read.registration.max_pods, read.cluster_dns.len()), (7, 1));
        std::fs::write(&path, format!("{head}maxPodz: 7\n")).unwrap();
        assert!(format!("{:#}", config(&[&flag]).err().unwrap()).contains("maxPodz"));
    }
}
