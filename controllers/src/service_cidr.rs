//! ServiceCIDRs: says that they are ready, and keeps those that are being deleted while Services have their addresses
//! (upstream: `pkg/controller/servicecidrs`; KEP-1880). Which addresses are taken is read from the Services, which other
//! controllers watch anyway, not from the IPAddresses.

use std::net::IpAddr;
use std::time::Duration;

use client::{Event, Informer, ObjectKey, WorkQueue, clock, write};
use facts::cidr::Cidr;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use crate::context::{Context, Controller, Failure, Outcome};
use crate::descriptor::Descriptor;
use crate::meta;

pub(crate) const DESCRIPTOR: Descriptor = Descriptor {
    name: "service-cidr-controller",
    aliases: &[],
    start: |start| start.drive("ipaddresses", ServiceCidrs::new(start.context), 1),
};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const MANAGER: &str = "service-cidr-controller";
/// By then every API server knows that a range is going, and what was taken before is there to be seen.
const GRACE: Duration = Duration::from_secs(10);

struct ServiceCidrs {
    client: kube::Client,
    cidrs: Informer<ServiceCIDR>,
    services: Informer<Service>,
}

/// The condition Ready that a ServiceCIDR shall have.
struct Ready {
    status: &'static str,
    reason: &'static str,
    message: &'static str,
}

const READY: Ready = Ready { status: "True", reason: "", message: "Kubernetes Service CIDR is ready" };
const IN_USE: Ready = Ready {
    status: "False",
    reason: "Terminating",
    message: "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
};

impl ServiceCidrs {
    fn new(context: &Context) -> (Self, WorkQueue<ObjectKey>) {
        let queue = WorkQueue::new();
        let (cidrs, services) = (context.informers.of::<ServiceCIDR>(), context.informers.of::<Service>());
        let (changed, known) = (queue.clone(), cidrs.clone());
        cidrs.on_event(move |event| {
            changed.add(event.key());
            going(&known).for_each(|key| changed.add(key));
        });
        let (changed, known) = (queue.clone(), cidrs.clone());
        services.on_event(move |event| {
            let gave_up = match event {
                Event::Applied { old: Some(old), new } => {
                    addresses(old).any(|had| addresses(new).all(|has| has != had))
                }
                Event::Applied { old: None, .. } => false,
                Event::Deleted(_) => true,
            };
            if gave_up {
                going(&known).for_each(|key| changed.add(key));
            }
        });
        (Self { client: context.client.clone(), cidrs, services }, queue)
    }

    fn is_in_use(&self, cidr: &ServiceCIDR) -> bool {
        let others = self.cidrs.list();
        let others = others.iter().filter(|other| other.metadata.uid != cidr.metadata.uid && !is_going(other));
        let others: Vec<Cidr> = others.flat_map(|other| ranges(other)).collect();
        let services = self.services.list();
        is_needed(&ranges(cidr), &others, services.iter().flat_map(|service| addresses(service)))
    }

    /// Replaces the object as the cache saw it; if it has changed since, another attempt follows.
    async fn set_finalizers(&self, cidr: &ServiceCIDR, finalizers: Vec<String>) -> Result<(), Failure> {
        let mut changed = cidr.clone();
        changed.metadata.finalizers = Some(finalizers);
        let api: Api<ServiceCIDR> = Api::all(self.client.clone());
        write::ignore_not_found(api.replace(meta::name(&cidr.metadata), &PostParams::default(), &changed).await)?;
        Ok(())
    }

    async fn set_ready(&self, cidr: &ServiceCIDR, ready: &Ready) -> Result<(), Failure> {
        if has(cidr, ready) {
            return Ok(());
        }
        let name = meta::name(&cidr.metadata);
        let condition = json!({
            "type": "Ready", "status": ready.status, "reason": ready.reason, "message": ready.message,
            "lastTransitionTime": clock::time(),
        });
        let change = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": { "name": name, "uid": cidr.metadata.uid }, "status": { "conditions": [condition] },
        });
        let api: Api<ServiceCIDR> = Api::all(self.client.clone());
        let params = PatchParams::apply(MANAGER).force();
        write::ignore_not_found(api.patch_status(name, &params, &Patch::Apply(change)).await)?;
        Ok(())
    }
}

