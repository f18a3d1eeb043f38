//! The pod network of one node: a bridge, a veth pair per pod, addresses, and what leaves the node (upstream: the CNI
//! plugins bridge, host-local and portmap).
//!
//! A pod's address is a /32 (a /128 of IPv6) whose only neighbour is the gateway, so all its traffic is routed by the node, also that
//! to its neighbours: Service translation then sees both directions without bridge filtering.
//!
//! Or CNI plugins connect pods ([`CniConfig`]); there are no bridge, table and addresses of ours then.

mod addresses;
mod bandwidth;
mod cni;
mod link;
mod nft;
mod repair;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::disk::io_error;
use crate::{Error, PortMapping, SandboxConfig, Traffic};
use addresses::Leases;
pub(crate) use addresses::Subnet;
use cni::Cni;
pub use cni::CniConfig;
use host::{Claim, Resource};

/// What sets one runtime's network apart from another's on the same machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// At most 15 characters.
    pub bridge: String,
    /// Name of the nftables table.
    pub table: String,
    /// Destinations to which pods keep their own address, such as the cluster's pod CIDR.
    pub unmasqueraded: Vec<String>,
    /// 0 takes the kernel's default.
    pub mtu: u32,
    /// Connects pods by plugins instead.
    pub cni: Option<CniConfig>,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self { bridge: "coracle0".into(), table: "coracle-masq".into(), unmasqueraded: Vec::new(), mtu: 0, cni: None }
    }
}

/// How often the table is made anew while somebody else changes it.
const TRIES: usize = 5;

/// Host ports of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPorts {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) mappings: Vec<PortMapping>,
}

impl HostPorts {
    /// Those that a pod wants; `None` where it wants none.
    pub(crate) fn of(addresses: &[IpAddr], mappings: &[PortMapping]) -> Option<Self> {
        let mappings: Vec<PortMapping> = mappings.iter().filter(|one| one.host_port != 0).cloned().collect();
        (!mappings.is_empty() && !addresses.is_empty()).then(|| Self { addresses: addresses.to_vec(), mappings })
    }
}

/// Names of the files of leases, one for each family.
const LEASES: [&str; 2] = ["leases.json", "leases6.json"];

pub(crate) struct Network {
    config: NetworkConfig,
    cni: Cni,
    state: Mutex<State>,
    /// Held while the bridge or the table changes.
    change: tokio::sync::Mutex<Change>,
}

/// What is needed to change bridge and table.
#[derive(Default)]
struct Change {
    /// Read after each change: what this process does must not be taken for somebody else's doing.
    watches: Option<Arc<repair::Watches>>,
}

struct State {
    /// IPv4, then IPv6; a family that the node's pods do not have has no subnet.
    leases: [Leases; 2],
    /// Which family's address a pod has first.
    ipv6_first: bool,
    ports: BTreeMap<String, HostPorts>,
    /// `None` before the bridge was made, and after it was taken down.
    bridge_index: Option<u32>,
    /// The ranges of addresses, for as long as the bridge has them.
    claimed: Option<(Vec<Subnet>, Claim)>,
}

impl State {
    /// In the order of IPv4 and IPv6.
    fn subnets(&self) -> Vec<Subnet> {
        self.leases.iter().filter_map(Leases::subnet).collect()
    }

    /// An address of each family, in the order in which the pod shows them.
    fn take(&mut self, sandbox: &str) -> Result<Vec<link::PodAddress>, Error> {
        let mut taken = Vec::new();
        for leases in &mut self.leases {
            if let Some(subnet) = leases.subnet() {
                taken.push(link::PodAddress { own: leases.take(sandbox)?, gateway: subnet.gateway() });
            }
        }
        if self.ipv6_first {
            taken.reverse();
        }
        Ok(taken)
    }

    fn give_back(&mut self, sandbox: &str) -> Result<(), Error> {
        self.leases.iter_mut().try_for_each(|leases| leases.give_back(sandbox))
    }
}

