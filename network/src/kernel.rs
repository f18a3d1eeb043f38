//! Routes, and the tunnel with its neighbours, over netlink.
//!
//! What is ours is told apart by its mark: the number of its origin on a route within the cluster's ranges (as `ip route`
//! shows it, `proto 197`), the alias on an interface.
//!
//! ```text
//! on a link of ours:  10.244.1.0/24 via 192.0.2.2 dev eth0
//! elsewhere:          10.244.1.0/24 via 10.244.1.0 dev coracle0-vxlan onlink
//!                     10.244.1.0 is 0a:58:c6:33:64:02 (neighbour), which is behind 198.51.100.2 (forwarding entry)
//! ```
//! Nothing is learnt and nothing asked: a tunnel only knows what the Nodes say, so there is no multicast.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use futures::TryStreamExt as _;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::{InfoData, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType};
use rtnetlink::{Handle, LinkUnspec, LinkVxlan, RouteMessageBuilder};
use tokio_util::task::AbortOnDropHandle;

use crate::plan::{Peer, Range};
use crate::{Config, Error};

const ORIGIN: RouteProtocol = RouteProtocol::Other(host::ROUTE_ORIGIN);
/// What VXLAN over IPv4 adds to a packet: outer IP 20, UDP 8, VXLAN 8, inner Ethernet 14 (RFC 7348).
const OVERHEAD: u32 = 50;
/// The smallest MTU of IPv4 hosts (RFC 791).
const LEAST_MTU: u32 = 576;

/// How a packet leaves for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The address is on a link of this machine.
    Link(u32),
    /// A router leads there, on this link.
    Router(u32),
    /// It is one of this machine's own.
    Local,
}

/// A route of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) gateway: Ipv4Addr,
    pub(crate) link: u32,
}

/// A conversation with the kernel in this thread's network namespace.
pub(crate) struct Kernel {
    handle: Handle,
    _connection: AbortOnDropHandle<()>,
}

