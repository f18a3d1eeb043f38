//! More nodes on this machine: each a process that joins as one on another machine would, in a network namespace of its own
//! (upstream: what kind does with containers).
//!
//! ```text
//!   node 1 (this process)            node 2                    node 3
//!   coracle0-node 10.245.0.1         eth0 10.245.0.2           eth0 10.245.0.3   (and an IPv6 address each, if they are to)
//!        +---------- veth --------------+                         |
//!        +---------- veth ----------------------------------------+
//! ```
//! They end with this process: the standard input of each is a pipe that it holds. One that ends before is started again in
//! its namespace, and finds its pods there.

mod link;
mod running;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, bail, ensure};
use controllers::AddressRange;
use facts::cidr::Cidr;
use host::Resource;
use host::nft::Family;
use runtime::namespace::NetworkNamespace;
use tokio::task::JoinSet;
use tracing::warn;

use self::running::Running;
use crate::invitation::Invitation;
use crate::link::Link;
use crate::node::NodeOptions;
use crate::options::Plan;

/// The prefix that the addresses of all nodes have in common.
pub(crate) fn near(address: IpAddr) -> Cidr {
    Cidr::new(address, if address.is_ipv4() { 24 } else { 64 })
}

/// A node on this machine beside the first.
#[derive(Clone, Debug)]
struct Member {
    name: String,
    /// One of each family.
    addresses: Vec<IpAddr>,
    /// The host's end of its link.
    link: String,
    options: NodeOptions,
}

/// All nodes on this machine beside the first.
pub(crate) struct Fleet {
    members: Vec<Member>,
    /// The bridge that they are on.
    bridge: String,
    /// The first node's addresses, which are their router's.
    routers: Vec<IpAddr>,
    /// The nftables table by which they reach the world.
    table: String,
    pods: Vec<Cidr>,
    running: Mutex<Vec<Arc<tokio::sync::Mutex<Running>>>>,
}

impl Fleet {
    /// Decides about names and addresses; needs the first node's own link for more than that.
    pub(crate) fn new(plan: &Plan, link: Option<&Link>) -> anyhow::Result<Self> {
        let members = members(plan)?;
        if !members.is_empty() && link.is_none() {
            bail!("--nodes needs a --node-ip that only this cluster has, such as 10.245.0.1");
        }
        Ok(Self {
            members,
            bridge: plan.options.node.link_name(),
            routers: plan.options.node_ip.clone(),
            table: table(&plan.options.node),
            pods: plan.pods.clone(),
            running: Mutex::default(),
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The names of the nodes.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.members.iter().map(|member| &member.name)
    }

    /// What the nodes were told.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &NodeOptions> {
        self.members.iter().map(|member| &member.options)
    }

    /// Starts all of them, at once.
    pub(crate) async fn start(&self, invitation: Option<&Invitation>) -> anyhow::Result<()> {
        let Some(invitation) = invitation.filter(|_| !self.is_empty()) else { return Ok(()) };
        host::nft::apply(&self.rules()).await.context("let the nodes reach the world")?;
        let starts = self.members.iter().map(|member| async move {
            let started = self.start_one(member, invitation).await;
            started.with_context(|| format!("start node {}", member.name))
        });
        futures::future::try_join_all(starts).await?;
        Ok(())
    }

    async fn start_one(&self, member: &Member, invitation: &Invitation) -> anyhow::Result<()> {
        let namespace = NetworkNamespace::new().context("make a network namespace")?;
        link::connect(&self.bridge, &member.link, &member.addresses, &namespace).await?;
        let ways = member.addresses.iter().zip(&self.routers);
        let ways: Vec<link::Way> = ways.map(|(own, router)| (*own, near(*own).bits(), *router)).collect();
        link::configure(&namespace, &ways).context("configure its link")?;
        let running = Running::start(member.clone(), namespace, self.routers[0], invitation)?;
        self.lock().push(Arc::new(tokio::sync::Mutex::new(running)));
        Ok(())
    }

    /// Starts again what ends, for as long as this is waited for; `say` gets a line for the user each time.
    pub(crate) async fn keep(&self, invitation: Option<&Invitation>, say: &impl Fn(String)) {
        let Some(invitation) = invitation else { return };
        let all = self.lock().clone();
        let router = self.routers[0];
        let kept = all.iter().map(|running| async move { running.lock().await.keep(router, invitation, say).await });
        futures::future::join_all(kept).await;
    }

    /// Ends all of them, and removes what was made for them.
    pub(crate) async fn stop(&self) -> anyhow::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let mut ending = JoinSet::new();
        for running in std::mem::take(&mut *self.lock()) {
            ending.spawn(async move { running.lock().await.end().await });
        }
        while let Some(ended) = ending.join_next().await {
            if let Ok(Err(err)) = ended {
                warn!(error = format!("{err:#}"), "a node has not ended as it should");
            }
        }
        for member in &self.members {
            link::disconnect(&member.link).await?;
        }
        host::nft::apply(&self.families().map(|family| removal(&self.table, family)).collect::<String>()).await?;
        Ok(())
    }

    fn families(&self) -> impl Iterator<Item = Family> {
        self.routers.iter().map(|router| if router.is_ipv4() { Family::V4 } else { Family::V6 })
    }

    /// What leaves this machine for the world has an address that the world can answer.
    fn rules(&self) -> String {
        self.families().map(|family| self.rules_of(family)).collect()
    }

