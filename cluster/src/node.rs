//! One node, of whichever cluster: its options, and what its parts are told.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use facts::cidr::Cidr;
use host::Resource;
use kubelet::certificates::Certificates;
use kubelet::{Allowlist, Ending, Limits};
use runtime::Runtime;
use runtime::local::{CniConfig, LocalRuntime};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::drain::{self, Grace};

/// Pods the node takes: as many as its /24 has addresses, with room for those that are on their way out.
const MAX_PODS: usize = 220;
const DNS_PORT: u16 = 53;
/// No pod has longer at the end of its node.
const LONGEST_GRACE: Duration = Duration::from_secs(24 * 3600);
/// How long a process may take to end, but for its pods.
const END: Duration = Duration::from_secs(60);
/// Nodes with this label answer DNS.
pub(crate) const ANSWERS_DNS: &str = "coracle.dev/dns";
/// The prefix length of a node's range of pods, of IPv4 and of IPv6.
const NODE_BITS: [u8; 2] = [24, 64];

/// What can be said of a node, whether it begins a cluster or joins one.
#[derive(Clone, Debug, clap::Args)]
pub struct NodeOptions {
    /// Where the node keeps everything: objects, keys, images, containers.
    #[arg(long, default_value = "/var/lib/coracle")]
    pub data_dir: PathBuf,
    /// Port of the kubelet, on the node's address.
    #[arg(long, default_value_t = 10250)]
    pub kubelet_port: u16,
    /// Name of the node [default: this machine's name].
    #[arg(long)]
    pub node_name: Option<String>,
    /// Name of the network bridge; another cluster on this machine needs another one.
    #[arg(long, default_value = "coracle0")]
    pub bridge: String,
    /// Enforce NetworkPolicies; false where something else does.
    #[arg(long, default_value_t = true)]
    pub network_policy: bool,
    /// Directory with a network configuration by which CNI plugins connect the node's pods, such as /etc/cni/net.d. Routes
    /// to other nodes and NetworkPolicies are theirs then.
    #[arg(long)]
    pub cni_conf_dir: Option<PathBuf>,
    /// Where CNI plugins are.
    #[arg(long, value_delimiter = ',', default_value = CniConfig::USUAL_BIN_DIRS)]
    pub cni_bin_dir: Vec<PathBuf>,
    /// Number of processes that a pod may have; -1 for as many as the node has.
    #[arg(long, default_value_t = 4096, allow_negative_numbers = true)]
    pub pod_max_pids: i64,
    /// Kernel parameters that pods may set beside the safe ones, or their beginnings with a star, such as net.core.*.
    #[arg(long, value_delimiter = ',')]
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Registries that are reached without TLS, as host:port, or host for all its ports. Only these may be on the node
    /// itself.
    #[arg(long, value_delimiter = ',')]
    pub insecure_registry: Vec<String>,
    /// What is done about system calls that containers have little reason for: off, audit or enforce.
    #[arg(long, default_value_t)]
    pub syscall_policy: runtime::SyscallPolicy,
    /// Answer DNS for the pods of this node at its address; false where port 53 there is somebody else's.
    #[arg(long, default_value_t = true)]
    pub dns: bool,
    /// Cgroup that holds those of this node's pods, one name; nodes of one machine have one each.
    #[arg(long, hide = true)]
    pub cgroup_root: Option<String>,
    /// Leave pods running at shutdown.
    #[arg(long)]
    pub keep_pods: bool,
    /// How long pods may take to end at shutdown, whatever they ask for, such as 90s or 10m.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = daemon::pflag::duration)]
    pub shutdown_grace_period: Duration,
    /// The part of it that is kept for critical pods, which end after the others.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = daemon::pflag::duration)]
    pub shutdown_grace_period_critical_pods: Duration,
}