impl Network {
    /// Opens the addresses given out earlier; `run` is for what is gone after a reboot.
    pub(crate) fn open(config: NetworkConfig, directory: PathBuf, run: &Path) -> Result<Self, Error> {
        if config.bridge.is_empty() || config.bridge.len() > 15 {
            return Err(Error::Invalid {
                field: "bridge",
                reason: format!("{:?} is no interface name", config.bridge),
            });
        }
        std::fs::create_dir_all(&directory).map_err(io_error("make", &directory))?;
        let [v4, v6] = LEASES.map(|file| Leases::open(directory.join(file)));
        let (leases, ports) = ([v4?, v6?], BTreeMap::new());
        let state = State { leases, ipv6_first: false, ports, bridge_index: None, claimed: None };
        let cni = Cni::open(config.cni.clone(), &directory, run);
        Ok(Self { config, cni, state: Mutex::new(state), change: tokio::sync::Mutex::default() })
    }

    /// Whether pods can be connected without the node's ranges of addresses: plugins have their own.
    pub(crate) fn has_own_addresses(&self) -> bool {
        self.cni.is_wanted()
    }

    /// Claims the names of bridge and table: nothing of them may be touched before.
    pub(crate) fn claim(&self) -> Result<Claim, Error> {
        let names = vec![Resource::Interface(self.config.bridge.clone()), Resource::Table(self.config.table.clone())];
        Claim::take(names).map_err(|err| Error::Claim { source: Box::new(err) })
    }

    /// Makes the bridge, gives it the first address of each subnet, and lets pods reach the world. There is one subnet, or one
    /// of each family; pods show the address of the first one first.
    /// Where plugins connect pods, it only sees whether they are configured.
    pub(crate) async fn set_subnets(&self, subnets: &[Subnet]) -> Result<(), Error> {
        if self.cni.is_wanted() {
            return self.cni.check();
        }
        let [v4, v6] = [true, false].map(|v4| subnets.iter().copied().find(|subnet| subnet.is_ipv4() == v4));
        let wanted: Vec<Subnet> = v4.into_iter().chain(v6).collect();
        if wanted.is_empty() || wanted.len() != subnets.len() {
            let reason = "must be one network, or one of each family".to_owned();
            return Err(Error::Invalid { field: "podCIDR", reason });
        }
        let change = self.change.lock().await;
        {
            let mut state = self.lock();
            state.ipv6_first = !subnets[0].is_ipv4();
            if state.subnets() == wanted && state.bridge_index.is_some() {
                return Ok(());
            }
            if state.claimed.as_ref().is_none_or(|(claimed, _)| *claimed != wanted) {
                let ranges = wanted.iter().map(|subnet| Resource::Range(subnet.gateway(), subnet.prefix())).collect();
                let claim = Claim::take(ranges).map_err(|err| Error::Claim { source: Box::new(err) })?;
                state.claimed = Some((wanted.clone(), claim));
            }
            let [old4, old6] = &mut state.leases;
            old4.set_subnet(v4)?;
            old6.set_subnet(v6)?;
        }
        self.make(&wanted, &change).await
    }

    /// Bridge, tables and settings, whatever of them is there already.
    async fn make(&self, subnets: &[Subnet], change: &Change) -> Result<(), Error> {
        // Before the bridge may carry anything, least of all with `route_localnet`: the table guards the node's loopback.
        self.apply_table(change).await?;
        let pods = self.lock().leases.iter().flat_map(Leases::owners).collect::<BTreeSet<_>>();
        let index = link::make_bridge(&self.config, subnets, &pods.into_iter().collect::<Vec<_>>()).await?;
        self.lock().bridge_index = Some(index);
        settings::apply(&self.config.bridge, subnets)?;
        if let Some(watches) = &change.watches {
            watches.links.harmed(index).map_err(watching)?;
        }
        Ok(())
    }

    /// Gives a pod its addresses and connects its network namespace.
    pub(crate) async fn connect(
        &self,
        sandbox: &str,
        namespace: OwnedFd,
        config: &SandboxConfig,
    ) -> Result<Vec<IpAddr>, Error> {
        let connected = match self.cni.is_wanted() {
            true => self.cni.connect(sandbox, namespace, config).await,
            false => self.connect_to_bridge(sandbox, namespace, config).await,
        };
        if connected.is_err()
            && let Err(err) = self.disconnect(sandbox).await
        {
            // Who takes down what is left of the pod tries again, and why it was not connected is what is told.
            tracing::warn!(sandbox, error = &err as &dyn std::error::Error, "failed to disconnect a pod");
        }
        connected
    }