    fn rules_of(&self, family: Family) -> String {
        let all = self.members.iter().flat_map(|member| &member.addresses);
        let addresses: Vec<String> = all.filter(|one| family.has(**one)).map(ToString::to_string).collect();
        let pods: Vec<String> =
            self.pods.iter().filter(|range| family.has(range.base())).map(Cidr::to_string).collect();
        let (ip, _) = family.words();
        format!(
            "{removal}table {ip} {table} {{\n chain postrouting {{\n  \
             type nat hook postrouting priority srcnat;\n  \
             {ip} saddr {{ {addresses} }} oifname != \"{bridge}\" {ip} daddr != {{ {pods} }} masquerade\n }}\n}}\n",
            removal = removal(&self.table, family),
            table = self.table,
            addresses = addresses.join(", "),
            bridge = self.bridge,
            pods = pods.join(", "),
        )
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<tokio::sync::Mutex<Running>>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn removal(table: &str, family: Family) -> String {
    let (ip, _) = family.words();
    format!("add table {ip} {table}\ndelete table {ip} {table}\n")
}

/// The nftables table of the nodes on this machine.
fn table(options: &NodeOptions) -> String {
    format!("{}-nodes", options.bridge)
}

fn members(plan: &Plan) -> anyhow::Result<Vec<Member>> {
    let options = &plan.options;
    if options.nodes <= 1 {
        return Ok(Vec::new());
    }
    (2..=options.nodes).map(|number| member(options, &plan.node_name, number)).collect()
}

/// The address of a node, as many after the first one's as it comes after it.
fn address(first: IpAddr, number: u8, nodes: u8, pool: &[AddressRange]) -> anyhow::Result<IpAddr> {
    let offset = number - 1;
    let address = match first {
        IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits().wrapping_add(offset.into())).into(),
        IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits().wrapping_add(offset.into())).into(),
    };
    let near = near(first);
    ensure!(near.offers(address), "--nodes: {near} of --node-ip {first} has no room for {nodes} nodes");
    ensure!(
        !pool.iter().any(|range| range.contains(address)),
        "--load-balancer-pool has {address}, which is the address of a node"
    );
    Ok(address)
}

fn member(options: &crate::Options, first_name: &str, number: u8) -> anyhow::Result<Member> {
    let name = format!("{first_name}-{number}");
    crate::node::check_name(&name)?;
    let addresses =
        options.node_ip.iter().map(|first| address(*first, number, options.nodes, &options.load_balancer_pool));
    let addresses = addresses.collect::<anyhow::Result<Vec<_>>>()?;
    let bridge = format!("{}n{number}", options.node.bridge);
    ensure!(bridge.len() <= 13, "--bridge {:?}: must have at most 10 letters with --nodes", options.node.bridge);
    let data_dir = options.node.data_dir.join("nodes").join(&name);
    let node = NodeOptions {
        data_dir,
        bridge: bridge.clone(),
        node_name: Some(name.clone()),
        // What all pods of a node may have together is a limit of their topmost cgroup.
        cgroup_root: Some(bridge.clone()),
        ..options.node.clone()
    };
    Ok(Member { name, addresses, link: format!("{bridge}.v"), options: node })
}

/// What the members have of this machine.
pub(crate) fn resources(plan: &Plan) -> anyhow::Result<Vec<(&'static str, Resource)>> {
    let members = members(plan)?;
    let each = members.iter().flat_map(|member| {
        let link = std::iter::once(("--bridge", Resource::Interface(member.link.clone())));
        link.chain(member.addresses.iter().map(|address| ("--node-ip", Resource::address(*address))))
    });
    let shared = (!members.is_empty()).then(|| ("--bridge", Resource::Table(table(&plan.options.node))));
    Ok(each.chain(shared).collect())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        options: crate::Options,
    }

    fn plan(flags: &[&str]) -> Plan {
        let flags = ["up", "--node-name=n", "--data-dir=/d"].iter().chain(flags);
        Plan::new(Cli::try_parse_from(flags).unwrap().options).unwrap()
    }

    #[test]
    fn every_node_has_names_and_addresses_of_its_own() {
        let members = members(&plan(&["--nodes=3"])).unwrap();
        let told: Vec<_> = members
            .iter()
            .map(|one| {
                let data = one.options.data_dir.display();
                format!("{} {} {} {} {data}", one.name, one.addresses[0], one.options.bridge, one.link)
            })
            .collect();
        assert_eq!(
            told,
            [
                "n-2 10.245.0.2 coracle0n2 coracle0n2.v /d/nodes/n-2",
                "n-3 10.245.0.3 coracle0n3 coracle0n3.v /d/nodes/n-3",
            ]
        );
        assert_eq!(resources(&plan(&["--nodes=3"])).unwrap().len(), 5);
        assert!(resources(&plan(&[])).unwrap().is_empty());
    }

    #[test]
    fn nodes_have_an_address_of_each_family() {
        let plan = plan(&[
            "--nodes=2",
            "--node-ip=10.245.0.1,fd00:10:245::1",
            "--cluster-cidr=10.244.0.0/16,fd00:10:244::/56",
            "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112",
        ]);
        let members = members(&plan).unwrap();
        assert_eq!(members[0].addresses, ["10.245.0.2".parse::<IpAddr>().unwrap(), "fd00:10:245::2".parse().unwrap()]);
        assert_eq!(resources(&plan).unwrap().len(), 4);
    }

    #[test]
    fn what_leaves_no_room_is_refused() {
        for (flags, words) in [
            (["--nodes=3", "--node-ip=10.245.0.253"], "no room"),
            (["--nodes=3", "--load-balancer-pool=10.245.0.3-10.245.0.9"], "address of a node"),
            (["--nodes=3", "--bridge=of-14-letters4"], "--bridge"),
        ] {
            let err = members(&plan(&flags)).unwrap_err().to_string();
            assert!(err.contains(words), "{err}");
        }
        let err = Fleet::new(&plan(&["--nodes=2"]), None).err().unwrap().to_string();
        assert!(err.contains("--node-ip"), "{err}");
    }
}