impl NodeOptions {
    /// Checks them; answers the node's name and what pods may set.
    pub(crate) fn check(&mut self) -> anyhow::Result<(String, Allowlist)> {
        // Mounts, shims and messages need it wherever they are.
        self.data_dir =
            std::path::absolute(&self.data_dir).with_context(|| format!("--data-dir {}", self.data_dir.display()))?;
        let name = match &self.node_name {
            Some(name) => name.clone(),
            None => std::fs::read_to_string("/proc/sys/kernel/hostname")
                .context("read this machine's name (or give --node-name)")?
                .trim()
                .to_lowercase(),
        };
        check_name(&name)?;
        check_bridge(&self.bridge)?;
        ensure!(
            self.pod_max_pids == -1 || self.pod_max_pids > 0,
            "--pod-max-pids {}: must be at least 1, or -1 for no limit",
            self.pod_max_pids
        );
        ensure!(
            self.shutdown_grace_period <= LONGEST_GRACE,
            "--shutdown-grace-period: must be at most {} h",
            LONGEST_GRACE.as_secs() / 3600
        );
        ensure!(
            self.shutdown_grace_period_critical_pods <= self.shutdown_grace_period,
            "--shutdown-grace-period-critical-pods: is a part of --shutdown-grace-period, which is shorter"
        );
        let kernel = kubelet::node::machine::kernel();
        let sysctls = Allowlist::new(&kernel, &self.allowed_unsafe_sysctls).context("--allowed-unsafe-sysctls")?;
        Ok((name, sysctls))
    }

    /// How long the end of the node's pods may take.
    pub(crate) fn limits(&self) -> Limits {
        Limits { all: self.shutdown_grace_period, critical: self.shutdown_grace_period_critical_pods }
    }

    /// How long the node's process may take to end, with its pods.
    pub(crate) fn end(&self) -> Duration {
        let pods = if self.keep_pods { Duration::ZERO } else { self.limits().bound() };
        pods + END
    }

    /// The name of the pod network's nftables table.
    pub(crate) fn pods_table(&self) -> String {
        format!("{}-pods", self.bridge)
    }

    /// The name of the proxy's nftables table.
    pub(crate) fn table(&self) -> String {
        format!("{}-services", self.bridge)
    }

    /// The name of the nftables table of NetworkPolicies.
    pub(crate) fn policy_table(&self) -> String {
        format!("{}-policy", self.bridge)
    }

    /// The name of the interface that carries the node's address, where it is not one that the machine has anyway.
    pub(crate) fn link_name(&self) -> String {
        format!("{}-node", self.bridge).chars().take(15).collect()
    }

    /// The name of the interface of tunnels to other nodes.
    pub(crate) fn tunnel_name(&self) -> String {
        // Neither that of the bridge, which has at most 14 letters, nor that of the node's link.
        format!("{}_vxlan", self.bridge).chars().take(15).collect()
    }

    /// The plugins that connect pods; `None` where this node does.
    pub(crate) fn cni(&self) -> Option<CniConfig> {
        let conf_dir = self.cni_conf_dir.clone()?;
        Some(CniConfig { conf_dir, bin_dirs: self.cni_bin_dir.clone() })
    }

    /// Whether NetworkPolicies are enforced here: what plugins connect has none of the interfaces that the rules name.
    pub(crate) fn enforces_policies(&self) -> bool {
        self.network_policy && self.cni_conf_dir.is_none()
    }

    /// The names that this node has of its machine, with the option that chooses them.
    pub(crate) fn names(&self) -> Vec<(&'static str, Resource)> {
        vec![
            ("--bridge", Resource::Interface(self.bridge.clone())),
            ("--bridge", Resource::Table(self.table())),
            ("--bridge", Resource::Table(self.policy_table())),
            ("--bridge", Resource::Table(self.pods_table())),
        ]
    }
}

