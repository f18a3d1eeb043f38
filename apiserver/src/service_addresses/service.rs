//! Which addresses and ports a Service needs.

use std::net::IpAddr;

use api::field::{FieldError, Path};
use api::{ApiError, Object, Resource};
use serde_json::{Value, json};

use super::{Allocator, Held, Refusal, Reservation, TakeError, families};
use crate::store_error::unavailable;

/// Everything that a stored Service holds.
pub(super) fn held(object: &Object) -> Vec<Held> {
    let mut all: Vec<Held> = addresses(object).into_iter().map(Held::Address).collect();
    for port in node_ports(object) {
        let held = Held::Port(port);
        if !all.contains(&held) {
            all.push(held);
        }
    }
    all
}

fn addresses(object: &Object) -> Vec<IpAddr> {
    if object.text(&["spec", "type"]) == "ExternalName" {
        return Vec::new();
    }
    let list = object.get(&["spec", "clusterIPs"]).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).filter_map(|text| text.parse().ok()).collect()
}

fn node_ports(object: &Object) -> Vec<u16> {
    let ports = object.get(&["spec", "ports"]).and_then(Value::as_array).into_iter().flatten();
    let numbers = ports.filter_map(|port| port.get("nodePort")).chain(object.get(&["spec", "healthCheckNodePort"]));
    numbers.filter_map(Value::as_u64).filter_map(|port| u16::try_from(port).ok()).filter(|port| *port > 0).collect()
}

pub(super) async fn allocate(
    allocator: &Allocator,
    row: &Resource,
    object: &mut Object,
    old: Option<&Object>,
    dry_run: bool,
) -> Result<Reservation, ApiError> {
    let before = old.map(held).unwrap_or_default();
    let old = old.filter(|old| old.text(&["spec", "type"]) != "ExternalName");
    let reservation = Reservation::default();
    let mut allocation = Allocation { allocator, old, dry_run, before, reservation };
    let outcome = allocation.fill(object).await;
    match outcome {
        Ok(()) => {
            let now = held(object);
            let Allocation { before, mut reservation, .. } = allocation;
            reservation.given_up = before.into_iter().filter(|held| !now.contains(held)).collect();
            Ok(reservation)
        }
        Err(failure) => {
            let reservation = std::mem::take(&mut allocation.reservation);
            allocator.release(reservation).await;
            Err(failure.into_error(row, object))
        }
    }
}

/// Why a Service does not get what it needs.
enum Failure {
    Fields(Vec<FieldError>),
    Internal(ApiError),
}

impl Failure {
    fn into_error(self, row: &Resource, object: &Object) -> ApiError {
        match self {
            Self::Fields(errors) => ApiError::invalid(row.qualified_kind(), object.name(), &errors),
            Self::Internal(error) => error,
        }
    }
}

struct Allocation<'a> {
    allocator: &'a Allocator,
    /// The Service as it is, unless it is new or had no addresses.
    old: Option<&'a Object>,
    dry_run: bool,
    /// What the old object holds already.
    before: Vec<Held>,
    reservation: Reservation,
}

