//! The link of a node on this machine: a veth pair, one end on the bridge of nodes, the other in the node's namespace.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::Context as _;
use futures::TryStreamExt as _;
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::packet_route::route::{RouteMessage, RouteScope};
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};
use runtime::namespace::NetworkNamespace;
use tokio_util::task::AbortOnDropHandle;

use crate::link::give_address;

/// The interface, as the node sees it.
const INSIDE: &str = "eth0";
/// Interface 1 of every network namespace.
const LOOPBACK: u32 = 1;

struct Netlink {
    handle: Handle,
    _connection: AbortOnDropHandle<()>,
}

impl Netlink {
    fn open() -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        Ok(Self { handle, _connection: AbortOnDropHandle::new(tokio::spawn(connection)) })
    }

    async fn index(&self, name: &str) -> Option<u32> {
        let found = self.handle.link().get().match_name(name.to_owned()).execute().try_next().await;
        // The kernel answers "no such device" where there is none.
        found.ok().flatten().map(|link| link.header.index)
    }
}

/// Makes the pair, with one end on the bridge, and has the machine find the node's address there. What an earlier run left
/// under the name goes first.
pub(super) async fn connect(
    bridge: &str,
    name: &str,
    addresses: &[IpAddr],
    namespace: &NetworkNamespace,
) -> anyhow::Result<()> {
    let netlink = Netlink::open().context("open netlink")?;
    let handle = &netlink.handle;
    if let Some(old) = netlink.index(name).await {
        handle.link().del(old).execute().await.with_context(|| format!("remove interface {name}"))?;
    }
    let on = netlink.index(bridge).await.with_context(|| format!("there is no interface {bridge}"))?;
    let peer = LinkUnspec::new_with_name(INSIDE).setns_by_fd(namespace.as_fd().as_raw_fd()).build();
    let pair =
        LinkVeth::new(name, INSIDE).set_info_data(InfoData::Veth(InfoVeth::Peer(peer))).controller(on).up().build();
    handle.link().add(pair).execute().await.with_context(|| format!("make interface {name}"))?;
    for address in addresses {
        let length = if address.is_ipv4() { 32 } else { 128 };
        let route = route(on, (*address, length), None)?;
        handle.route().add(route).replace().execute().await.with_context(|| format!("route to {address}"))?;
    }
    Ok(())
}

/// Removes the pair, which may have gone with the namespace. The route goes with the bridge.
pub(super) async fn disconnect(name: &str) -> anyhow::Result<()> {
    let netlink = Netlink::open().context("open netlink")?;
    if let Some(index) = netlink.index(name).await {
        let removed = netlink.handle.link().del(index).execute().await;
        if netlink.index(name).await.is_some() {
            removed.with_context(|| format!("remove interface {name}"))?;
        }
    }
    Ok(())
}

/// A route through a link; without a gateway to what is on it.
fn route(link: u32, (to, length): (IpAddr, u8), gateway: Option<IpAddr>) -> io::Result<RouteMessage> {
    let route = RouteMessageBuilder::<IpAddr>::new().output_interface(link);
    let route = route.destination_prefix(to, length).map_err(io::Error::other)?;
    let route = match gateway {
        Some(gateway) => route.gateway(gateway).map_err(io::Error::other)?,
        None => route.scope(RouteScope::Link),
    };
    Ok(route.build())
}

/// An address with the length of its prefix, and the router of its family.
pub(super) type Way = (IpAddr, u8, IpAddr);

/// Gives the node's end its addresses and a way out in each family. Blocks for a moment.
pub(super) fn configure(namespace: &NetworkNamespace, ways: &[Way]) -> io::Result<()> {
    namespace.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(async {
            let netlink = Netlink::open()?;
            let handle = &netlink.handle;
            let index = netlink.index(INSIDE).await.ok_or_else(|| io::Error::other("there is no eth0"))?;
            for link in [LOOPBACK, index] {
                let up = LinkUnspec::new_with_index(link).up().build();
                handle.link().set(up).execute().await.map_err(io::Error::other)?;
            }
            for (address, bits, router) in ways {
                give_address(handle, index, *address, *bits).await.map_err(io::Error::other)?;
                let anywhere: IpAddr =
                    if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
                let out = route(index, (anywhere, 0), Some(*router))?;
                handle.route().add(out).execute().await.map_err(io::Error::other)?;
            }
            Ok(())
        })
    })
}
