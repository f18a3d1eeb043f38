//! The node's own address: an interface of its own, so that pods reach the API server and DNS while nothing listens beyond
//! this machine.
//!
//! Its route to the Services' range gives this machine's own connections to a ClusterIP a way out of the socket layer;
//! the proxy's rules then send them where they belong.

use std::net::IpAddr;

use futures::TryStreamExt as _;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::{Handle, LinkBridge, RouteMessageBuilder, new_connection};

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
}

/// The interface: a bridge without ports, which every kernel that can run pods has.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// At most 15 characters.
    pub name: String,
    pub address: IpAddr,
    /// The Services' range.
    pub services: (IpAddr, u8),
}

impl Link {
    /// Makes the interface; one that is there already is brought to what it should be.
    pub(crate) async fn ensure(&self) -> Result<(), LinkError> {
        let (connection, handle, _) = new_connection().map_err(LinkError::Open)?;
        let driver = tokio::spawn(connection);
        let result = self.ensure_with(&handle).await;
        driver.abort();
        result
    }

    /// Removes the interface with its address and route; one that is not there is fine.
    pub(crate) async fn remove(&self) -> Result<(), LinkError> {
        let (connection, handle, _) = new_connection().map_err(LinkError::Open)?;
        let driver = tokio::spawn(connection);
        let result = match self.find(&handle).await {
            Some(link) => {
                handle.link().del(link.header.index).execute().await.map_err(|source| self.failed("remove", source))
            }
            None => Ok(()),
        };
        driver.abort();
        result
    }

    async fn ensure_with(&self, handle: &Handle) -> Result<(), LinkError> {
        if self.find(handle).await.is_none() {
            let link = LinkBridge::new(&self.name).up().build();
            handle.link().add(link).execute().await.map_err(|source| self.failed("add", source))?;
        }
        let link = self.find(handle).await.ok_or_else(|| LinkError::Missing { name: self.name.clone() })?;
        let index = link.header.index;
        let length = if self.address.is_ipv4() { 32 } else { 128 };
        let address = handle.address().add(index, self.address, length).replace().execute().await;
        address.map_err(|source| self.failed("address", source))?;
        let (range, length) = self.services;
        let route = match (range, self.address) {
            (IpAddr::V4(range), IpAddr::V4(own)) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
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
        handle.route().add(route).replace().execute().await.map_err(|source| self.failed("route through", source))
    }

    async fn find(&self, handle: &Handle) -> Option<LinkMessage> {
        // The kernel answers "no such device" where there is none.
        handle.link().get().match_name(self.name.clone()).execute().try_next().await.ok().flatten()
    }

    fn failed(&self, verb: &'static str, source: rtnetlink::Error) -> LinkError {
        LinkError::Netlink { verb, name: self.name.clone(), source }
    }
}
