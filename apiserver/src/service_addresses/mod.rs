//! Cluster IPs and node ports of Services (upstream: `registry/core/service/{ipallocator,portallocator}`).
//!
//! What is taken is written in the store, one key a value (`IPAddress` objects, and keys below
//! `/registry/ranges/servicenodeports/`), by a write that needs the key to be absent. So several servers never hand out
//! the same value, and a restart forgets nothing; what a crash leaves behind is collected at the next start.

mod families;
mod ranges;
mod repair;
mod service;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use api::catalog::Catalog;
use api::status::Qualified;
use api::strategy::{User, WriteContext};
use api::{ApiError, Object, Resource};
use facts::cidr::Cidr;
use jiff::Timestamp;
use rand::RngExt as _;
use serde_json::json;
use store::{Expected, Store};

use crate::stamps::timestamp;
use crate::watch_cache::{ResourceCache, WatchCache, freshen, stored_bytes};

pub use repair::Leftovers;

/// What holds an address.
const IP_ADDRESS: Qualified<'static> = Qualified { group: "networking.k8s.io", resource: "IPAddress" };
const PORT_PREFIX: &str = "/registry/ranges/servicenodeports/";
/// Random picks before the range is searched in order.
const RANDOM_PICKS: usize = 32;

/// Hands out cluster IPs and node ports.
pub struct Allocator {
    /// What was configured: these families there are, the primary one first.
    ranges: Vec<Cidr>,
    ports: RangeInclusive<u16>,
    store: Arc<dyn Store>,
    cache: Arc<WatchCache>,
    services: Option<Arc<Resource>>,
    /// The objects that hold addresses; `None` if they are not served.
    addresses: Option<Arc<Resource>>,
    /// The objects that say where addresses are taken from; `None` if they are not served.
    cidrs: Option<Arc<Resource>>,
}

/// One thing that a Service holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Held {
    Address(IpAddr),
    Port(u16),
}

/// What a write has taken, and what the old object no longer needs.
#[must_use]
#[derive(Debug, Default)]
pub struct Reservation {
    taken: Vec<Held>,
    given_up: Vec<Held>,
}

impl Reservation {
    /// The write has happened: what was taken stays, and what the old object held can go.
    pub fn commit(self) -> Freed {
        Freed(self.given_up)
    }
}

/// Values that nobody holds any more.
#[derive(Debug, Default)]
pub struct Freed(Vec<Held>);

/// Why a value cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Refusal {
    Taken,
    OutOfRange(String),
    /// The object that would hold the address is not valid: the Service has no name that could be its parent's.
    Invalid(String),
    Exhausted,
}

impl Allocator {
    /// An allocator over these ranges, the first being the primary family.
    pub fn new(
        (ranges, ports): (Vec<Cidr>, RangeInclusive<u16>),
        store: Arc<dyn Store>,
        cache: Arc<WatchCache>,
        catalog: &Catalog,
    ) -> Self {
        let stored = |group, plural| catalog.versions(group, plural).next().map(|row| catalog.storage_row(row).clone());
        let (services, addresses) = (stored("", "services"), stored(IP_ADDRESS.group, "ipaddresses"));
        let cidrs = stored(IP_ADDRESS.group, "servicecidrs");
        Self { ranges, ports, store, cache, services, addresses, cidrs }
    }

    /// The address of the `kubernetes` Service.
    pub fn first_address(&self) -> Option<IpAddr> {
        self.ranges.first().map(|range| range.nth(1))
    }

    /// Fills in the addresses and ports of a Service that will be written, taking them first. Other resources pass.
    pub async fn allocate(
        &self,
        row: &Resource,
        subresource: &str,
        object: &mut Object,
        old: Option<&Object>,
        dry_run: bool,
    ) -> Result<Reservation, ApiError> {
        if !is_service(row) || !subresource.is_empty() {
            return Ok(Reservation::default());
        }
        service::allocate(self, row, object, old, dry_run).await
    }

    /// A write that did not happen gives back what it took.
    pub async fn release(&self, reservation: Reservation) {
        self.free(Freed(reservation.taken)).await;
    }

    /// Gives values back. What cannot be given back now is collected at the next start.
    pub async fn free(&self, freed: Freed) {
        for held in freed.0 {
            let key = key_of(&held);
            let entry = match self.store.get(&key).await {
                Ok(Some(entry)) => entry,
                Ok(None) => continue,
                Err(err) => {
                    tracing::warn!(%key, error = &err as &dyn std::error::Error, "not given back");
                    continue;
                }
            };
            if let Err(err) = self.store.delete(&key, entry.mod_revision).await {
                tracing::warn!(%key, error = &err as &dyn std::error::Error, "not given back");
            }
        }
    }

    /// A Service is gone: what it held is free.
    pub async fn deleted(&self, row: &Resource, object: &Object) {
        if is_service(row) {
            self.free(Freed(service::held(object))).await;
        }
    }

    /// The cache of one of the resources that this is about.
    fn resource(&self, row: Option<&Arc<Resource>>) -> Result<Arc<ResourceCache>, ApiError> {
        let row = row.ok_or_else(ApiError::unknown_resource)?;
        self.cache.resource(&row.storage_prefix).ok_or_else(|| ApiError::internal(format!("{row:?} is not cached")))
    }

    /// Takes one address of a family: the given one, or any. Before it says that there is none, it makes sure that it knows
    /// all ranges.
    async fn take_address(&self, service: &Object, family: &str, wanted: Option<IpAddr>) -> Result<IpAddr, TakeError> {
        let ranges = self.ranges_of(family)?;
        let refusal = match self.take_from(service, &ranges, wanted).await {
            Err(TakeError::Refused(refusal @ (Refusal::OutOfRange(_) | Refusal::Exhausted))) => refusal,
            outcome => return outcome,
        };
        freshen(&self.store, &self.cache).await?;
        match self.ranges_of(family)? {
            now if now == ranges => Err(refusal.into()),
            now => self.take_from(service, &now, wanted).await,
        }
    }

