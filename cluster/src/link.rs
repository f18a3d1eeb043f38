//! The node's own address: an interface of its own, so that pods reach the API server and DNS while nothing listens beyond
//! this machine.
//!
//! Its routes to the Services' range and to load balancers give this machine's own connections to them a way out of the
//! socket layer; the proxy's rules then send them where they belong.

use std::net::IpAddr;
use std::time::Duration;

use futures::TryStreamExt as _;
use host::LinkWatch;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, RouteMessageBuilder, new_connection};
use tokio_util::sync::CancellationToken;

/// What somebody removed is made again so much later, and no more often.
const PAUSE: Duration = Duration::from_millis(500);

/// Why the interface cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("open netlink")]
    Open(#[source] std::io::Error),
    #[error("{verb} interface {name} (needs root)")]
    Netlink {
        verb: &'static str,
        name: String,
        #[source]
        source: rtnetlink::Error,
    },
    #[error("interface {name} did not appear")]
    Missing { name: String },
    #[error("hear of changes of interfaces")]
    Watch(#[source] std::io::Error),
}

/// Gives an interface an address. One of IPv6 is good at once: nobody else on the link can have it.
pub(crate) async fn give_address(
    handle: &Handle,
    index: u32,
    address: IpAddr,
    length: u8,
) -> Result<(), rtnetlink::Error> {
    let mut add = handle.address().add(index, address, length).replace();
    if address.is_ipv6() {
        add.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        add.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    add.execute().await
}

/// The interface: a bridge without ports, which every kernel that can run pods has.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// At most 15 characters.
    pub name: String,
    /// One of each family, with the length of the prefix of what is on the link.
    pub addresses: Vec<(IpAddr, u8)>,
    /// The Services' range, and those of load balancers.
    pub routes: Vec<(IpAddr, u8)>,
}

impl Link {
    /// Makes the interface; one that is there already is brought to what it should be. True when it was not there.
    pub(crate) async fn ensure(&self) -> Result<bool, LinkError> {
        let (connection, handle, _) = new_connection().map_err(LinkError::Open)?;
        let driver = tokio::spawn(connection);
        let result = self.ensure_with(&handle).await;
        driver.abort();
        result.map(|(made, _)| made)
    }

    /// Makes again what somebody takes away of it, until shutdown.
    pub(crate) async fn keep(&self, shutdown: CancellationToken) -> Result<(), LinkError> {
        let watch = LinkWatch::new().map_err(LinkError::Watch)?;
        let mut index = None;
        loop {
            let harmed = watch.harmed(index.unwrap_or(0)).map_err(LinkError::Watch)?;
            if harmed || index.is_none() {
                if index.is_some() {
                    tracing::warn!(
                        interface = self.name,
                        "the node's address was changed from outside: it is made again"
                    );
                }
                index = self.restore().await;
                // What that changed itself is no news.
                watch.harmed(index.unwrap_or(0)).map_err(LinkError::Watch)?;
            }
            let changed = async {
                if index.is_some() {
                    watch.readable().await?;
                }
                tokio::time::sleep(PAUSE).await;
                Ok(())
            };
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                heard = changed => heard.map_err(LinkError::Watch)?,
            }
        }
    }

    /// The index of the interface as it should be; `None` when it cannot be made now.
    async fn restore(&self) -> Option<u32> {
        let (connection, handle, _) = new_connection().ok()?;
        let driver = tokio::spawn(connection);
        let result = self.ensure_with(&handle).await;
        driver.abort();
        match result {
            Ok((_, index)) => Some(index),
            Err(err) => {
                tracing::warn!(error = &err as &dyn std::error::Error, "the node's address could not be made again");
                None
            }
        }
    }

    /// Removes the interface with its address and route, if it is there and was made by [`Self::ensure`].
    pub(crate) async fn remove(&self) -> Result<(), LinkError> {
        let (connection, handle, _) = new_connection().map_err(LinkError::Open)?;
        let driver = tokio::spawn(connection);
        let is_ours =
            |one: &LinkAttribute| matches!(one, LinkAttribute::IfAlias(name) if name == host::INTERFACE_ALIAS);
        let result = match self.find(&handle).await {
            Some(link) if link.attributes.iter().any(is_ours) => {
                handle.link().del(link.header.index).execute().await.map_err(|source| self.failed("remove", source))
            }
            _ => Ok(()),
        };
        driver.abort();
        result
    }

    async fn ensure_with(&self, handle: &Handle) -> Result<(bool, u32), LinkError> {
        let made = self.find(handle).await.is_none();
        if made {
            let link = LinkBridge::new(&self.name).up().build();
            handle.link().add(link).execute().await.map_err(|source| self.failed("add", source))?;
        }
        let link = self.find(handle).await.ok_or_else(|| LinkError::Missing { name: self.name.clone() })?;
        let index = link.header.index;
        if made {
            let named = LinkUnspec::new_with_index(index).alias(host::INTERFACE_ALIAS).build();
            handle.link().set(named).execute().await.map_err(|source| self.failed("name", source))?;
        }
        if !link.header.flags.contains(LinkFlags::Up) {
            let up = LinkUnspec::new_with_index(index).up().build();
            handle.link().set(up).execute().await.map_err(|source| self.failed("start", source))?;
        }
        for (address, length) in &self.addresses {
            let given = give_address(handle, index, *address, *length).await;
            given.map_err(|source| self.failed("address", source))?;
        }
        for (range, length) in &self.routes {
            self.route(handle, index, (*range, *length)).await?;
        }
        Ok((made, index))
    }

    async fn route(&self, handle: &Handle, index: u32, (range, length): (IpAddr, u8)) -> Result<(), LinkError> {
        let own = self.addresses.iter().find_map(|(address, _)| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        });
        let route = match (range, own) {
            (IpAddr::V4(range), Some(own)) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
                .destination_prefix(range, length)
                .pref_source(own)
                .output_interface(index)
                .build(),
            (IpAddr::V6(range), _) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
                .destination_prefix(range, length)
                .output_interface(index)
                .build(),
            (IpAddr::V4(range), _) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
                .destination_prefix(range, length)
                .output_interface(index)
                .build(),
        };
        let routed = handle.route().add(route).replace().execute().await;
        routed.map_err(|source| self.failed("route through", source))
    }

    async fn find(&self, handle: &Handle) -> Option<LinkMessage> {
        // The kernel answers "no such device" where there is none.
        handle.link().get().match_name(self.name.clone()).execute().try_next().await.ok().flatten()
    }

    fn failed(&self, verb: &'static str, source: rtnetlink::Error) -> LinkError {
        LinkError::Netlink { verb, name: self.name.clone(), source }
    }
}