impl Controller for ServiceCidrs {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let Some(cidr) = self.cidrs.get(&key) else { return Ok(None) };
        let mut finalizers = cidr.metadata.finalizers.clone().unwrap_or_default();
        let is_kept = finalizers.iter().any(|finalizer| finalizer == FINALIZER);
        if !is_going(&cidr) {
            if !is_kept {
                finalizers.push(FINALIZER.to_owned());
                // The event of this write brings the key back.
                self.set_finalizers(&cidr, finalizers).await?;
                return Ok(None);
            }
            self.set_ready(&cidr, &READY).await?;
        } else if is_kept && self.is_in_use(&cidr) {
            self.set_ready(&cidr, &IN_USE).await?;
        } else if let Some(left) = is_kept.then(|| grace_left(&cidr, clock::now())).flatten() {
            return Ok(Some(left));
        } else if is_kept {
            finalizers.retain(|finalizer| finalizer != FINALIZER);
            self.set_finalizers(&cidr, finalizers).await?;
        }
        Ok(None)
    }
}

fn is_going(cidr: &ServiceCIDR) -> bool {
    cidr.metadata.deletion_timestamp.is_some()
}

fn going(cidrs: &Informer<ServiceCIDR>) -> impl Iterator<Item = ObjectKey> {
    cidrs.list().into_iter().filter(|cidr| is_going(cidr)).map(|cidr| ObjectKey::of(&*cidr))
}

/// How long the range must stay at least, `None` when that is over. A deletion in the future is one of now: clocks differ.
fn grace_left(cidr: &ServiceCIDR, now: Timestamp) -> Option<Duration> {
    let since = cidr.metadata.deletion_timestamp.as_ref()?.0;
    let gone = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    GRACE.checked_sub(gone).filter(|left| !left.is_zero())
}

fn ranges(cidr: &ServiceCIDR) -> Vec<Cidr> {
    let texts = cidr.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    texts.filter_map(|text| text.parse().ok()).collect()
}

fn addresses(service: &Service) -> impl Iterator<Item = IpAddr> {
    let texts = service.spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten());
    texts.filter_map(|text| text.parse().ok())
}

/// Whether one of the addresses lies in these ranges and in none of those that stay.
fn is_needed(ranges: &[Cidr], staying: &[Cidr], mut addresses: impl Iterator<Item = IpAddr>) -> bool {
    let lies_in = |ranges: &[Cidr], address| ranges.iter().any(|range| range.contains(address));
    addresses.any(|address| lies_in(ranges, address) && !lies_in(staying, address))
}

fn has(cidr: &ServiceCIDR, ready: &Ready) -> bool {
    let conditions = cidr.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.filter(|condition| condition.type_ == "Ready").any(|condition| {
        condition.status == ready.status && condition.reason == ready.reason && condition.message == ready.message
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::from_value;

    use super::*;

    fn check(ranges: &[&str], staying: &[&str], addresses: &[&str], expected: bool) {
        let parsed = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Cidr>>();
        let addresses = addresses.iter().map(|text| text.parse().unwrap());
        assert_eq!(is_needed(&parsed(ranges), &parsed(staying), addresses), expected);
    }

    #[test]
    fn a_range_is_needed_for_addresses_that_no_other_one_has() {
        check(&["10.7.0.0/24"], &[], &["10.96.0.1"], false);
        check(&["10.7.0.0/24"], &["10.96.0.0/16"], &["10.96.0.1", "10.7.0.9"], true);
        check(&["10.7.0.0/24"], &["10.7.0.0/16"], &["10.7.0.9"], false);
        check(&["10.7.0.0/24"], &["10.7.0.128/25"], &["10.7.0.9"], true);
        check(&["10.7.0.0/24", "fd00::/112"], &["10.7.0.0/24"], &["10.7.0.9", "fd00::9"], true);
    }

    #[test]
    fn a_range_stays_ten_seconds_by_any_clock() {
        let cidr: ServiceCIDR =
            from_value(json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:10Z" } })).unwrap();
        let left = |now: &str| grace_left(&cidr, now.parse().unwrap()).map(|left| left.as_secs());
        assert_eq!(left("2026-01-01T00:00:13Z"), Some(7));
        assert_eq!(left("2026-01-01T00:00:20Z"), None);
        assert_eq!(left("2025-01-01T00:00:00Z"), Some(10));
    }
}
