//! What `coracle up` can be told.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use apiserver::EtcdArgs;
use controllers::AddressRange;
use facts::cidr::Cidr;
use host::Resource;
use kubelet::Allowlist;

use crate::invoker::Invoker;
use crate::keys::Subjects;
use crate::routes::{Range, Route, overlap};

/// Options of a cluster in one process.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Where the cluster keeps everything: objects, keys, images, containers.
    #[arg(long, default_value = "/var/lib/coracle")]
    pub data_dir: PathBuf,
    /// Where to write the administrator's kubeconfig [default: <data-dir>/admin.kubeconfig].
    #[arg(long)]
    pub write_kubeconfig: Option<PathBuf>,
    /// Loopback port of the API server.
    #[arg(long, default_value_t = 6443)]
    pub secure_port: u16,
    /// Port of the kubelet, on the node's address.
    #[arg(long, default_value_t = 10250)]
    pub kubelet_port: u16,
    /// Name of the node [default: this machine's name].
    #[arg(long)]
    pub node_name: Option<String>,
    /// Address of the node: pods reach the API server and DNS here. By default one that only this machine has.
    #[arg(long, default_value = "10.245.0.1")]
    pub node_ip: IpAddr,
    /// Range of pod addresses.
    #[arg(long, default_value = "10.244.0.0/16")]
    pub cluster_cidr: String,
    /// Range of Service addresses; the first is the API server's, the tenth DNS's.
    #[arg(long, default_value = "10.96.0.0/16")]
    pub service_cluster_ip_range: String,
    /// Addresses that Services of type LoadBalancer get, as ranges such as 192.0.2.0/28 or 192.0.2.10-192.0.2.20.
    #[arg(long, value_delimiter = ',')]
    pub load_balancer_pool: Vec<AddressRange>,
    /// Domain of cluster names.
    #[arg(long, default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Name of the network bridge; another cluster on this machine needs another one.
    #[arg(long, default_value = "coracle0")]
    pub bridge: String,
    /// Enforce NetworkPolicies; false where something else does.
    #[arg(long, default_value_t = true)]
    pub network_policy: bool,
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
    #[command(flatten)]
    pub etcd: EtcdArgs,
    /// Leave pods running at shutdown.
    #[arg(long)]
    pub keep_pods: bool,
    /// Who gets a kubeconfig beside root.
    #[arg(skip)]
    pub invoker: Option<Invoker>,
}

/// Options that were checked, and what follows from them.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) options: Options,
    pub(crate) node_name: String,
    pub(crate) services: Cidr,
    pub(crate) services_prefix: (IpAddr, u8),
    pub(crate) pods_prefix: (IpAddr, u8),
    pub(crate) api_service: IpAddr,
    pub(crate) dns_service: IpAddr,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) allowed_sysctls: Allowlist,
}

impl Plan {
    pub(crate) fn new(mut options: Options) -> anyhow::Result<Self> {
        // Mounts, shims and messages need it wherever they are.
        options.data_dir = std::path::absolute(&options.data_dir)
            .with_context(|| format!("--data-dir {}", options.data_dir.display()))?;
        let (services, length) = cidr(&options.service_cluster_ip_range).context("--service-cluster-ip-range")?;
        let pods = cidr(&options.cluster_cidr).context("--cluster-cidr")?;
        let node_name = match &options.node_name {
            Some(name) => name.clone(),
            None => std::fs::read_to_string("/proc/sys/kernel/hostname")
                .context("read this machine's name (or give --node-name)")?
                .trim()
                .to_lowercase(),
        };
        check_node_name(&node_name)?;
        check_bridge(&options.bridge)?;
        ensure!(
            options.pod_max_pids == -1 || options.pod_max_pids > 0,
            "--pod-max-pids {}: must be at least 1, or -1 for no limit",
            options.pod_max_pids
        );
        let kernel = kubelet::node::machine::kernel();
        let allowed_sysctls = Allowlist::new(&kernel, &options.allowed_unsafe_sysctls);
        let allowed_sysctls = allowed_sysctls.context("--allowed-unsafe-sysctls")?;
        let ranges = [("--cluster-cidr", pods), ("--service-cluster-ip-range", (services, length))];
        check_ranges(options.node_ip, ranges)?;
        check_pool(&options.load_balancer_pool, options.node_ip, ranges)?;
        let range = Cidr::new(services, length);
        Ok(Self {
            services_prefix: (services, length),
            pods_prefix: pods,
            api_service: range.nth(1),
            dns_service: range.nth(10),
            kubeconfig: options.write_kubeconfig.clone().unwrap_or_else(|| options.data_dir.join("admin.kubeconfig")),
            services: range,
            allowed_sysctls,
            node_name,
            options,
        })
    }

