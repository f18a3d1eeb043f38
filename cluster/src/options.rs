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
use crate::node::{ClusterNetwork, NodeOptions, NodePlan};
use crate::routes::{Range, Route, overlap};

/// Options of a cluster in one process.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Where to write the administrator's kubeconfig [default: <data-dir>/admin.kubeconfig].
    #[arg(long)]
    pub write_kubeconfig: Option<PathBuf>,
    /// Port of the API server, on loopback and on the node's address.
    #[arg(long, default_value_t = 6443)]
    pub secure_port: u16,
    /// Address of the node: pods reach the API server and DNS here. By default one that only this machine has; with one
    /// that the machine has anyway, other machines can join.
    #[arg(long, default_value = "10.245.0.1")]
    pub node_ip: IpAddr,
    /// Nodes on this machine, each in a network namespace of its own but the first.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub nodes: u8,
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
    #[command(flatten)]
    pub node: NodeOptions,
    #[command(flatten)]
    pub etcd: EtcdArgs,
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
        let (node_name, allowed_sysctls) = options.node.check()?;
        let (services, length) = cidr(&options.service_cluster_ip_range).context("--service-cluster-ip-range")?;
        let pods = cidr(&options.cluster_cidr).context("--cluster-cidr")?;
        let ranges = [("--cluster-cidr", pods), ("--service-cluster-ip-range", (services, length))];
        check_ranges(options.node_ip, ranges)?;
        check_pool(&options.load_balancer_pool, options.node_ip, ranges)?;
        let range = Cidr::new(services, length);
        Ok(Self {
            services_prefix: (services, length),
            pods_prefix: pods,
            api_service: range.nth(1),
            dns_service: range.nth(10),
            kubeconfig: options
                .write_kubeconfig
                .clone()
                .unwrap_or_else(|| options.node.data_dir.join("admin.kubeconfig")),
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
        let mut all = self.options.node.names();
        all.extend([
            ("--bridge", Resource::Interface(self.options.node.link_name())),
            ("--node-ip", Resource::address(self.options.node_ip)),
            ("--cluster-cidr", range(self.pods_prefix)),
            ("--service-cluster-ip-range", range(self.services_prefix)),
        ]);
        all.extend(self.pool_blocks().into_iter().map(|block| ("--load-balancer-pool", range(block))));
        all
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
        let own = [self.options.node.bridge.clone(), self.options.node.link_name()];
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

    /// The range of pods.
    pub(crate) fn pods(&self) -> Cidr {
        Cidr::new(self.pods_prefix.0, self.pods_prefix.1)
    }

    /// What the parts of the node are told.
    pub(crate) fn node(&self) -> NodePlan {
        NodePlan {
            options: self.options.node.clone(),
            name: self.node_name.clone(),
            address: self.options.node_ip,
            allowed_sysctls: self.allowed_sysctls.clone(),
            network: ClusterNetwork {
                pods: self.options.cluster_cidr.clone(),
                services: self.services,
                dns: self.dns_service,
                domain: self.options.cluster_domain.clone(),
            },
        }
    }
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
        assert_eq!(plan.options.node.data_dir, here.join("here"));
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
            assert_ne!(plan.options.node.link_name(), bridge);
            assert!(plan.options.node.link_name().len() <= 15);
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