/// What all nodes of a cluster have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClusterNetwork {
    /// The ranges of pods, one of each family.
    pub(crate) pods: Vec<Cidr>,
    /// Those of Services, in the same order.
    pub(crate) services: Vec<Cidr>,
    /// The addresses that load balancers can have.
    pub(crate) balancers: Vec<Cidr>,
    /// The address of the Service of DNS.
    pub(crate) dns: IpAddr,
    /// Domain of cluster names.
    pub(crate) domain: String,
}

impl ClusterNetwork {
    /// How the node with this name reaches the pods of others.
    pub(crate) fn routes(&self, options: &NodeOptions, node: &str) -> network::Config {
        network::Config {
            node_name: node.to_owned(),
            cluster_cidrs: self.pods.clone(),
            node_bits: NODE_BITS,
            not_nodes: self.services.clone(),
            tunnel: options.tunnel_name(),
            tunnel_id: 1,
            tunnel_port: network::TUNNEL_PORT,
        }
    }

    /// The ranges of pods as text.
    pub(crate) fn pods_text(&self) -> Vec<String> {
        self.pods.iter().map(Cidr::to_string).collect()
    }
}

/// The same as text, ranges with commas, in the ConfigMap from which nodes that join learn it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NetworkText {
    cluster_cidr: String,
    #[serde(rename = "serviceClusterIPRange")]
    service_cluster_ip_range: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    load_balancer_pool: String,
    #[serde(rename = "clusterDNS")]
    cluster_dns: String,
    cluster_domain: String,
}

impl From<&ClusterNetwork> for NetworkText {
    fn from(network: &ClusterNetwork) -> Self {
        Self {
            cluster_cidr: list(&network.pods),
            service_cluster_ip_range: list(&network.services),
            load_balancer_pool: list(&network.balancers),
            cluster_dns: network.dns.to_string(),
            cluster_domain: network.domain.clone(),
        }
    }
}

impl TryFrom<NetworkText> for ClusterNetwork {
    type Error = anyhow::Error;

    fn try_from(text: NetworkText) -> anyhow::Result<Self> {
        let wrong = api::names::dns1123_subdomain(&text.cluster_domain);
        ensure!(wrong.is_empty(), "clusterDomain {:?}: {}", text.cluster_domain, wrong.join(", "));
        Ok(Self {
            pods: ranges(&text.cluster_cidr).context("clusterCidr")?,
            services: ranges(&text.service_cluster_ip_range).context("serviceClusterIPRange")?,
            balancers: all_ranges(&text.load_balancer_pool).context("loadBalancerPool")?,
            dns: text.cluster_dns.parse().with_context(|| format!("clusterDNS {:?}", text.cluster_dns))?,
            domain: text.cluster_domain,
        })
    }
}

fn list(ranges: &[Cidr]) -> String {
    ranges.iter().map(Cidr::to_string).collect::<Vec<_>>().join(",")
}

fn all_ranges(text: &str) -> anyhow::Result<Vec<Cidr>> {
    Ok(text.split(',').filter(|text| !text.is_empty()).map(str::parse).collect::<Result<_, _>>()?)
}

/// One range, or one of each family.
fn ranges(text: &str) -> anyhow::Result<Vec<Cidr>> {
    let ranges = all_ranges(text)?;
    let is_one_each = ranges.len() == 1 || ranges.len() == 2 && ranges[0].is_ipv4() != ranges[1].is_ipv4();
    ensure!(is_one_each, "{text:?}: must be one range, or one of IPv4 and one of IPv6");
    Ok(ranges)
}

/// A node with options that were checked, and what its parts are told.
#[derive(Clone, Debug)]
pub(crate) struct NodePlan {
    pub(crate) options: NodeOptions,
    pub(crate) name: String,
    /// One of each family; its servers are at the first.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) allowed_sysctls: Allowlist,
    pub(crate) network: ClusterNetwork,
}

