//! Bridge and veth pairs, over netlink.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use futures::TryStreamExt as _;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags};
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::{RouteMessage, RouteScope};
use rtnetlink::{Handle, LinkBridge, LinkBridgePort, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::{NetworkConfig, Subnet, bandwidth};
use crate::{Bandwidth, Error, sys};

/// A pod's interface, as it sees it.
const POD_INTERFACE: &str = "eth0";
/// Interface 1 of every network namespace.
const LOOPBACK: u32 = 1;

/// The bridge's own address of the link: the node asks pods for their hardware addresses with it. The one that the kernel
/// makes is of no use for a second (RFC 4862, section 5.4), and packets to the first pod would wait.
const BRIDGE_LINK: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));

/// The node's end of a pod's veth pair.
pub(super) fn host_name(sandbox: &str) -> String {
    format!("veth{}", &sandbox[..sandbox.len().min(11)])
}

/// A conversation with the kernel in this thread's network namespace.
struct Netlink {
    handle: Handle,
    task: tokio::task::JoinHandle<()>,
}

impl Netlink {
    fn open() -> Result<Self, Error> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(failed("open netlink"))?;
        Ok(Self { handle, task: tokio::spawn(connection) })
    }
}

impl Netlink {
    async fn remove(&self, index: u32, name: &str) -> Result<(), Error> {
        match self.handle.link().del(index).execute().await {
            // It went away with its other end.
            Err(rtnetlink::Error::NetlinkError(message)) if message.raw_code() == -libc::ENODEV => Ok(()),
            removed => removed.map_err(failed(&format!("remove {name}"))),
        }
    }

    /// An interface by name, if it is there.
    async fn find(&self, name: &str) -> Option<LinkMessage> {
        // The kernel answers "no such device" where there is none.
        self.handle.link().get().match_name(name.to_owned()).execute().try_next().await.ok().flatten()
    }