    /// What the certificates must name.
    pub(crate) fn subjects(&self) -> Subjects<'_> {
        Subjects {
            node_name: &self.node_name,
            node_ip: self.options.node_ip,
            api_service: self.api_service,
            cluster_domain: &self.options.cluster_domain,
            server: None,
        }
    }

    /// All that this cluster has of the machine, with the option that chooses it. No other cluster may have any of it.
    pub(crate) fn resources(&self) -> Vec<(&'static str, Resource)> {
        let range = |(address, length): (IpAddr, u8)| Resource::Range(address, length);
        let pool = self.pool_blocks().into_iter().map(|block| ("--load-balancer-pool", range(block)));
        let names = vec![
            ("--bridge", Resource::Interface(self.options.bridge.clone())),
            ("--bridge", Resource::Table(self.policy_table())),
            ("--bridge", Resource::Interface(self.link_name())),
            ("--bridge", Resource::Table(self.table())),
            ("--bridge", Resource::Table(self.pods_table())),
            ("--node-ip", Resource::address(self.options.node_ip)),
            ("--cluster-cidr", range(self.pods_prefix)),
            ("--service-cluster-ip-range", range(self.services_prefix)),
        ];
        names.into_iter().chain(pool).collect()
    }

    /// The blocks that the pool of load balancers is made of.
    fn pool_blocks(&self) -> Vec<Range> {
        self.options.load_balancer_pool.iter().flat_map(AddressRange::blocks).collect()
    }

    /// What the node's own interface leads to, apart from its address.
    pub(crate) fn routes(&self) -> Vec<Range> {
        std::iter::once(self.services_prefix).chain(self.pool_blocks()).collect()
    }

    /// What those routes of this machine lead to that lie in the cluster's ranges cannot be reached any more, or pods cannot.
    pub(crate) fn warnings(&self, routes: &[Route]) -> Vec<String> {
        let own = [self.options.bridge.clone(), self.link_name()];
        let ranges = [
            ("--cluster-cidr", &self.options.cluster_cidr, self.pods_prefix),
            ("--service-cluster-ip-range", &self.options.service_cluster_ip_range, self.services_prefix),
        ];
        let foreign: Vec<&Route> = routes.iter().filter(|route| !own.contains(&route.interface)).collect();
        let mut warnings = Vec::new();
        for (option, text, range) in ranges {
            let Some(Route { range: (address, length), interface }) =
                foreign.iter().find(|route| overlap(route.range, range))
            else {
                continue;
            };
            warnings.push(format!(
                "warning: {option} {text} overlaps this machine's route to {address}/{length} by {interface}: one of the \
                 two cannot be reached; choose another {option}"
            ));
        }
        warnings
    }

    /// The name of the pod network's nftables table.
    pub(crate) fn pods_table(&self) -> String {
        format!("{}-pods", self.options.bridge)
    }

    /// The name of the interface that carries the node's address, where it is not one that the machine has anyway.
    pub(crate) fn link_name(&self) -> String {
        let name = format!("{}-node", self.options.bridge);
        name.chars().take(15).collect()
    }

    /// The name of the nftables table of NetworkPolicies.
    pub(crate) fn policy_table(&self) -> String {
        format!("{}-policy", self.options.bridge)
    }

    /// The name of the proxy's nftables table.
    pub(crate) fn table(&self) -> String {
        format!("{}-services", self.options.bridge)
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
    Ok(())
}

/// Refuses ranges that have addresses in common, or the node's.
fn check_ranges(node: IpAddr, ranges: [(&str, Range); 2]) -> anyhow::Result<()> {
    let [(one, first), (other, second)] = ranges;
    ensure!(!overlap(first, second), "{one} and {other} overlap: an address would be a pod's and a Service's");
    for (option, range) in ranges {
        ensure!(!overlap(range, (node, 128)), "--node-ip {node} lies in {option}: choose one outside of it");
    }
    Ok(())
}

/// Refuses a pool that has addresses of pods, of Services or of the node.
fn check_pool(pool: &[AddressRange], node: IpAddr, ranges: [(&str, Range); 2]) -> anyhow::Result<()> {
    for block in pool.iter().flat_map(AddressRange::blocks) {
        for (option, range) in ranges {
            ensure!(!overlap(block, range), "--load-balancer-pool and {option} overlap");
        }
        ensure!(
            !overlap(block, (node, 128)),
            "--node-ip {node} lies in --load-balancer-pool: choose one outside of it"
        );
    }
    Ok(())
}

/// Refuses what no Node can be named.
pub(crate) fn check_node_name(name: &str) -> anyhow::Result<()> {
    let wrong = api::names::dns1123_subdomain(name);
    ensure!(wrong.is_empty(), "--node-name {name:?}: {}", wrong.join(", "));
    Ok(())
}