impl Kernel {
    pub(crate) fn open() -> Result<Self, Error> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Open)?;
        Ok(Self { handle, _connection: AbortOnDropHandle::new(tokio::spawn(connection)) })
    }

    /// How a packet leaves for an address; the error is the kernel's word for "not at all".
    pub(crate) async fn way(&self, address: Ipv4Addr) -> Result<Way, rtnetlink::Error> {
        let question = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(address, 32).build();
        let mut answers = std::pin::pin!(self.handle.route().get(question).execute());
        let route = answers.try_next().await?.ok_or(rtnetlink::Error::RequestFailed)?;
        Ok(way_of(&route))
    }

    /// Our routes within the cluster's ranges, with what the kernel says of each.
    pub(crate) async fn routes(&self, config: &Config) -> Result<BTreeMap<Range, (Route, RouteMessage)>, Error> {
        let question = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let all = self.handle.route().get(question).execute();
        let all: Vec<RouteMessage> = all.try_collect().await.map_err(failed("list routes"))?;
        Ok(all.into_iter().filter_map(|route| ours(config, route)).collect())
    }

    /// Adds a route, or changes ours; false where somebody else has one to the same range.
    pub(crate) async fn route(&self, range: Range, route: Route, replace: bool) -> Result<bool, Error> {
        let message = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(range.base, range.bits)
            .gateway(route.gateway)
            .output_interface(route.link)
            .protocol(ORIGIN)
            .onlink()
            .build();
        let add = self.handle.route().add(message);
        match if replace { add.replace() } else { add }.execute().await {
            Err(err) if code(&err) == Some(rustix_errno::EXIST) => Ok(false),
            done => done.map(|()| true).map_err(failed("add a route")),
        }
    }

    pub(crate) async fn remove_route(&self, message: RouteMessage) -> Result<(), Error> {
        match self.handle.route().del(message).execute().await {
            Err(err) if code(&err) == Some(rustix_errno::SRCH) => Ok(()),
            done => done.map_err(failed("remove a route")),
        }
    }

    /// The index of the tunnel's interface, which is made, or made anew where it is another's than `own`'s.
    pub(crate) async fn tunnel(&self, config: &Config, own: &Peer, underlays: &BTreeSet<u32>) -> Result<u32, Error> {
        let mtu = self.mtu(underlays).await?;
        if let Some(link) = self.find(&config.tunnel).await {
            if !is_ours(&link) {
                return Err(Error::Foreign { name: config.tunnel.clone() });
            }
            if is_tunnel(&link, config, own, mtu) {
                return self.address(link.header.index, own).await;
            }
            self.remove_link(&link).await?;
        }
        let link = LinkVxlan::new(&config.tunnel, config.tunnel_id)
            .local(own.address)
            .port(config.tunnel_port)
            .learning(false)
            .address(mac(own.address).to_vec())
            .mtu(mtu)
            .build();
        self.handle.link().add(link).execute().await.map_err(failed("make the tunnel"))?;
        let made = self.find(&config.tunnel).await.ok_or(Error::Missing { name: config.tunnel.clone() })?;
        let index = made.header.index;
        // The alias last but for its start: what has it is complete.
        let up = LinkUnspec::new_with_index(index).alias(host::INTERFACE_ALIAS).up().build();
        self.handle.link().set(up).execute().await.map_err(failed("start the tunnel"))?;
        self.address(index, own).await
    }

    /// The node's own packets leave the tunnel with an address of its range, so that answers come back by it.
    async fn address(&self, index: u32, own: &Peer) -> Result<u32, Error> {
        let add = self.handle.address().add(index, own.range.base.into(), 32).replace();
        add.execute().await.map_err(failed("give the tunnel its address"))?;
        Ok(index)
    }

    /// What fits into the tunnel over all of these links.
    async fn mtu(&self, underlays: &BTreeSet<u32>) -> Result<u32, Error> {
        let mut least = u32::from(u16::MAX);
        for index in underlays {
            let found = self.handle.link().get().match_index(*index).execute().try_next().await;
            let link = found.map_err(failed("look at a link"))?;
            let mtu = link.iter().flat_map(|link| &link.attributes).find_map(|one| match one {
                LinkAttribute::Mtu(mtu) => Some(*mtu),
                _ => None,
            });
            least = least.min(mtu.unwrap_or(1500));
        }
        Ok(least.saturating_sub(OVERHEAD).max(LEAST_MTU))
    }

    /// Has the tunnel know these peers and no others.
    pub(crate) async fn neighbours(&self, index: u32, peers: &[&Peer]) -> Result<(), Error> {
        for peer in peers {
            let mac = mac(peer.address);
            let neighbour = self.handle.neighbours().add(index, peer.range.base.into()).link_layer_address(&mac);
            neighbour.replace().execute().await.map_err(failed("add a neighbour"))?;
            let entry = self.handle.neighbours().add_bridge(index, &mac).destination(peer.address.into());
            let entry = entry.flags(NeighbourFlags::Own).state(NeighbourState::Permanent).replace();
            entry.execute().await.map_err(failed("add a forwarding entry"))?;
        }
        for family in [AddressFamily::Inet, AddressFamily::Bridge] {
            let known = self.handle.neighbours().get().set_address_family(family).execute();
            let known: Vec<NeighbourMessage> = known.try_collect().await.map_err(failed("list neighbours"))?;
            for stale in known.into_iter().filter(|one| one.header.ifindex == index && !is_wanted(one, peers)) {
                match self.handle.neighbours().del(stale).execute().await {
                    Err(err) if code(&err) == Some(rustix_errno::NOENT) => {}
                    done => done.map_err(failed("remove a neighbour"))?,
                }
            }
        }
        Ok(())
    }

    /// Removes the tunnel's interface, if it is there and ours.
    pub(crate) async fn remove_tunnel(&self, config: &Config) -> Result<(), Error> {
        match self.find(&config.tunnel).await {
            Some(link) if is_ours(&link) => self.remove_link(&link).await,
            _ => Ok(()),
        }
    }

    async fn remove_link(&self, link: &LinkMessage) -> Result<(), Error> {
        self.handle.link().del(link.header.index).execute().await.map_err(failed("remove the tunnel"))
    }

    async fn find(&self, name: &str) -> Option<LinkMessage> {
        // The kernel answers "no such device" where there is none.
        self.handle.link().get().match_name(name.to_owned()).execute().try_next().await.ok().flatten()
    }
}

