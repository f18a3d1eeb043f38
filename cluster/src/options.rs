//! What `coracle up` can be told.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use apiserver::EtcdArgs;
use clap::ArgAction;
use controllers::AddressRange;
use facts::cidr::Cidr;
use host::Resource;
use kubelet::Allowlist;

use crate::invoker::Invoker;
use crate::keys::Subjects;
use crate::named::given::Given;
use crate::named::name::ClusterName;
use crate::named::record::RECORDS;
use crate::node::{ClusterNetwork, NodeOptions, NodePlan};
use crate::routes::{Range, Route, overlap};

/// Options of a cluster in one process.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Name of the cluster. This machine may have several: each gets a directory, addresses and ports of its own, for good,
    /// unless they are given.
    #[arg(long, default_value_t)]
    pub name: ClusterName,
    /// Where records of this machine's clusters are.
    #[arg(long, hide = true, default_value = RECORDS)]
    pub records: PathBuf,
    /// Which options stand on the command line.
    #[command(flatten)]
    pub given: Given,
    /// Where to write the administrator's kubeconfig [default: <data-dir>/admin.kubeconfig].
    #[arg(long)]
    pub write_kubeconfig: Option<PathBuf>,
    /// Port of the API server, on loopback and on the node's address.
    #[arg(long, default_value_t = 6443)]
    pub secure_port: u16,
    /// Address of the node, or one of each family: pods reach the API server and DNS at the first. By default one that only
    /// this machine has; with one that the machine has anyway, other machines can join.
    #[arg(long, action = ArgAction::Set, num_args = 1, value_delimiter = ',', default_value = "10.245.0.1")]
    pub node_ip: Vec<IpAddr>,
    /// Nodes on this machine, each in a network namespace of its own but the first.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub nodes: u8,
    /// Range of pod addresses, or one of each family, such as 10.244.0.0/16,fd00:10:244::/56.
    #[arg(long, action = ArgAction::Set, num_args = 1, value_delimiter = ',', default_value = "10.244.0.0/16")]
    pub cluster_cidr: Vec<String>,
    /// Range of Service addresses, or one of each family; the first address is the API server's, the tenth DNS's.
    #[arg(long, action = ArgAction::Set, num_args = 1, value_delimiter = ',', default_value = "10.96.0.0/16")]
    pub service_cluster_ip_range: Vec<String>,
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
    /// One of each family; the first is that of the cluster's own Services.
    pub(crate) services: Vec<Cidr>,
    /// One of each family, in the order of the Services'.
    pub(crate) pods: Vec<Cidr>,
    pub(crate) api_service: IpAddr,
    pub(crate) dns_service: IpAddr,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) allowed_sysctls: Allowlist,
}

impl Plan {
    pub(crate) fn new(mut options: Options) -> anyhow::Result<Self> {
        let (node_name, allowed_sysctls) = options.node.check()?;
        let services = cidrs(&options.service_cluster_ip_range).context("--service-cluster-ip-range")?;
        let pods = cidrs(&options.cluster_cidr).context("--cluster-cidr")?;
        check_families(&options.node_ip, &pods, &services)?;
        ensure!(
            options.nodes == 1 || options.node.cni_conf_dir.is_none(),
            "--nodes and --cni-conf-dir: the nodes of one machine would share the addresses that plugins give out"
        );
        let ranges = ranges(&pods, &services);
        for node in &options.node_ip {
            check_ranges(*node, &ranges)?;
            check_pool(&options.load_balancer_pool, *node, &ranges)?;
        }
        Ok(Self {
            api_service: services[0].nth(1),
            dns_service: services[0].nth(10),
            kubeconfig: options
                .write_kubeconfig
                .clone()
                .unwrap_or_else(|| options.node.data_dir.join("admin.kubeconfig")),
            services,
            pods,
            allowed_sysctls,
            node_name,
            options,
        })
    }