    async fn connect_to_bridge(
        &self,
        sandbox: &str,
        namespace: OwnedFd,
        config: &SandboxConfig,
    ) -> Result<Vec<IpAddr>, Error> {
        let (addresses, bridge) = {
            let mut state = self.lock();
            let Some(bridge) = state.bridge_index else {
                return Err(Error::Network { reason: "the node has no pod CIDR yet".to_owned() });
            };
            (state.take(sandbox), bridge)
        };
        let addresses = addresses?;
        let own: Vec<IpAddr> = addresses.iter().map(|address| address.own).collect();
        link::connect_pod(&self.config, bridge, sandbox, namespace, addresses, config.bandwidth).await?;
        if let Some(ports) = HostPorts::of(&own, &config.port_mappings) {
            let change = self.change.lock().await;
            self.lock().ports.insert(sandbox.to_owned(), ports);
            self.apply_table(&change).await?;
        }
        Ok(own)
    }

    /// Takes a pod off the network. Its veth pair goes with its namespace.
    pub(crate) async fn disconnect(&self, sandbox: &str) -> Result<(), Error> {
        // Whatever the node is configured to do now: this pod may have been connected by plugins.
        self.cni.disconnect(sandbox).await?;
        let change = self.change.lock().await;
        let had_ports = self.lock().ports.remove(sandbox).is_some();
        if had_ports {
            self.apply_table(&change).await?;
        }
        link::remove(&link::host_name(sandbox)).await?;
        self.lock().give_back(sandbox)
    }

    /// Takes up what pods that still live had before a restart, and forgets everybody else.
    pub(crate) async fn restore(&self, living: BTreeMap<String, Option<HostPorts>>) -> Result<(), Error> {
        let subnets = {
            let mut state = self.lock();
            for leases in &mut state.leases {
                leases.retain(|sandbox| living.contains_key(sandbox))?;
            }
            state.ports = living.into_iter().filter_map(|(sandbox, ports)| Some((sandbox, ports?))).collect();
            state.subnets()
        };
        if subnets.is_empty() || self.cni.is_wanted() { Ok(()) } else { self.set_subnets(&subnets).await }
    }

    /// Removes what this runtime made: bridge and table.
    pub(crate) async fn tear_down(&self) -> Result<(), Error> {
        let _change = self.change.lock().await;
        self.lock().bridge_index = None;
        apply(&nft::removal(&self.config.table)).await?;
        link::remove_bridge(&self.config.bridge).await
    }

    async fn apply_table(&self, change: &Change) -> Result<(), Error> {
        let script = {
            let state = self.lock();
            let tables =
                state.subnets().into_iter().map(|subnet| nft::table(&self.config, subnet, state.ports.values()));
            tables.collect::<Result<String, Error>>()?
        };
        if script.is_empty() {
            return Ok(());
        }
        for _ in 0..TRIES {
            apply(&script).await?;
            let touched = change.watches.as_ref().map(|watches| watches.table.read().map_err(watching)).transpose()?;
            // Somebody else was there at the same time, perhaps after us.
            if !touched.is_some_and(|touched| touched.beyond(1)) {
                return Ok(());
            }
        }
        Err(Error::Network { reason: format!("somebody else keeps changing the nftables table {}", self.config.table) })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }
}

async fn apply(script: &str) -> Result<(), Error> {
    host::nft::apply(script).await.map_err(|err| Error::Network { reason: chain(&err) })
}

fn watching(err: std::io::Error) -> Error {
    Error::Network { reason: format!("hear of changes: {err}") }
}

/// An error and its causes in one line.
fn chain(err: &dyn std::error::Error) -> String {
    std::iter::successors(Some(err), |err| err.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn write_setting(name: &str, value: &str) -> Result<(), Error> {
    let path = PathBuf::from("/proc/sys").join(name);
    std::fs::write(&path, value).map_err(io_error("write", &path))
}

/// What went through `eth0` in the network namespace of a process.
pub(crate) fn traffic(pid: u32) -> Option<Traffic> {
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?;
    Traffic::of_interface(&table, "eth0")
}