/// Numbers of `errno.h` that are no failure here.
mod rustix_errno {
    pub(super) const NOENT: i32 = 2;
    pub(super) const SRCH: i32 = 3;
    pub(super) const EXIST: i32 = 17;
}

fn failed(verb: &'static str) -> impl FnOnce(rtnetlink::Error) -> Error {
    move |source| Error::Netlink { verb, source }
}

/// The kernel's error number, as in `errno.h`.
fn code(err: &rtnetlink::Error) -> Option<i32> {
    match err {
        rtnetlink::Error::NetlinkError(message) => Some(-message.raw_code()),
        _ => None,
    }
}

/// A tunnel's hardware address, which all nodes know without being told: a locally administered one of the node's address.
pub(crate) fn mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x0a, 0x58, a, b, c, d]
}

fn way_of(route: &RouteMessage) -> Way {
    if route.header.kind != RouteType::Unicast {
        return Way::Local;
    }
    let link = link_of(route).unwrap_or(0);
    let has_router =
        route.attributes.iter().any(|one| matches!(one, RouteAttribute::Gateway(_) | RouteAttribute::Via(_)));
    if has_router { Way::Router(link) } else { Way::Link(link) }
}

fn link_of(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|one| match one {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

fn ours(config: &Config, message: RouteMessage) -> Option<(Range, (Route, RouteMessage))> {
    let address = |wanted: fn(&RouteAttribute) -> Option<&RouteAddress>| {
        message.attributes.iter().find_map(|one| match wanted(one) {
            Some(RouteAddress::Inet(address)) => Some(*address),
            _ => None,
        })
    };
    let base = address(|one| if let RouteAttribute::Destination(found) = one { Some(found) } else { None })?;
    let gateway = address(|one| if let RouteAttribute::Gateway(found) = one { Some(found) } else { None });
    let range = Range { base, bits: message.header.destination_prefix_length };
    let is_within = config.cluster_cidrs.iter().any(|cluster| cluster.contains(IpAddr::V4(base)));
    let route = Route { gateway: gateway.unwrap_or(Ipv4Addr::UNSPECIFIED), link: link_of(&message).unwrap_or(0) };
    (message.header.protocol == ORIGIN && is_within).then_some((range, (route, message)))
}

fn is_ours(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|one| matches!(one, LinkAttribute::IfAlias(alias) if alias == host::INTERFACE_ALIAS))
}

fn is_tunnel(link: &LinkMessage, config: &Config, own: &Peer, mtu: u32) -> bool {
    let has = |wanted: &LinkAttribute| link.attributes.contains(wanted);
    let infos = link.attributes.iter().find_map(|one| match one {
        LinkAttribute::LinkInfo(infos) => infos.iter().find_map(|info| match info {
            LinkInfo::Data(InfoData::Vxlan(data)) => Some(data),
            _ => None,
        }),
        _ => None,
    });
    let says = |wanted: &InfoVxlan| infos.is_some_and(|infos| infos.contains(wanted));
    link.header.flags.contains(LinkFlags::Up)
        && has(&LinkAttribute::Mtu(mtu))
        && has(&LinkAttribute::Address(mac(own.address).to_vec()))
        && says(&InfoVxlan::Id(config.tunnel_id))
        && says(&InfoVxlan::Local(own.address))
        && says(&InfoVxlan::Port(config.tunnel_port))
}

fn is_wanted(known: &NeighbourMessage, peers: &[&Peer]) -> bool {
    // Those of a multicast or broadcast address are the kernel's own.
    if known.header.kind != RouteType::Unspec && known.header.kind != RouteType::Unicast {
        return true;
    }
    let to = known.attributes.iter().find_map(|one| match one {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(*address),
        // In a forwarding entry the family is that of the bridge, and the address mere bytes.
        NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
            <[u8; 4]>::try_from(bytes.as_slice()).ok().map(Ipv4Addr::from)
        }
        _ => None,
    });
    let at = known.attributes.iter().find_map(|one| match one {
        NeighbourAttribute::LinkLayerAddress(address) => Some(address.as_slice()),
        _ => None,
    });
    let is_entry = known.header.family == AddressFamily::Bridge;
    peers.iter().any(|peer| {
        to == Some(if is_entry { peer.address } else { peer.range.base }) && at == Some(&mac(peer.address)[..])
    })
}
