//! Which pod has which address of the node's subnet (upstream: host-local of the CNI plugins).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, disk};

/// Host numbers that are given out of an IPv6 network: no node has more pods, and a search through them stays short.
const V6_HOSTS: u32 = 1 << 16;

/// A network of pods, `10.244.1.0/24` or `fd00:10:244:1::/64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subnet {
    network: IpAddr,
    prefix: u8,
}

impl FromStr for Subnet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |reason: &str| Error::Invalid { field: "podCIDR", reason: format!("{text:?} {reason}") };
        let (network, prefix) = text.split_once('/').ok_or_else(|| invalid("has no prefix length"))?;
        let network: IpAddr = network.parse().map_err(|_| invalid("is not a network"))?;
        let prefix: u8 = prefix.parse().map_err(|_| invalid("has no prefix length"))?;
        let network = match network {
            IpAddr::V4(network) if (8..=29).contains(&prefix) => {
                Ipv4Addr::from_bits(network.to_bits() & (u32::MAX << (32 - prefix))).into()
            }
            IpAddr::V6(network) if (16..=124).contains(&prefix) => {
                Ipv6Addr::from_bits(network.to_bits() & (u128::MAX << (128 - prefix))).into()
            }
            IpAddr::V4(_) => return Err(invalid("must have a prefix length from 8 to 29")),
            IpAddr::V6(_) => return Err(invalid("must have a prefix length from 16 to 124")),
        };
        Ok(Self { network, prefix })
    }
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl Subnet {
    /// The bridge's address: the first.
    pub(crate) fn gateway(self) -> IpAddr {
        self.host(1)
    }

    pub(crate) fn prefix(self) -> u8 {
        self.prefix
    }

    pub(crate) fn is_ipv4(self) -> bool {
        self.network.is_ipv4()
    }

    fn host(self, number: u32) -> IpAddr {
        match self.network {
            IpAddr::V4(network) => Ipv4Addr::from_bits(network.to_bits() + number).into(),
            IpAddr::V6(network) => Ipv6Addr::from_bits(network.to_bits() + u128::from(number)).into(),
        }
    }

    /// Host numbers that pods may have: neither network, gateway nor broadcast.
    fn hosts(self) -> std::ops::Range<u32> {
        match self.network {
            IpAddr::V4(_) => 2..(1 << (32 - self.prefix)) - 1,
            IpAddr::V6(_) => 2..1_u32.checked_shl(u32::from(128 - self.prefix)).unwrap_or(V6_HOSTS).min(V6_HOSTS),
        }
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Saved {
    subnet: Option<Subnet>,
    leases: BTreeMap<String, IpAddr>,
    /// Host number given out last; a new pod gets a later one, so that an address rests before it is used again.
    last: u32,
}

/// Addresses of one family, on disk.
pub(super) struct Leases {
    path: PathBuf,
    saved: Saved,
}

impl Leases {
    pub(super) fn open(path: PathBuf) -> Result<Self, Error> {
        let saved = disk::read_json(&path)?.unwrap_or_default();
        Ok(Self { path, saved })
    }

    pub(super) fn subnet(&self) -> Option<Subnet> {
        self.saved.subnet
    }

    /// Moves to another subnet, or none.
    pub(super) fn set_subnet(&mut self, subnet: Option<Subnet>) -> Result<(), Error> {
        if self.saved.subnet == subnet {
            return Ok(());
        }
        if !self.saved.leases.is_empty() {
            let (pods, to) = (self.saved.leases.len(), subnet.map_or("none".to_owned(), |subnet| subnet.to_string()));
            return Err(Error::Network { reason: format!("cannot move to podCIDR {to}: {pods} pods have addresses") });
        }
        self.saved = Saved { subnet, ..Saved::default() };
        self.save()
    }

    /// The sandboxes that have addresses.
    pub(super) fn owners(&self) -> Vec<String> {
        self.saved.leases.keys().cloned().collect()
    }

    pub(super) fn take(&mut self, owner: &str) -> Result<IpAddr, Error> {
        if let Some(known) = self.saved.leases.get(owner) {
            return Ok(*known);
        }
        let Some(subnet) = self.saved.subnet else {
            return Err(Error::Network { reason: "the node has no pod CIDR yet".to_owned() });
        };
        let hosts = subnet.hosts();
        let later = hosts.clone().filter(|number| *number > self.saved.last);
        let is_free = |number: &u32| !self.saved.leases.values().any(|taken| *taken == subnet.host(*number));
        let number = later.chain(hosts).find(is_free);
        let number = number.ok_or_else(|| Error::Network { reason: format!("no address is free in {subnet}") })?;
        self.saved.last = number;
        self.saved.leases.insert(owner.to_owned(), subnet.host(number));
        self.save()?;
        Ok(subnet.host(number))
    }

    pub(super) fn give_back(&mut self, owner: &str) -> Result<(), Error> {
        match self.saved.leases.remove(owner) {
            Some(_) => self.save(),
            None => Ok(()),
        }
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) -> Result<(), Error> {
        self.saved.leases.retain(|owner, _| keep(owner));
        self.save()
    }

    fn save(&self) -> Result<(), Error> {
        disk::write_json(&self.path, &self.saved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leases(directory: &tempfile::TempDir) -> Leases {
        Leases::open(directory.path().join("leases.json")).unwrap()
    }

    #[test]
    fn every_host_address_is_given_out_once_and_then_none() {
        let directory = tempfile::tempdir().unwrap();
        let mut leases = leases(&directory);
        leases.set_subnet(Some("10.1.2.0/29".parse().unwrap())).unwrap();
        let given: Vec<String> = (0..5).map(|pod| leases.take(&pod.to_string()).unwrap().to_string()).collect();
        assert_eq!(given, ["10.1.2.2", "10.1.2.3", "10.1.2.4", "10.1.2.5", "10.1.2.6"]);
        assert!(leases.take("one more").unwrap_err().to_string().contains("no address is free in 10.1.2.0/29"));
    }

    #[test]
    fn addresses_survive_a_restart_and_rest_before_they_are_used_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut first = leases(&directory);
        first.set_subnet(Some("10.1.2.0/24".parse().unwrap())).unwrap();
        let address = first.take("a").unwrap();
        let mut second = leases(&directory);
        assert_eq!(second.take("a").unwrap(), address);
        second.give_back("a").unwrap();
        assert_ne!(second.take("b").unwrap(), address);
    }

    #[test]
    fn an_ipv6_network_gives_out_its_first_addresses() {
        let directory = tempfile::tempdir().unwrap();
        let mut leases = leases(&directory);
        for (subnet, gateway) in [("fd00:1::7/64", "fd00:1::1"), ("fd00:1::10/124", "fd00:1::11")] {
            let subnet: Subnet = subnet.parse().unwrap();
            assert_eq!(subnet.gateway().to_string(), gateway);
            leases.set_subnet(Some(subnet)).unwrap();
            assert_eq!(leases.take("a").unwrap().to_string(), subnet.host(2).to_string());
            assert!(leases.set_subnet(None).unwrap_err().to_string().contains("1 pods have addresses"));
            leases.give_back("a").unwrap();
        }
        assert_eq!("fd00::/120".parse::<Subnet>().unwrap().hosts(), 2..256);
        assert_eq!("fd00::/96".parse::<Subnet>().unwrap().hosts(), 2..V6_HOSTS);
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0.0", "10.0.0.0/31", "fd00::/8", "fd00::/128", "10.0.0/24"] {
            assert!(text.parse::<Subnet>().is_err(), "{text}");
        }
    }
}