    /// Gives an interface an address. Nobody else can have it, so an IPv6 one is not asked about and good at once.
    async fn address(&self, index: u32, address: IpAddr, prefix: u8) -> Result<(), rtnetlink::Error> {
        let mut add = self.handle.address().add(index, address, prefix);
        if address.is_ipv6() {
            let message = add.message_mut();
            message.header.flags |= AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        match add.execute().await {
            Err(err) if exists(&err) => Ok(()),
            added => added,
        }
    }

    /// Attaches an interface to a bridge, if it is there and on none.
    async fn attach(&self, name: &str, bridge: u32) -> Result<(), Error> {
        let Some(link) = self.find(name).await else { return Ok(()) };
        if link.attributes.iter().any(|one| matches!(one, LinkAttribute::Controller(_))) {
            return Ok(());
        }
        let attached = LinkUnspec::new_with_index(link.header.index).controller(bridge).up().build();
        let done = self.handle.link().set(attached).execute().await;
        done.map_err(failed(&format!("attach {name} to the bridge")))?;
        self.let_back(link.header.index, name).await
    }

    /// Has an interface send so many bits a second at most, if it is limited at all.
    async fn limit(&self, index: u32, rate: Option<u64>) -> Result<(), Error> {
        let Some(rate) = rate else { return Ok(()) };
        bandwidth::limit(&self.handle, index, rate).await.map_err(failed("limit the bandwidth of the pod"))
    }

    /// Lets a port of the bridge have back what came from it: with `bridge-nf-call-iptables`, packets of a pod that reaches
    /// itself through a Service are translated within the bridge (upstream's `hairpin-veth`).
    async fn let_back(&self, port: u32, name: &str) -> Result<(), Error> {
        let hairpin = LinkBridgePort::new(port).hairpin(true).build();
        let done = self.handle.link().set_port(hairpin).execute().await;
        done.map_err(failed(&format!("let {name} have back what it sends")))
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn failed<E: std::fmt::Display>(what: &str) -> impl FnOnce(E) -> Error {
    let what = what.to_owned();
    move |err| Error::Network { reason: format!("{what}: {err}") }
}

/// Whether the kernel says that what should be made is there already.
fn exists(err: &rtnetlink::Error) -> bool {
    matches!(err, rtnetlink::Error::NetlinkError(message) if message.raw_code() == -libc::EEXIST)
}

/// Makes the bridge, or takes the one that is there, and attaches the pods' interfaces that are not; returns its index.
pub(super) async fn make_bridge(config: &NetworkConfig, subnets: &[Subnet], pods: &[String]) -> Result<u32, Error> {
    let netlink = Netlink::open()?;
    let name = &config.bridge;
    let mut link = LinkBridge::new(name).address(hardware_address(subnets)).up();
    if config.mtu > 0 {
        link = link.mtu(config.mtu);
    }
    let made = match netlink.handle.link().add(link.build()).execute().await {
        Err(err) if exists(&err) => false,
        made => made.map(|()| true).map_err(failed(&format!("make bridge {name}")))?,
    };
    let index = index_of(name).map_err(failed(&format!("find bridge {name}")))?;
    let up = LinkUnspec::new_with_index(index).up();
    let up = if made { up.alias(host::INTERFACE_ALIAS) } else { up };
    netlink.handle.link().set(up.build()).execute().await.map_err(failed(&format!("start bridge {name}")))?;
    let own = subnets.iter().map(|subnet| (subnet.gateway(), subnet.prefix()));
    let near = subnets.iter().find(|subnet| !subnet.is_ipv4()).map(|_| (BRIDGE_LINK, 64));
    for (address, prefix) in own.chain(near) {
        let added = netlink.address(index, address, prefix).await;
        added.map_err(failed(&format!("give {address} to {name}")))?;
    }
    for pod in pods {
        netlink.attach(&host_name(pod), index).await?;
    }
    Ok(index)
}

/// The bridge's hardware address, made of its first address. Without one that was given, a bridge takes those of its ports in
/// turns, and pods would send to one that has gone (upstream: the bridge plugin of CNI does the same).
fn hardware_address(subnets: &[Subnet]) -> Vec<u8> {
    let last = match subnets.first().map(|subnet| subnet.gateway()) {
        Some(IpAddr::V4(address)) => address.octets(),
        Some(IpAddr::V6(address)) => (address.to_bits() as u32).to_be_bytes(),
        None => [0; 4],
    };
    [&[0x0a, 0x58][..], &last].concat()
}

/// An address of a pod, with the bridge's.
#[derive(Clone, Copy, Debug)]
pub(super) struct PodAddress {
    pub(super) own: IpAddr,
    pub(super) gateway: IpAddr,
}

/// Makes a pod's veth pair and sets up the pod's end.
pub(super) async fn connect_pod(
    config: &NetworkConfig,
    bridge: u32,
    sandbox: &str,
    namespace: OwnedFd,
    addresses: Vec<PodAddress>,
    limits: Bandwidth,
) -> Result<(), Error> {
    let netlink = Netlink::open()?;
    let pair = veth(config, bridge, &host_name(sandbox), &namespace);
    netlink.handle.link().add(pair).execute().await.map_err(failed("make a veth pair"))?;
    let name = host_name(sandbox);
    let index = index_of(&name).map_err(failed(&format!("find {name}")))?;
    netlink.let_back(index, &name).await?;
    netlink.limit(index, limits.ingress).await?;
    inside(namespace, move |namespace| configure(&namespace, &addresses, limits.egress)).await
}

/// Starts the loopback interface of a network namespace, which every pod has, whoever connects it.
pub(super) async fn start_loopback(namespace: OwnedFd) -> Result<(), Error> {
    inside(namespace, |namespace| {
        enter(&namespace)?;
        netlink_runtime()?.block_on(async { start(&Netlink::open()?, LOOPBACK).await })
    })
    .await
}

/// Runs something on a thread of its own, which may move into the namespace and ends there.
async fn inside(
    namespace: OwnedFd,
    work: impl FnOnce(OwnedFd) -> Result<(), Error> + Send + 'static,
) -> Result<(), Error> {
    let (done, result) = tokio::sync::oneshot::channel();
    let work = move || {
        // The receiver waits for as long as this thread lives.
        let _ = done.send(work(namespace));
    };
    std::thread::Builder::new().name("pod-network".into()).spawn(work).map_err(failed("start a thread"))?;
    result.await.map_err(failed("configure the pod's interface"))?
}

fn enter(namespace: &OwnedFd) -> Result<(), Error> {
    sys::setns(namespace.as_fd(), libc::CLONE_NEWNET).map_err(failed("enter the pod's network"))
}

fn netlink_runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed("start netlink"))
}

async fn start(netlink: &Netlink, link: u32) -> Result<(), Error> {
    let up = LinkUnspec::new_with_index(link).up().build();
    netlink.handle.link().set(up).execute().await.map_err(failed("start an interface"))
}

fn veth(config: &NetworkConfig, bridge: u32, name: &str, namespace: &OwnedFd) -> LinkMessage {
    let with_mtu = |mtu| if mtu == 0 { 1500 } else { mtu };
    // The kernel refuses to start it before its other end exists; the pod's side does that.
    let peer =
        LinkUnspec::new_with_name(POD_INTERFACE).setns_by_fd(namespace.as_raw_fd()).mtu(with_mtu(config.mtu)).build();
    LinkVeth::new(name, POD_INTERFACE)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .mtu(with_mtu(config.mtu))
        .controller(bridge)
        .up()
        .build()
}

fn configure(namespace: &OwnedFd, addresses: &[PodAddress], egress: Option<u64>) -> Result<(), Error> {
    enter(namespace)?;
    if addresses.iter().any(|address| address.own.is_ipv6()) {
        believe_nobody()?;
    }
    netlink_runtime()?.block_on(async {
        let netlink = Netlink::open()?;
        let handle = &netlink.handle;
        let index = index_of(POD_INTERFACE).map_err(failed("find eth0"))?;
        for link in [LOOPBACK, index] {
            start(&netlink, link).await?;
        }
        netlink.limit(index, egress).await?;
        for PodAddress { own, gateway } in addresses {
            let prefix = if own.is_ipv4() { 32 } else { 128 };
            netlink.address(index, *own, prefix).await.map_err(failed(&format!("give {own} to eth0")))?;
            let near = route(index, (*gateway, prefix), None)?;
            handle.route().add(near).execute().await.map_err(failed("add the route to the gateway"))?;
            let far = route(index, (anywhere(*own), 0), Some(*gateway))?;
            handle.route().add(far).execute().await.map_err(failed("add the default route"))?;
        }
        Ok(())
    })
}

/// Has this network namespace take no word of other pods for where packets go: neither router advertisements, by which one
/// would become the others' router (CVE-2020-10749), nor redirects.
fn believe_nobody() -> Result<(), Error> {
    for interface in ["default", POD_INTERFACE] {
        for setting in ["accept_ra", "accept_redirects"] {
            super::write_setting(&format!("net/ipv6/conf/{interface}/{setting}"), "0")?;
        }
    }
    Ok(())
}

/// A route through an interface; without a gateway to what is on its link.
fn route(index: u32, (to, prefix): (IpAddr, u8), gateway: Option<IpAddr>) -> Result<RouteMessage, Error> {
    let route = RouteMessageBuilder::<IpAddr>::new().output_interface(index);
    let route = route.destination_prefix(to, prefix).map_err(failed("make a route"))?;
    let route = match gateway {
        Some(gateway) => route.gateway(gateway).map_err(failed("make a route"))?,
        None => route.scope(RouteScope::Link),
    };
    Ok(route.build())
}

fn anywhere(family: IpAddr) -> IpAddr {
    if family.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// Removes an interface, if it is there.
pub(super) async fn remove(name: &str) -> Result<(), Error> {
    let Ok(index) = index_of(name) else { return Ok(()) };
    Netlink::open()?.remove(index, name).await
}

/// Removes the bridge, if it is there and was made by [`make_bridge`].
pub(super) async fn remove_bridge(name: &str) -> Result<(), Error> {
    let netlink = Netlink::open()?;
    let Some(link) = netlink.find(name).await else { return Ok(()) };
    let is_ours = |one: &LinkAttribute| matches!(one, LinkAttribute::IfAlias(alias) if alias == host::INTERFACE_ALIAS);
    if link.attributes.iter().any(is_ours) { netlink.remove(link.header.index, name).await } else { Ok(()) }
}

/// The index of an interface in this thread's network namespace.
fn index_of(name: &str) -> std::io::Result<u32> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    Ok(rustix::net::netdevice::name_to_index(socket, name)?)
}
