//! Addresses and ports for a cluster that is told none: the first that are free, from a place on that its name decides, so
//! that it is the same one wherever nothing stands in the way.

use std::net::{IpAddr, Ipv4Addr};

use crate::routes::{Range, overlap};

/// How many clusters can be told none.
const PLACES: u8 = 48;
/// Ports that are looked at.
const PORTS: u16 = 500;

/// The networks of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Networks {
    /// Which of the places that there are.
    pub(super) place: u8,
    pub(super) node: IpAddr,
    pub(super) pods: Range,
    pub(super) services: Range,
}

impl Networks {
    fn at(place: u8) -> Self {
        let range = |first: u8| (IpAddr::from(Ipv4Addr::new(10, first + place, 0, 0)), 16);
        let node = Ipv4Addr::new(10, 245, place + 1, 1).into();
        Self { place, node, pods: range(100), services: range(100 + PLACES) }
    }

    /// The node's has room for others on its link.
    fn ranges(&self) -> [Range; 3] {
        [(self.node, 24), self.pods, self.services]
    }
}

/// Networks that have nothing in common with `taken`, looked for from a place on; `None` when there are none.
pub(super) fn networks(start: u8, taken: &[Range]) -> Option<Networks> {
    let is_free =
        |networks: &Networks| networks.ranges().iter().all(|range| !taken.iter().any(|other| overlap(*range, *other)));
    (0..PLACES).map(|step| Networks::at((start % PLACES + step) % PLACES)).find(is_free)
}

/// A port after `base` that is free, looked for from a place on.
pub(super) fn port(base: u16, start: u8, is_free: impl Fn(u16) -> bool) -> Option<u16> {
    (0..PORTS).map(|step| base + 1 + (u16::from(start) + step) % PORTS).find(|port| is_free(*port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::tests::range;

    #[test]
    fn no_two_places_and_not_the_default_cluster_have_an_address_in_common() {
        let mut taken: Vec<Range> = ["10.244.0.0/16", "10.245.0.0/24", "10.96.0.0/16"].map(range).to_vec();
        for _ in 0..PLACES {
            taken.extend(networks(7, &taken).expect("there is room").ranges());
        }
        assert_eq!(networks(7, &taken), None, "and then there is none");
    }

    #[test]
    fn the_choice_is_the_same_until_something_stands_in_the_way() {
        let first = networks(200, &[]).unwrap();
        assert_eq!(networks(200, &[]).unwrap(), first);
        let next = networks(200, &[range("10.108.3.0/24")]).unwrap();
        assert_eq!((first.pods, next.pods), (range("10.108.0.0/16"), range("10.109.0.0/16")));
        assert_eq!(networks(0, &[range("10.0.0.0/8")]), None);
    }

    #[test]
    fn ports_that_are_taken_are_passed_over() {
        assert_eq!(port(6443, 0, |_| true), Some(6444));
        assert_eq!(port(6443, 255, |port| port != 6699), Some(6700));
        assert_eq!(port(6443, 9, |_| false), None);
    }
}