    /// What the certificates must name.
    pub(crate) fn subjects(&self) -> Subjects<'_> {
        Subjects {
            api_service: self.api_service,
            cluster_domain: &self.options.cluster_domain,
            servers: std::iter::once(self.node_name.clone())
                .chain(self.options.node_ip.iter().map(ToString::to_string))
                .collect(),
        }
    }

    /// All that this cluster has of the machine, with the option that chooses it. No other cluster may have any of it.
    pub(crate) fn resources(&self) -> Vec<(&'static str, Resource)> {
        let range = |(address, length): (IpAddr, u8)| Resource::Range(address, length);
        let mut all = self.options.node.names();
        all.push(("--bridge", Resource::Interface(self.options.node.link_name())));
        all.extend(self.options.node_ip.iter().map(|address| ("--node-ip", Resource::address(*address))));
        all.extend(ranges(&self.pods, &self.services).into_iter().map(|(option, one)| (option, range(one))));
        all.extend(self.pool_blocks().into_iter().map(|block| ("--load-balancer-pool", range(block))));
        all
    }

    /// The blocks that the pool of load balancers is made of.
    fn pool_blocks(&self) -> Vec<Range> {
        self.options.load_balancer_pool.iter().flat_map(AddressRange::blocks).collect()
    }

    /// What the node's own interface leads to, apart from its address.
    pub(crate) fn routes(&self) -> Vec<Range> {
        self.services.iter().map(prefix).chain(self.pool_blocks()).collect()
    }

    /// What those routes of this machine lead to that lie in the cluster's ranges cannot be reached any more, or pods cannot.
    pub(crate) fn warnings(&self, routes: &[Route]) -> Vec<String> {
        let own = [self.options.node.bridge.clone(), self.options.node.link_name()];
        let foreign: Vec<&Route> = routes.iter().filter(|route| !own.contains(&route.interface)).collect();
        let mut warnings = Vec::new();
        for (option, range) in ranges(&self.pods, &self.services) {
            let text = Cidr::new(range.0, range.1);
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

    /// The address at which the node's own servers are.
    pub(crate) fn node_ip(&self) -> IpAddr {
        self.options.node_ip[0]
    }

    /// What the parts of the node are told.
    pub(crate) fn node(&self) -> NodePlan {
        NodePlan {
            options: self.options.node.clone(),
            name: self.node_name.clone(),
            addresses: self.options.node_ip.clone(),
            allowed_sysctls: self.allowed_sysctls.clone(),
            network: ClusterNetwork {
                pods: self.pods.clone(),
                services: self.services.clone(),
                balancers: self.pool_blocks().into_iter().map(|(base, bits)| Cidr::new(base, bits)).collect(),
                dns: self.dns_service,
                domain: self.options.cluster_domain.clone(),
            },
        }
    }
}

fn prefix(range: &Cidr) -> Range {
    (range.base(), range.bits())
}

/// All ranges, with the option that chooses each.
fn ranges(pods: &[Cidr], services: &[Cidr]) -> Vec<(&'static str, Range)> {
    let pods = pods.iter().map(|range| ("--cluster-cidr", prefix(range)));
    pods.chain(services.iter().map(|range| ("--service-cluster-ip-range", prefix(range)))).collect()
}

/// Refuses what is not one of a family, or one of each in the same order everywhere.
fn check_families(nodes: &[IpAddr], pods: &[Cidr], services: &[Cidr]) -> anyhow::Result<()> {
    let is_v4 = |range: &Cidr| range.is_ipv4();
    let families: Vec<bool> = pods.iter().map(is_v4).collect();
    ensure!(
        families.len() == 1 || families.len() == 2 && families[0] != families[1],
        "--cluster-cidr: must be one range, or one of IPv4 and one of IPv6"
    );
    ensure!(
        services.iter().map(is_v4).eq(families.iter().copied()),
        "--service-cluster-ip-range: must be of the families of --cluster-cidr, in the same order"
    );
    ensure!(
        nodes.iter().map(IpAddr::is_ipv4).eq(families.iter().copied()),
        "--node-ip: must be of the families of --cluster-cidr, in the same order, such as 10.245.0.1,fd00:10:245::1"
    );
    Ok(())
}

/// Refuses ranges that have addresses in common, or the node's.
fn check_ranges(node: IpAddr, ranges: &[(&str, Range)]) -> anyhow::Result<()> {
    for (at, (other, second)) in ranges.iter().enumerate() {
        for (one, first) in &ranges[..at] {
            ensure!(
                !overlap(*first, *second),
                "{one} and {other} overlap: an address would be a pod's and a Service's"
            );
        }
        ensure!(!overlap(*second, (node, 128)), "--node-ip {node} lies in {other}: choose one outside of it");
    }
    Ok(())
}

/// Refuses a pool that has addresses of pods, of Services or of the node.
fn check_pool(pool: &[AddressRange], node: IpAddr, ranges: &[(&str, Range)]) -> anyhow::Result<()> {
    for block in pool.iter().flat_map(AddressRange::blocks) {
        for (option, range) in ranges {
            ensure!(!overlap(block, *range), "--load-balancer-pool and {option} overlap");
        }
        ensure!(
            !overlap(block, (node, 128)),
            "--node-ip {node} lies in --load-balancer-pool: choose one outside of it"
        );
    }
    Ok(())
}

fn cidrs(texts: &[String]) -> anyhow::Result<Vec<Cidr>> {
    texts.iter().map(|text| cidr(text).map(|(address, length)| Cidr::new(address, length))).collect()
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
    #[command(args_override_self = true)]
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
    fn of_what_is_given_twice_the_last_counts() {
        let twice =
            ["--node-ip=10.1.0.1", "--cluster-cidr=10.2.0.0/16", "--node-ip=10.3.0.1", "--cluster-cidr=10.4.0.0/16"];
        let plan = plan(&twice).unwrap();
        assert_eq!(plan.options.node_ip, ["10.3.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(plan.options.cluster_cidr, ["10.4.0.0/16"]);
    }

    #[test]
    fn both_families_are_chosen_together_and_in_one_order() {
        const PODS: &str = "--cluster-cidr=10.244.0.0/16,fd00:10:244::/56";
        const SERVICES: &str = "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112";
        let dual = plan(&[PODS, SERVICES, "--node-ip=10.245.0.1,fd00:10:245::1"]).unwrap();
        assert_eq!(
            (dual.api_service.to_string(), dual.dns_service.to_string()),
            ("10.96.0.1".into(), "10.96.0.10".into())
        );
        assert_eq!(dual.routes().len(), 2);
        let six = [
            "--cluster-cidr=fd00:10:244::/56",
            "--service-cluster-ip-range=fd00:10:96::/112",
            "--node-ip=fd00:10:245::1",
        ];
        assert_eq!(plan(&six).unwrap().dns_service.to_string(), "fd00:10:96::a");
        for (flags, word) in [
            (vec![PODS], "--service-cluster-ip-range: must be of the families"),
            (vec![PODS, SERVICES], "--node-ip: must be of the families"),
            (vec![PODS, SERVICES, "--node-ip=fd00::1,10.245.0.1"], "in the same order"),
            (vec!["--cluster-cidr=10.1.0.0/16,10.2.0.0/16"], "one of IPv4 and one of IPv6"),
            (vec![PODS, SERVICES, "--node-ip=10.245.0.1,fd00:10:244::1"], "lies in --cluster-cidr"),
        ] {
            let err = format!("{:#}", plan(&flags).unwrap_err());
            assert!(err.contains(word), "{err}");
        }
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
            (["--bridge", "claims"], "--bridge"),
            (["--pod-max-pids", "0"], "--pod-max-pids"),
            (["--nodes=2", "--cni-conf-dir=/etc/cni/net.d"], "--nodes and --cni-conf-dir"),
            (["--allowed-unsafe-sysctls", "vm.swappiness"], "--allowed-unsafe-sysctls"),
        ] {
            let err = format!("{:#}", plan(&flags).unwrap_err());
            assert!(err.contains(word), "{err}");
        }
    }
}
