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
//! Inside the tunnel of IPv6 a node is called by its link-local address, not by that of its range.
//!
//! Nothing is learnt and nothing asked: a tunnel only knows what the Nodes say, so there is no multicast.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt as _;
use host::nft::Family;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags};
use rtnetlink::packet_route::link::{InfoData, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType};
use rtnetlink::{Handle, LinkUnspec, LinkVxlan, RouteMessageBuilder};
use tokio_util::task::AbortOnDropHandle;

use crate::plan::{Peer, Range, mac};
use crate::{Config, Error};

const ORIGIN: RouteProtocol = RouteProtocol::Other(host::ROUTE_ORIGIN);
/// What VXLAN adds to a packet: outer IP 20, or 40 of IPv6, UDP 8, VXLAN 8, inner Ethernet 14 (RFC 7348).
fn overhead(family: Family) -> u32 {
    if family == Family::V4 { 50 } else { 70 }
}

/// The smallest MTU of hosts (RFC 791, RFC 8200).
fn least_mtu(family: Family) -> u32 {
    if family == Family::V4 { 576 } else { 1280 }
}

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
    pub(crate) gateway: IpAddr,
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
    pub(crate) async fn way(&self, address: IpAddr) -> Result<Way, rtnetlink::Error> {
        let question = to(address, width(address)).build();
        let mut answers = std::pin::pin!(self.handle.route().get(question).execute());
        let route = answers.try_next().await?.ok_or(rtnetlink::Error::RequestFailed)?;
        Ok(way_of(&route))
    }

    /// Our routes of a family within the cluster's ranges, with what the kernel says of each.
    pub(crate) async fn routes(
        &self,
        config: &Config,
        family: Family,
    ) -> Result<BTreeMap<Range, (Route, RouteMessage)>, Error> {
        let question = match family {
            Family::V4 => RouteMessageBuilder::<Ipv4Addr>::new().build(),
            Family::V6 => RouteMessageBuilder::<Ipv6Addr>::new().build(),
        };
        let all = self.handle.route().get(question).execute();
        let all: Vec<RouteMessage> = all.try_collect().await.map_err(failed("list routes"))?;
        Ok(all.into_iter().filter_map(|route| ours(config, route)).collect())
    }

    /// Adds a route, or changes ours; false where somebody else has one to the same range.
    pub(crate) async fn route(&self, range: Range, route: Route, replace: bool) -> Result<bool, Error> {
        let message = to(range.base, range.bits).output_interface(route.link).protocol(ORIGIN).onlink();
        let message = message.gateway(route.gateway).expect("a gateway is of its range's family").build();
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
        let family = own.family();
        let (name, mtu) = (config.tunnel(family), self.mtu(family, underlays).await?);
        if let Some(link) = self.find(&name).await {
            if !is_ours(&link) {
                return Err(Error::Foreign { name });
            }
            if is_tunnel(&link, config, own, mtu) {
                return self.address(link.header.index, own).await;
            }
            self.remove_link(&link).await?;
        }
        let link = LinkVxlan::new(&name, config.tunnel_id).port(config.tunnel_port).learning(false);
        let link = match own.address {
            IpAddr::V4(address) => link.local(address),
            IpAddr::V6(address) => link.local6(address),
        };
        let link = link.address(mac(own.address).to_vec()).mtu(mtu).build();
        self.handle.link().add(link).execute().await.map_err(failed("make the tunnel"))?;
        let made = self.find(&name).await.ok_or(Error::Missing { name })?;
        let index = made.header.index;
        // The alias last but for its start: what has it is complete.
        let up = LinkUnspec::new_with_index(index).alias(host::INTERFACE_ALIAS).up().build();
        self.handle.link().set(up).execute().await.map_err(failed("start the tunnel"))?;
        self.address(index, own).await
    }

    /// The node's own packets leave the tunnel with an address of its range, so that answers come back by it.
    async fn address(&self, index: u32, own: &Peer) -> Result<u32, Error> {
        let base = own.range.base;
        let mut add = self.handle.address().add(index, base, width(base)).replace();
        if base.is_ipv6() {
            // Nobody else can have it, and nobody could answer.
            add.message_mut().header.flags |= AddressHeaderFlags::Nodad;
            add.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        add.execute().await.map_err(failed("give the tunnel its address"))?;
        Ok(index)
    }

    /// What fits into the tunnel over all of these links.
    async fn mtu(&self, family: Family, underlays: &BTreeSet<u32>) -> Result<u32, Error> {
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
        Ok(least.saturating_sub(overhead(family)).max(least_mtu(family)))
    }

    /// Has the tunnel know these peers and no others.
    pub(crate) async fn neighbours(&self, index: u32, peers: &[&Peer]) -> Result<(), Error> {
        for peer in peers {
            let mac = mac(peer.address);
            let neighbour = self.handle.neighbours().add(index, peer.in_tunnel()).link_layer_address(&mac);
            neighbour.replace().execute().await.map_err(failed("add a neighbour"))?;
            let entry = self.handle.neighbours().add_bridge(index, &mac).destination(peer.address);
            let entry = entry.flags(NeighbourFlags::Own).state(NeighbourState::Permanent).replace();
            entry.execute().await.map_err(failed("add a forwarding entry"))?;
        }
        let family = match peers.first().map(|peer| peer.family()) {
            Some(Family::V6) => AddressFamily::Inet6,
            _ => AddressFamily::Inet,
        };
        for family in [family, AddressFamily::Bridge] {
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
    pub(crate) async fn remove_tunnel(&self, name: &str) -> Result<(), Error> {
        match self.find(name).await {
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

/// The beginning of a route.
fn to(base: IpAddr, bits: u8) -> RouteMessageBuilder<IpAddr> {
    let route = RouteMessageBuilder::<IpAddr>::new().destination_prefix(base, bits);
    route.expect("a prefix is no longer than its address")
}

/// The bits of an address.
fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
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
            Some(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
            Some(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
            _ => None,
        })
    };
    let base = address(|one| if let RouteAttribute::Destination(found) = one { Some(found) } else { None })?;
    let gateway = address(|one| if let RouteAttribute::Gateway(found) = one { Some(found) } else { None });
    let range = Range { base, bits: message.header.destination_prefix_length };
    let is_within = config.cluster_cidrs.iter().any(|cluster| cluster.contains(base));
    let route =
        Route { gateway: gateway.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), link: link_of(&message).unwrap_or(0) };
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
        && says(&match own.address {
            IpAddr::V4(address) => InfoVxlan::Local(address),
            IpAddr::V6(address) => InfoVxlan::Local6(address),
        })
        && says(&InfoVxlan::Port(config.tunnel_port))
}

fn is_wanted(known: &NeighbourMessage, peers: &[&Peer]) -> bool {
    // Those of a multicast or broadcast address are the kernel's own.
    if known.header.kind != RouteType::Unspec && known.header.kind != RouteType::Unicast {
        return true;
    }
    let to = known.attributes.iter().find_map(|one| match one {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        // In a forwarding entry the family is that of the bridge, and the address mere bytes.
        NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => address_of(bytes),
        _ => None,
    });
    let at = known.attributes.iter().find_map(|one| match one {
        NeighbourAttribute::LinkLayerAddress(address) => Some(address.as_slice()),
        _ => None,
    });
    let is_entry = known.header.family == AddressFamily::Bridge;
    peers.iter().any(|peer| {
        to == Some(if is_entry { peer.address } else { peer.in_tunnel() }) && at == Some(&mac(peer.address)[..])
    })
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    v4.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}