impl Allocation<'_> {
    async fn fill(&mut self, object: &mut Object) -> Result<(), Failure> {
        let kind = object.text(&["spec", "type"]).to_owned();
        if kind == "ExternalName" {
            return Ok(());
        }
        families::fill_in(&self.allocator.ranges, object, self.old).map_err(Failure::Fields)?;
        self.fill_addresses(object).await?;
        if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
            let not_wanted = object.get(&["spec", "allocateLoadBalancerNodePorts"]) == Some(&json!(false));
            self.fill_ports(object, kind == "NodePort" || !not_wanted).await?;
        }
        self.fill_health_port(object, &kind).await
    }

    /// One address of each family. Those that the old object has are kept as the new one says them: whether they may
    /// change is not decided here.
    async fn fill_addresses(&mut self, object: &mut Object) -> Result<(), Failure> {
        let given = families::texts(object, "clusterIPs");
        if given.first().is_some_and(|first| first == "None") {
            return Ok(());
        }
        let kept = self.old.map(addresses).unwrap_or_default().len();
        let families = families::texts(object, "ipFamilies");
        let mut chosen = given.clone();
        for (at, family) in families.iter().enumerate() {
            if given.get(at).is_some_and(|_| at < kept) {
                continue;
            }
            if !self.allocator.ranges.iter().any(|range| range.family() == family) {
                continue;
            }
            let wanted: Option<IpAddr> = given.get(at).and_then(|text| text.parse().ok());
            // An address that is to be found is shown as an empty text.
            let shown = chosen.iter().map(String::as_str).chain((at == chosen.len()).then_some(""));
            let shown = json!(shown.collect::<Vec<_>>());
            let address = self.address(object, family, wanted).await;
            let address = address.map_err(|err| address_failure(err, &shown, wanted))?.to_string();
            match chosen.get_mut(at) {
                Some(slot) => *slot = address,
                None => chosen.push(address),
            }
        }
        if let Some(primary) = chosen.first() {
            object.set(&["spec", "clusterIP"], primary.as_str());
            object.set(&["spec", "clusterIPs"], json!(chosen));
        }
        Ok(())
    }

    async fn address(&mut self, object: &Object, family: &str, wanted: Option<IpAddr>) -> Result<IpAddr, TakeError> {
        if let Some(address) = wanted.filter(|address| self.before.contains(&Held::Address(*address))) {
            return Ok(address);
        }
        // A dry run is not worth a search: any address of a range will do, as upstream has it.
        if self.dry_run && wanted.is_none() {
            let range = self.allocator.ranges_of(family)?.into_iter().next();
            return range.map(|range| range.nth(0)).ok_or_else(|| Refusal::Exhausted.into());
        }
        let address = self.allocator.take_address(object, family, wanted).await?;
        self.took(Held::Address(address)).await;
        Ok(address)
    }

    async fn fill_ports(&mut self, object: &mut Object, wanted: bool) -> Result<(), Failure> {
        let service = object.clone();
        let Some(Value::Array(ports)) = object.get_mut(&["spec", "ports"]) else { return Ok(()) };
        let mut done: Vec<(u64, u16)> = Vec::new();
        for (at, port) in ports.iter_mut().enumerate() {
            let number = port.get("port").and_then(Value::as_u64).unwrap_or(0);
            let given = port.get("nodePort").and_then(Value::as_u64).unwrap_or(0);
            if given == 0 && !wanted {
                continue;
            }
            // The same port over TCP and UDP shares one node port. An update goes by the node ports that are given.
            let is_update = self.old.is_some();
            let shares = |(other, node): &&(u64, u16)| {
                let is_given = u64::from(*node) == given;
                if is_update { is_given } else { *other == number && (given == 0 || is_given) }
            };
            let node = match done.iter().find(shares) {
                Some((_, node)) => *node,
                None if done.iter().any(|(_, node)| u64::from(*node) == given) => {
                    return Err(port_failure(Refusal::Taken.into(), at, given));
                }
                None => {
                    let given = if given == 0 && !is_update { requested(&service, number) } else { given };
                    self.port(&service, given).await.map_err(|err| port_failure(err, at, given))?
                }
            };
            done.push((number, node));
            port["nodePort"] = node.into();
        }
        Ok(())
    }

    async fn port(&mut self, service: &Object, given: u64) -> Result<u16, TakeError> {
        let wanted = u16::try_from(given).ok().filter(|port| *port > 0);
        if given > 0 && wanted.is_none() {
            let ports = &self.allocator.ports;
            let (first, last) = (ports.start(), ports.end());
            let why = format!("provided port is not in the valid range. The range of valid ports is {first}-{last}");
            return Err(Refusal::OutOfRange(why).into());
        }
        if let Some(port) = wanted.filter(|port| self.before.contains(&Held::Port(*port))) {
            return Ok(port);
        }
        // Upstream does not check the range of node ports in a dry run.
        if let (true, Some(port)) = (self.dry_run, wanted) {
            let taken = self.allocator.is_taken(&Held::Port(port)).await?;
            return if taken { Err(Refusal::Taken.into()) } else { Ok(port) };
        }
        let port = self.allocator.take_port(service, wanted).await?;
        self.took(Held::Port(port)).await;
        Ok(port)
    }

    async fn fill_health_port(&mut self, object: &mut Object, kind: &str) -> Result<(), Failure> {
        let local = object.text(&["spec", "externalTrafficPolicy"]) == "Local";
        if kind != "LoadBalancer" || !local {
            return Ok(());
        }
        let given = object.get(&["spec", "healthCheckNodePort"]).and_then(Value::as_u64).unwrap_or(0);
        // One that is there is kept as the new object says it.
        if given != 0 && self.old.is_some_and(|old| old.get(&["spec", "healthCheckNodePort"]).is_some()) {
            return Ok(());
        }
        let service = object.clone();
        let port = self.port(&service, given).await.map_err(|err| {
            let path = Path::new("spec").child("healthCheckNodePort");
            failure(err, |why| {
                FieldError::invalid(
                    &path,
                    given,
                    &format!("failed to allocate requested HealthCheck NodePort {given}: {why}"),
                )
            })
        })?;
        object.set(&["spec", "healthCheckNodePort"], port);
        Ok(())
    }

    /// A dry run gives back at once what it found free.
    async fn took(&mut self, held: Held) {
        if self.dry_run {
            self.allocator.free(super::Freed(vec![held])).await;
        } else {
            self.reservation.taken.push(held);
        }
    }
}

