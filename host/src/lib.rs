//! What a process owns of the machine that it runs on: names that two clusters must not both use, nftables tables that
//! come back when somebody removes them, file descriptors, addresses that lead to it, and signs that it lives.
//!
//! Invariant: nothing is changed under a name that this process has not claimed.
#![forbid(unsafe_code)]

mod addresses;
pub mod claim;
pub mod conntrack;
pub mod descriptors;
mod folder;
mod netlink;
pub mod nft;
pub mod presence;
mod watch;

pub use addresses::{is_elsewhere, name, of_default_route, of_default_route_in};
pub use claim::{Claim, ClaimError, Holder, Resource};
pub use folder::FolderLock;
pub use presence::Presence;
pub use watch::{LinkWatch, TableWatch};

/// The origin (`rtm_protocol`, rtnetlink(7)) of routes to the pods of other nodes: a number that `/etc/iproute2/rt_protos`
/// gives to nobody.
pub const ROUTE_ORIGIN: u8 = 197;

/// The alias (`ip link`) of interfaces that Coracle made: others are used where they are named, and never removed.
pub const INTERFACE_ALIAS: &str = "made by coracle";
