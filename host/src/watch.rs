//! Hearing that somebody changed what is ours: a table of nftables, an interface. Nothing is asked of the kernel while
//! nothing changes.

use std::io;

use rustix::net::netlink;

use crate::netlink::{Changes, Message, attribute, u32_at};

/// `NFNLGRP_NFTABLES`.
const TABLES: u32 = 1 << (7 - 1);
/// `NFNL_SUBSYS_NFTABLES`, as the upper byte of a message's type.
const SUBSYSTEM: u16 = 10;
/// `NFT_MSG_NEWGEN`: the end of a transaction.
const GENERATION: u16 = SUBSYSTEM << 8 | 15;
/// The attribute with the table's name has this number in every message of nftables that has one.
const TABLE_NAME: u16 = 1;
/// `struct nfgenmsg`.
const NFGENMSG: usize = 4;

/// Hears of changes of one table, in whichever family.
#[derive(Debug)]
pub struct TableWatch {
    changes: Changes,
    table: String,
}

/// What happened to a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Transactions that added, changed or removed something of it. After a change of one's own, that is one of them: what
    /// is more was somebody else.
    pub times: usize,
    /// There was more than the kernel kept for us: nobody knows.
    pub unknown: bool,
}

impl Touched {
    /// Whether more than these transactions have touched it.
    pub fn beyond(self, own: usize) -> bool {
        self.times > own && !self.unknown
    }
}

impl TableWatch {
    /// Listens in this thread's network namespace. Needs an async runtime.
    pub fn new(table: &str) -> io::Result<Self> {
        Ok(Self { changes: Changes::of(Some(netlink::NETFILTER), TABLES)?, table: table.to_owned() })
    }

    /// Waits until there is something for [`Self::read`].
    pub async fn readable(&self) -> io::Result<()> {
        self.changes.readable().await
    }

    /// What happened since the last call.
    pub fn read(&self) -> io::Result<Touched> {
        let mut count = Count { table: self.table.as_bytes(), times: 0, open: false };
        let unknown = self.changes.read(|message| count.see(message.kind, message.body))?;
        // The kernel tells of a transaction as a whole; its end may come a moment later.
        Ok(Touched { times: count.times + usize::from(count.open), unknown })
    }
}

/// Counts transactions that touch a table.
struct Count<'a> {
    table: &'a [u8],
    times: usize,
    /// Whether the transaction that is being read does.
    open: bool,
}

impl Count<'_> {
    fn see(&mut self, kind: u16, body: &[u8]) {
        if kind == GENERATION {
            self.times += usize::from(std::mem::take(&mut self.open));
        } else if kind >> 8 == SUBSYSTEM {
            let name = attribute(body, NFGENMSG, TABLE_NAME).and_then(|name| name.strip_suffix(&[0]));
            self.open |= name == Some(self.table);
        }
    }
}

/// `RTNLGRP_LINK`, and `RTNLGRP_IPV4_IFADDR`, `_ROUTE` and the same of IPv6.
const LINKS: u32 = group(1) | group(5) | group(7) | group(9) | group(11);

/// The bit of a multicast group in an address (netlink(7)).
const fn group(number: u32) -> u32 {
    1 << (number - 1)
}

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const DELETE_ADDRESS: u16 = 21;
const DELETE_ROUTE: u16 = 25;
/// `struct rtmsg`.
const RTMSG: usize = 12;
/// `RTA_OIF`.
const OUTPUT_INTERFACE: u16 = 4;
/// `IFF_UP`.
const UP: u32 = 1;

/// Hears that interfaces go away, are stopped, or lose addresses or routes.
#[derive(Debug)]
pub struct LinkWatch {
    changes: Changes,
}

impl LinkWatch {
    /// Listens in this thread's network namespace. Needs an async runtime.
    pub fn new() -> io::Result<Self> {
        Ok(Self { changes: Changes::of(None, LINKS)? })
    }

    /// Waits until there is something for [`Self::harmed`].
    pub async fn readable(&self) -> io::Result<()> {
        self.changes.readable().await
    }

    /// Whether the interface with this index lost something since the last call, or may have. Routes to the pods of other
    /// nodes are not what an interface has: they come and go with the nodes.
    pub fn harmed(&self, index: u32) -> io::Result<bool> {
        self.any(|message| harms(message.kind, message.body, index) && !is_to_other_node(message))
    }

    /// Whether one of these interfaces lost something since the last call, or may have; routes to other nodes, too.
    pub fn any_harmed(&self, indexes: &[u32]) -> io::Result<bool> {
        self.any(|message| indexes.iter().any(|index| harms(message.kind, message.body, *index)))
    }