/// Reads a range of addresses with room for a few of them.
pub(crate) fn cidr(text: &str) -> anyhow::Result<(IpAddr, u8)> {
    let (address, length) =
        facts::cidr::parse(text).with_context(|| format!("{text:?} must be address/length, such as 10.96.0.0/16"))?;
    let longest = if address.is_ipv4() { 28 } else { 124 };
    ensure!(length <= longest, "{text:?}: length must be at most {longest}");
    Ok((address, length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn a_relative_data_directory_is_below_the_working_directory() {
        let here = std::env::current_dir().unwrap();
        let plan = plan(&["--data-dir", "here", "--node-name", "n"]).unwrap();
        assert_eq!(plan.options.data_dir, here.join("here"));
        assert_eq!(plan.kubeconfig, here.join("here/admin.kubeconfig"));
    }

    fn plan(flags: &[&str]) -> anyhow::Result<Plan> {
        Plan::new(Cli::try_parse_from(std::iter::once(&"up").chain(flags))?.options)
    }

    #[test]
    fn the_first_and_tenth_service_addresses_are_taken() {
        let plan = plan(&["--service-cluster-ip-range", "10.97.0.0/16"]).unwrap();
        assert_eq!(
            (plan.api_service.to_string(), plan.dns_service.to_string()),
            ("10.97.0.1".into(), "10.97.0.10".into())
        );
    }

    #[test]
    fn the_pool_of_load_balancers_is_claimed_and_led_to() {
        let plan = plan(&["--load-balancer-pool", "192.0.2.1-192.0.2.2,198.51.100.8/31"]).unwrap();
        let blocks: Vec<String> = plan.routes().iter().map(|(address, bits)| format!("{address}/{bits}")).collect();
        assert_eq!(blocks, ["10.96.0.0/16", "192.0.2.1/32", "192.0.2.2/32", "198.51.100.8/31"]);
        assert_eq!(plan.resources().iter().filter(|(option, _)| *option == "--load-balancer-pool").count(), 3);
    }

    #[test]
    fn the_nodes_interface_is_never_the_bridge() {
        for bridge in ["b", "coracle0", "of-14-letters4"] {
            let plan = plan(&["--bridge", bridge]).unwrap();
            assert_ne!(plan.link_name(), bridge);
            assert!(plan.link_name().len() <= 15);
        }
    }

    #[test]
    fn a_route_of_this_machine_in_a_range_is_told() {
        let plan = plan(&["--cluster-cidr", "10.244.0.0/16"]).unwrap();
        let route = |text: &str, interface: &str| Route { range: cidr(text).unwrap(), interface: interface.to_owned() };
        let told = plan.warnings(&[
            route("10.244.0.0/24", "coracle0"),
            route("10.96.0.0/16", "coracle0-node"),
            route("192.0.2.0/24", "eth0"),
            route("10.0.0.0/8", "vpn0"),
        ]);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("--cluster-cidr 10.244.0.0/16 overlaps"), "{told:?}");
        assert!(told[1].contains("10.0.0.0/8 by vpn0"), "{told:?}");
    }

    #[test]
    fn wrong_options_are_named() {
        for (flags, word) in [
            (["--cluster-cidr", "10.0.0.0"], "--cluster-cidr"),
            (["--service-cluster-ip-range", "10.0.0.0/31"], "--service-cluster-ip-range"),
            (["--cluster-cidr", "10.96.128.0/17"], "--cluster-cidr and --service-cluster-ip-range overlap"),
            (["--cluster-cidr", "10.245.0.0/16"], "--node-ip 10.245.0.1 lies in --cluster-cidr"),
            (["--node-ip", "10.96.0.1"], "lies in --service-cluster-ip-range"),
            (["--load-balancer-pool", "192.0.2.9"], "--load-balancer-pool"),
            (["--load-balancer-pool", "10.96.3.0/28"], "--load-balancer-pool and --service-cluster-ip-range overlap"),
            (["--load-balancer-pool", "192.0.2.0/28,10.245.0.0-10.245.0.5"], "lies in --load-balancer-pool"),
            (["--node-name", "Not_a_name"], "--node-name"),
            (["--bridge", "a-very-long-bridge-name"], "--bridge"),
            (["--bridge", "of-15-letters15"], "--bridge"),
            (["--bridge", "br0\" ; flush"], "--bridge"),
            (["--pod-max-pids", "0"], "--pod-max-pids"),
            (["--allowed-unsafe-sysctls", "vm.swappiness"], "--allowed-unsafe-sysctls"),
        ] {
            let err = format!("{:#}", plan(&flags).unwrap_err());
            assert!(err.contains(word), "{err}");
        }
    }
}
