//! The pod network of one node: a bridge, a veth pair per pod, addresses, and what leaves the node (upstream: the CNI
//! plugins bridge, host-local and portmap).
//!
//! A pod's address is a /32 whose only neighbour is the gateway, so all its traffic is routed by the node, also that
//! to its neighbours: Service translation then sees both directions without bridge filtering.

mod addresses;
mod link;
mod nft;
mod repair;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use host::{Claim, Resource};
use serde::{Deserialize, Serialize};

use crate::disk::io_error;
use crate::{Error, PortMapping, Traffic};
use addresses::Leases;
pub(crate) use addresses::Subnet;

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
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self { bridge: "coracle0".into(), table: "coracle-masq".into(), unmasqueraded: Vec::new(), mtu: 0 }
    }
}

/// How often the table is made anew while somebody else changes it.
const TRIES: usize = 5;

/// Host ports of one pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostPorts {
    pub(crate) address: Ipv4Addr,
    pub(crate) mappings: Vec<PortMapping>,
}

pub(crate) struct Network {
    config: NetworkConfig,
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
    leases: Leases,
    ports: BTreeMap<String, HostPorts>,
    /// `None` before the bridge was made, and after it was taken down.
    bridge_index: Option<u32>,
    /// The range of addresses, for as long as the bridge has it.
    claimed: Option<(Subnet, Claim)>,
}

impl Network {
    /// Opens the addresses given out earlier.
    pub(crate) fn open(config: NetworkConfig, directory: PathBuf) -> Result<Self, Error> {
        if config.bridge.is_empty() || config.bridge.len() > 15 {
            return Err(Error::Invalid {
                field: "bridge",
                reason: format!("{:?} is no interface name", config.bridge),
            });
        }
        std::fs::create_dir_all(&directory).map_err(io_error("make", &directory))?;
        let leases = Leases::open(directory.join("leases.json"))?;
        let state = State { leases, ports: BTreeMap::new(), bridge_index: None, claimed: None };
        Ok(Self { config, state: Mutex::new(state), change: tokio::sync::Mutex::default() })
    }

    /// Claims the names of bridge and table: nothing of them may be touched before.
    pub(crate) fn claim(&self) -> Result<Claim, Error> {
        let names = vec![Resource::Interface(self.config.bridge.clone()), Resource::Table(self.config.table.clone())];
        Claim::take(names).map_err(|err| Error::Claim { source: Box::new(err) })
    }

    /// Makes the bridge, gives it the subnet's first address, and lets pods reach the world.
    pub(crate) async fn set_subnet(&self, subnet: Subnet) -> Result<(), Error> {
        let change = self.change.lock().await;
        {
            let mut state = self.lock();
            if state.leases.subnet() == Some(subnet) && state.bridge_index.is_some() {
                return Ok(());
            }
            if state.claimed.as_ref().is_none_or(|(claimed, _)| *claimed != subnet) {
                let range = vec![Resource::Range(subnet.gateway().into(), subnet.prefix())];
                let claim = Claim::take(range).map_err(|err| Error::Claim { source: Box::new(err) })?;
                state.claimed = Some((subnet, claim));
            }
            state.leases.set_subnet(subnet)?;
        }
        self.make(subnet, &change).await
    }

    /// Bridge, table and settings, whatever of them is there already.
    async fn make(&self, subnet: Subnet, change: &Change) -> Result<(), Error> {
        // Before the bridge may carry anything, least of all with `route_localnet`: the table guards the node's loopback.
        self.apply_table(change).await?;
        let pods = self.lock().leases.owners();
        let index = link::make_bridge(&self.config, subnet, &pods).await?;
        self.lock().bridge_index = Some(index);
        write_setting("net/ipv4/ip_forward", "1")?;
        for (setting, value) in [("send_redirects", "0"), ("route_localnet", "1"), ("rp_filter", "0")] {
            write_setting(&format!("net/ipv4/conf/{}/{setting}", self.config.bridge), value)?;
        }
        if let Some(watches) = &change.watches {
            watches.links.harmed(index).map_err(watching)?;
        }
        Ok(())
    }

    /// Gives a pod an address and connects its network namespace.
    pub(crate) async fn connect(
        &self,
        sandbox: &str,
        namespace: OwnedFd,
        mappings: &[PortMapping],
    ) -> Result<Ipv4Addr, Error> {
        let (address, subnet, bridge) = {
            let mut state = self.lock();
            let (Some(subnet), Some(bridge)) = (state.leases.subnet(), state.bridge_index) else {
                return Err(Error::Network { reason: "the node has no pod CIDR yet".to_owned() });
            };
            (state.leases.take(sandbox)?, subnet, bridge)
        };
        let connected = async {
            link::connect_pod(&self.config, bridge, sandbox, namespace, address, subnet.gateway()).await?;
            let mappings: Vec<PortMapping> = mappings.iter().filter(|one| one.host_port != 0).cloned().collect();
            if mappings.is_empty() {
                return Ok(());
            }
            let change = self.change.lock().await;
            self.lock().ports.insert(sandbox.to_owned(), HostPorts { address, mappings });
            self.apply_table(&change).await
        };
        match connected.await {
            Ok(()) => Ok(address),
            Err(err) => {
                self.disconnect(sandbox).await?;
                Err(err)
            }
        }
    }

    /// Takes a pod off the network. Its veth pair goes with its namespace.
    pub(crate) async fn disconnect(&self, sandbox: &str) -> Result<(), Error> {
        let change = self.change.lock().await;
        let had_ports = self.lock().ports.remove(sandbox).is_some();
        if had_ports {
            self.apply_table(&change).await?;
        }
        link::remove(&link::host_name(sandbox)).await?;
        self.lock().leases.give_back(sandbox)
    }

    /// Takes up what pods that still live had before a restart, and forgets everybody else.
    pub(crate) async fn restore(&self, living: BTreeMap<String, Option<HostPorts>>) -> Result<(), Error> {
        let subnet = {
            let mut state = self.lock();
            state.leases.retain(|sandbox| living.contains_key(sandbox))?;
            state.ports = living.into_iter().filter_map(|(sandbox, ports)| Some((sandbox, ports?))).collect();
            state.leases.subnet()
        };
        match subnet {
            Some(subnet) => self.set_subnet(subnet).await,
            None => Ok(()),
        }
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
            let Some(subnet) = state.leases.subnet() else { return Ok(()) };
            nft::table(&self.config, subnet, state.ports.values())?
        };
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
