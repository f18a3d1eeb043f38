//! The links on which this node is, as the kernel has them.

use std::net::IpAddr;

use facts::cidr::Cidr;
use futures::TryStreamExt as _;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::{Handle, RouteMessageBuilder};
use tokio_util::task::AbortOnDropHandle;

use crate::Error;
use crate::frames::Mac;

/// A link that carries an address of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) mac: Mac,
    /// The subnets that are on it.
    pub(crate) subnets: Vec<Cidr>,
}

/// All of them, and the addresses that are somebody's: this machine's own, and routers'.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Links {
    pub(crate) links: Vec<Link>,
    pub(crate) taken: Vec<IpAddr>,
}

impl Links {
    /// Asks the kernel of this thread's network namespace.
    pub(crate) async fn read(node_ips: &[IpAddr]) -> Result<Self, Error> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Open)?;
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let addresses: Vec<AddressMessage> =
            handle.address().get().execute().try_collect().await.map_err(Error::Netlink)?;
        let links: Vec<LinkMessage> = handle.link().get().execute().try_collect().await.map_err(Error::Netlink)?;
        let own: Vec<(u32, IpAddr, u8)> = addresses.iter().filter_map(address).collect();
        let here = |index: u32| own.iter().any(|(at, address, _)| *at == index && node_ips.contains(address));
        let links = links.iter().filter(|link| here(link.header.index)).filter_map(|link| {
            let subnets = own.iter().filter(|(at, ..)| *at == link.header.index);
            let subnets = subnets.map(|(_, address, bits)| Cidr::new(*address, *bits)).collect();
            Some(Link { index: link.header.index, mac: mac(link)?, subnets })
        });
        let links = links.collect();
        let mut taken = routers(&handle).await?;
        taken.extend(own.iter().map(|(_, address, _)| *address));
        Ok(Self { links, taken })
    }

    /// The link on which an address would be, unless it is somebody's already. A subnet's own and broadcast address are nobody's.
    pub(crate) fn of(&self, address: IpAddr) -> Option<&Link> {
        let is_there = |link: &&Link| link.subnets.iter().any(|subnet| subnet.size() > 2 && subnet.offers(address));
        self.links.iter().find(is_there).filter(|_| !self.taken.contains(&address))
    }
}

fn address(message: &AddressMessage) -> Option<(u32, IpAddr, u8)> {
    let of = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
    // At the end of a tunnel the address is the other side's.
    let local = of(|one| if let AddressAttribute::Local(address) = one { Some(*address) } else { None });
    let address =
        local.or_else(|| of(|one| if let AddressAttribute::Address(found) = one { Some(*found) } else { None }));
    Some((message.header.index, address?, message.header.prefix_len))
}

fn mac(link: &LinkMessage) -> Option<Mac> {
    link.attributes.iter().find_map(|one| match one {
        LinkAttribute::Address(bytes) => bytes.as_slice().try_into().ok(),
        _ => None,
    })
}

/// Whoever routes for this machine.
async fn routers(handle: &Handle) -> Result<Vec<IpAddr>, Error> {
    let mut routers = Vec::new();
    for question in [
        RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
        RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
    ] {
        let routes: Vec<RouteMessage> =
            handle.route().get(question).execute().try_collect().await.map_err(Error::Netlink)?;
        routers.extend(routes.iter().flat_map(|route| &route.attributes).filter_map(|one| match one {
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
            RouteAttribute::Gateway(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
            _ => None,
        }));
    }
    Ok(routers)
}