impl NodePlan {
    pub(crate) fn runtime(&self) -> anyhow::Result<runtime::local::Config> {
        let options = &self.options;
        let network = runtime::local::NetworkConfig {
            bridge: options.bridge.clone(),
            table: options.pods_table(),
            unmasqueraded: self.network.pods_text(),
            mtu: 0,
            cni: options.cni(),
        };
        Ok(runtime::local::Config {
            root: options.data_dir.join("runtime"),
            // Sockets and network namespaces of another cluster on this machine have another bridge's name.
            run: Path::new("/run").join("coracle").join(&options.bridge),
            insecure_registries: options.insecure_registry.clone(),
            syscall_policy: options.syscall_policy,
            network,
            ..runtime::local::Config::new()?
        })
    }

    pub(crate) fn kubelet_address(&self) -> SocketAddr {
        SocketAddr::new(self.address(), self.options.kubelet_port)
    }

    /// The address at which its servers are.
    pub(crate) fn address(&self) -> IpAddr {
        self.addresses[0]
    }

    pub(crate) fn kubelet(
        &self,
        runtime: Arc<dyn Runtime>,
        server: kubelet::server::Config,
        ending: Ending,
    ) -> kubelet::Config {
        let options = &self.options;
        kubelet::Config {
            node_name: self.name.clone(),
            node_ips: self.addresses.clone(),
            root_dir: options.data_dir.join("kubelet"),
            log_dir: options.data_dir.join("logs"),
            runtime,
            cluster_dns: vec![self.network.dns],
            cluster_domain: self.network.domain.clone(),
            resolv_conf: "/etc/resolv.conf".into(),
            registration: kubelet::node::Registration {
                register: true,
                labels: self.labels(),
                taints: Vec::new(),
                max_pods: MAX_PODS,
                capacity: BTreeMap::new(),
                reserved: BTreeMap::new(),
                port: i32::from(options.kubelet_port),
                pod_cidr: None,
                provider_id: None,
            },
            cgroup_root: options.cgroup_root.clone().unwrap_or_default(),
            pod_pids_limit: options.pod_max_pids.max(0),
            allowed_sysctls: self.allowed_sysctls.clone(),
            static_pod_path: None,
            max_parallel_image_pulls: None,
            tuning: kubelet::Tuning::default(),
            server: Some(server),
            certificates: Certificates::default(),
            ending,
            hollow: false,
        }
    }

    fn labels(&self) -> BTreeMap<String, String> {
        self.options.dns.then(|| (ANSWERS_DNS.to_owned(), String::new())).into_iter().collect()
    }

    /// How this node answers DNS; `None` where it does not. `upstreams` are asked for other names, or else the machine's.
    pub(crate) fn dns(&self, upstreams: &[IpAddr]) -> anyhow::Result<Option<dns::Config>> {
        if !self.options.dns {
            return Ok(None);
        }
        let config = dns::Config::new(&self.network.domain, vec![SocketAddr::new(self.address(), DNS_PORT)])?;
        Ok(Some(dns::Config { upstreams: upstreams.to_vec(), ..config }))
    }

    pub(crate) fn provisioner(&self) -> provisioner::Config {
        provisioner::Config {
            node_name: self.name.clone(),
            // As the kubelet labels its node.
            hostname: self.name.clone(),
            directory: self.options.data_dir.join("volumes"),
        }
    }

    pub(crate) fn proxy(&self) -> proxy::Config {
        let mut config = proxy::Config::new(self.name.clone(), self.network.pods_text());
        config.table = self.options.table();
        // Nothing listens beyond this node's own address.
        config.health_check_address = self.address();
        config
    }

    /// How NetworkPolicies are enforced; `None` where they are not.
    pub(crate) fn policy(&self) -> Option<policy::Config> {
        self.options.enforces_policies().then(|| policy::Config {
            node_name: self.name.clone(),
            bridge: self.options.bridge.clone(),
            table: self.options.policy_table(),
        })
    }