/// The node port that a later element asks for the same port of the Service; 0 when none does.
fn requested(service: &Object, number: u64) -> u64 {
    let ports = service.get(&["spec", "ports"]).and_then(Value::as_array).into_iter().flatten();
    let mut same = ports.filter(|port| port.get("port").and_then(Value::as_u64) == Some(number));
    same.find_map(|port| port.get("nodePort").and_then(Value::as_u64).filter(|port| *port != 0)).unwrap_or(0)
}

fn failure(err: TakeError, field: impl Fn(&str) -> FieldError) -> Failure {
    match err {
        TakeError::Refused(Refusal::Taken) => Failure::Fields(vec![field("provided port is already allocated")]),
        TakeError::Refused(Refusal::OutOfRange(why) | Refusal::Invalid(why)) => Failure::Fields(vec![field(&why)]),
        TakeError::Refused(Refusal::Exhausted) => {
            Failure::Internal(ApiError::internal("failed to allocate a nodePort: range is full"))
        }
        TakeError::Store(err) => Failure::Internal(unavailable(&err)),
        TakeError::Api(err) => Failure::Internal(err),
    }
}

fn port_failure(err: TakeError, at: usize, given: u64) -> Failure {
    let path = Path::new("spec").child("ports").index(at).child("nodePort");
    failure(err, |why| FieldError::invalid(&path, given, why))
}

fn address_failure(err: TakeError, shown: &Value, wanted: Option<IpAddr>) -> Failure {
    let path = Path::new("spec").child("clusterIPs");
    let wanted = wanted.map(|address| format!(" {address}")).unwrap_or_default();
    let field = |why: &str| FieldError::invalid(&path, shown.clone(), &format!("failed to allocate IP{wanted}: {why}"));
    match err {
        TakeError::Refused(Refusal::Taken) => Failure::Fields(vec![field("provided IP is already allocated")]),
        TakeError::Refused(Refusal::OutOfRange(why) | Refusal::Invalid(why)) => Failure::Fields(vec![field(&why)]),
        TakeError::Refused(Refusal::Exhausted) => {
            Failure::Internal(ApiError::internal("failed to allocate a serviceIP: range is full"))
        }
        TakeError::Store(err) => Failure::Internal(unavailable(&err)),
        TakeError::Api(err) => Failure::Internal(err),
    }
}