    fn any(&self, is_harm: impl Fn(&Message<'_>) -> bool) -> io::Result<bool> {
        let mut harmed = false;
        let lost = self.changes.read(|message| harmed |= is_harm(&message))?;
        Ok(harmed || lost)
    }
}

/// Whether a message is about a route of [`ROUTE_ORIGIN`], which the sixth byte of `struct rtmsg` tells.
fn is_to_other_node(message: &Message<'_>) -> bool {
    message.kind == DELETE_ROUTE && message.body.get(5) == Some(&crate::ROUTE_ORIGIN)
}

fn harms(kind: u16, body: &[u8], index: u32) -> bool {
    let first = body.first().copied();
    match kind {
        // Of the bridge family are messages about its ports.
        DELETE_LINK => first == Some(0) && u32_at(body, 4) == Some(index),
        NEW_LINK => {
            first == Some(0) && u32_at(body, 4) == Some(index) && u32_at(body, 8).is_some_and(|flags| flags & UP == 0)
        }
        DELETE_ADDRESS => u32_at(body, 4) == Some(index),
        DELETE_ROUTE => attribute(body, RTMSG, OUTPUT_INTERFACE).and_then(|value| u32_at(value, 0)) == Some(index),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_are_counted_that_touch_the_table() {
        let named = |name: &str| {
            let length = u8::try_from(name.len() + 5).unwrap();
            let mut body = vec![2, 0, 0, 0, length, 0, 1, 0];
            body.extend(name.bytes());
            body.resize((body.len() + 1).next_multiple_of(4), 0);
            body
        };
        let end = (GENERATION, vec![0, 0, 0, 0, 8, 0, 1, 0, 0, 0, 0, 7]);
        let change = |name: &str| (SUBSYSTEM << 8 | 6, named(name));
        for (messages, times, open) in [
            (vec![change("ours"), change("ours"), end.clone()], 1, false),
            (vec![change("other"), end.clone(), change("oursx"), end.clone()], 0, false),
            (vec![change("ours"), end.clone(), change("other"), change("ours"), end.clone()], 2, false),
            (vec![change("ours"), end.clone(), change("ours")], 1, true),
            (vec![(0x0106, named("ours")), end], 0, false),
        ] {
            let mut count = Count { table: b"ours", times: 0, open: false };
            messages.iter().for_each(|(kind, body)| count.see(*kind, body));
            let expected = if cfg!(target_endian = "little") { (times, open) } else { (count.times, count.open) };
            assert_eq!((count.times, count.open), expected, "{messages:?}");
        }
    }

    #[test]
    fn routes_to_other_nodes_are_told_apart_by_their_origin() {
        let route = |origin: u8| [2, 24, 0, 0, 254, origin, 0, 1, 0, 0, 0, 0];
        let is = |kind, origin| is_to_other_node(&Message { kind, body: &route(origin) });
        assert!(is(DELETE_ROUTE, crate::ROUTE_ORIGIN));
        assert!(!is(DELETE_ROUTE, 4) && !is(DELETE_LINK, crate::ROUTE_ORIGIN));
        assert!(!is_to_other_node(&Message { kind: DELETE_ROUTE, body: &[2] }));
    }

    fn link(family: u8, index: u32, flags: u32) -> Vec<u8> {
        let words = [index, flags, 0].map(u32::to_ne_bytes).concat();
        [&[family, 0, 0, 0][..], &words].concat()
    }

    #[test]
    fn only_what_an_interface_loses_harms_it() {
        let route = |index: u32| [&[2; RTMSG][..], &[8, 0, 4, 0], &index.to_ne_bytes()].concat();
        for (kind, body, expected) in [
            (DELETE_LINK, link(0, 7, UP), true),
            (DELETE_LINK, link(0, 8, UP), false),
            (DELETE_LINK, link(7, 7, UP), false),
            (NEW_LINK, link(0, 7, UP), false),
            (NEW_LINK, link(0, 7, 0), true),
            (DELETE_ADDRESS, vec![2, 32, 0, 0, 7, 0, 0, 0], cfg!(target_endian = "little")),
            (DELETE_ROUTE, route(7), true),
            (DELETE_ROUTE, route(8), false),
            (20, vec![2, 32, 0, 0, 7, 0, 0, 0], false),
            (DELETE_LINK, vec![0], false),
        ] {
            assert_eq!(harms(kind, &body, 7), expected, "{kind} {body:?}");
        }
    }
}