    /// How load balancers are announced; `None` where there are none.
    pub(crate) fn announce(&self) -> Option<announce::Config> {
        let pool = self.network.balancers.clone();
        let (node_name, node_ips) = (self.name.clone(), self.addresses.clone());
        (!pool.is_empty()).then_some(announce::Config { node_name, node_ips, pool })
    }

    /// Removes what an earlier run left and this one does not look after.
    pub(crate) async fn prepare(&self) -> anyhow::Result<()> {
        if !self.options.enforces_policies() {
            // Its rules would shut out the pods of this run.
            policy::cleanup(&self.options.policy_table()).await?;
        }
        Ok(())
    }

    pub(crate) fn routes(&self) -> network::Config {
        self.network.routes(&self.options, &self.name)
    }

    /// Whether this node looks after the routes to other nodes' pods.
    pub(crate) fn has_routes(&self) -> bool {
        self.options.cni_conf_dir.is_none()
    }

    /// What happens now, at the moment in which somebody asks for the end.
    pub(crate) fn farewell(&self, pods: usize) -> String {
        match (self.options.keep_pods, pods) {
            (true, _) => "shutting down; pods keep running (--keep-pods)".to_owned(),
            (_, 0) => "shutting down".to_owned(),
            (_, count) => format!(
                "shutting down: stopping {}, each within the time it asks for, at most {} s (again to leave them running)",
                drain::pods(count),
                self.options.shutdown_grace_period.as_secs()
            ),
        }
    }

    /// Has the kubelet end its pods, unless they are to stay, while there is still everything that they may need; says how
    /// many there were. `None` where the kubelet is gone, by `gone`, before they have ended.
    pub(crate) async fn end_pods(
        &self,
        ending: &Ending,
        gone: &CancellationToken,
        say: &impl Fn(String),
    ) -> Option<usize> {
        if self.options.keep_pods {
            return None;
        }
        tokio::select! {
            biased;
            () = gone.cancelled() => None,
            ended = drain::end_pods(ending, self.options.limits(), say) => ended,
        }
    }

    /// Stops what is left of the node's pods and takes down what reaches them, unless they are to stay; `ended` is what
    /// [`Self::end_pods`] said.
    pub(crate) async fn stop(
        &self,
        runtime: Arc<LocalRuntime>,
        ended: Option<usize>,
        say: &impl Fn(String),
    ) -> anyhow::Result<()> {
        if self.options.keep_pods {
            return Ok(());
        }
        // What a kubelet could not end has had its time.
        let grace = match ended {
            Some(_) => Grace::Each(Duration::from_secs(1)),
            None => Grace::OwnUpTo(self.options.shutdown_grace_period),
        };
        let stopped = drain::stop_pods(runtime, grace, say).await.context("stop pods")?;
        drain::unmount_volumes(&self.options.data_dir.join("kubelet")).await?;
        let all = ended.unwrap_or(stopped).max(stopped);
        say(format!("{} stopped; the next start starts them again", drain::pods(all)));
        network::cleanup(&self.routes()).await?;
        policy::cleanup(&self.options.policy_table()).await?;
        Ok(proxy::cleanup(&self.options.table()).await?)
    }
}

/// Refuses what cannot name an interface and tables, and what leaves no room for the name of the node's own interface.
fn check_bridge(name: &str) -> anyhow::Result<()> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    let good = name.starts_with(|first: char| first.is_ascii_alphabetic()) && name.chars().all(plain);
    ensure!(
        good && name.len() <= 14,
        "--bridge {name:?}: must be 1 to 14 letters, digits, - _ and ., and begin with a letter"
    );
    ensure!(!["claims", "presence"].contains(&name), "--bridge {name:?}: /run/coracle has a folder of this name");
    Ok(())
}

/// Refuses what no Node can be named.
pub(crate) fn check_name(name: &str) -> anyhow::Result<()> {
    let wrong = api::names::dns1123_subdomain(name);
    ensure!(wrong.is_empty(), "--node-name {name:?}: {}", wrong.join(", "));
    Ok(())
}