    async fn take_from(&self, service: &Object, ranges: &[Cidr], wanted: Option<IpAddr>) -> Result<IpAddr, TakeError> {
        if let Some(address) = wanted {
            if !ranges.iter().any(|range| range.offers(address)) {
                let ranges = ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let why = format!(
                    "the provided IP ({address}) is not in the valid range. The range of valid IPs is {ranges}"
                );
                return Err(Refusal::OutOfRange(why).into());
            }
            self.check_address(address, service)?;
            let took = self.take(&Held::Address(address), service).await?;
            return if took { Ok(address) } else { Err(Refusal::Taken.into()) };
        }
        for range in ranges {
            if let Some(address) = self.take_any(service, range).await? {
                return Ok(address);
            }
        }
        Err(Refusal::Exhausted.into())
    }

    /// Takes any address of a range; `None` when all are taken.
    async fn take_any(&self, service: &Object, range: &Cidr) -> Result<Option<IpAddr>, TakeError> {
        // The first addresses are left for those who ask for one, as upstream does.
        let reserved = (range.size() / 16).clamp(16, 256).min(range.size() / 2);
        self.check_address(range.nth(reserved), service)?;
        for _ in 0..RANDOM_PICKS {
            let address = range.nth(rand::rng().random_range(reserved..range.size()));
            if range.offers(address) && self.take(&Held::Address(address), service).await? {
                return Ok(Some(address));
            }
        }
        let order = (reserved..range.size()).chain(1..reserved);
        for address in order.map(|n| range.nth(n)).filter(|address| range.offers(*address)) {
            if !self.is_taken(&Held::Address(address)).await? && self.take(&Held::Address(address), service).await? {
                return Ok(Some(address));
            }
        }
        Ok(None)
    }

    async fn take_port(&self, service: &Object, wanted: Option<u16>) -> Result<u16, TakeError> {
        if let Some(port) = wanted {
            if !self.ports.contains(&port) {
                let (first, last) = (self.ports.start(), self.ports.end());
                let why =
                    format!("provided port is not in the valid range. The range of valid ports is {first}-{last}");
                return Err(Refusal::OutOfRange(why).into());
            }
            let took = self.take(&Held::Port(port), service).await?;
            return if took { Ok(port) } else { Err(Refusal::Taken.into()) };
        }
        let random = (0..RANDOM_PICKS).map(|_| rand::rng().random_range(self.ports.clone()));
        for port in random.chain(self.ports.clone()) {
            if self.take(&Held::Port(port), service).await? {
                return Ok(port);
            }
        }
        Err(Refusal::Exhausted.into())
    }

    async fn is_taken(&self, held: &Held) -> Result<bool, store::Error> {
        self.store.get(&key_of(held)).await.map(|entry| entry.is_some())
    }

    /// Writes the key of a value; `false` when it is there already.
    async fn take(&self, held: &Held, service: &Object) -> Result<bool, store::Error> {
        let value = match held {
            Held::Address(address) => stored_bytes(&address_object(*address, service)),
            Held::Port(_) => format!("\"{}/{}\"", service.namespace(), service.name()).into(),
        };
        match self.store.put(&key_of(held), value, Expected::Absent, None).await {
            Ok(_) => Ok(true),
            Err(store::Error::Conflict { .. }) => Ok(false),
            Err(err) => Err(err),
        }
    }

    /// Whether the object for an address would be valid. Services are given addresses before their own names are looked at.
    fn check_address(&self, address: IpAddr, service: &Object) -> Result<(), Refusal> {
        let Some(row) = &self.addresses else { return Ok(()) };
        let context = WriteContext { now: Timestamp::now(), user: &User::default(), subresource: "" };
        let errors = row.strategy.validate_create(&context, &address_object(address, service));
        if errors.is_empty() {
            return Ok(());
        }
        let refused = ApiError::invalid(IP_ADDRESS, &address.to_string(), &errors);
        Err(Refusal::Invalid(refused.status().message.clone()))
    }
}

/// A value could not be taken, or the store failed.
#[derive(Debug)]
enum TakeError {
    Refused(Refusal),
    Store(store::Error),
    Api(ApiError),
}

impl From<ApiError> for TakeError {
    fn from(err: ApiError) -> Self {
        Self::Api(err)
    }
}

impl From<Refusal> for TakeError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<store::Error> for TakeError {
    fn from(err: store::Error) -> Self {
        Self::Store(err)
    }
}

fn is_service(row: &Resource) -> bool {
    row.group.is_empty() && row.plural == "services"
}

fn key_of(held: &Held) -> String {
    match held {
        Held::Address(address) => format!("/registry/ipaddresses/{address}"),
        Held::Port(port) => format!("{PORT_PREFIX}{port}"),
    }
}

fn address_object(address: IpAddr, service: &Object) -> Object {
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let tree = json!({
        "kind": "IPAddress",
        "apiVersion": "networking.k8s.io/v1",
        "metadata": {
            "name": address.to_string(),
            "uid": uuid::Uuid::new_v4().to_string(),
            "creationTimestamp": timestamp(Timestamp::now()),
            "labels": {
                "ipaddress.kubernetes.io/ip-family": family,
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            },
        },
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": service.namespace(), "name": service.name()}},
    });
    Object::from_value(tree).expect("the tree is an object")
}
