//! Gives Services of type LoadBalancer addresses out of a pool (upstream: `service-lb-controller`, the service controller of
//! the cloud controller manager). What is sent to such an address is the Service's by the rules of the nodes' proxies.
//!
//! An address is given back when its Service is gone or is of another type: who has which follows from the Services alone,
//! so nothing has to be cleaned up elsewhere, and Services get no finalizer. Those of another `loadBalancerClass` are
//! somebody else's; without a pool this controller does nothing.

pub(crate) mod pool;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard};

use client::{Event, Informer, ObjectKey, Recorder, WorkQueue, events, write};
use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service, ServiceSpec};
use kube::Api;
use serde_json::{Value, json};

use self::pool::{AddressRange, Pool};
use crate::context::{Context, Controller, Outcome};
use crate::descriptor::Descriptor;

/// The class of load balancers that are given here; a Service without a class gets one, too.
const CLASS: &str = "coracle.io/local";

pub(crate) const DESCRIPTOR: Descriptor = Descriptor {
    name: "service-lb-controller",
    aliases: &["service"],
    start: |start| {
        let ranges = start.config.load_balancer_pool.clone();
        if ranges.is_empty() {
            return Ok(());
        }
        // One worker: who comes first gets the address.
        start.drive("service-lb", LoadBalancers::new(start.context, ranges), 1)
    },
};

struct LoadBalancers {
    client: kube::Client,
    services: Informer<Service>,
    recorder: Recorder,
    queue: WorkQueue<ObjectKey>,
    state: Mutex<State>,
}

struct State {
    pool: Pool,
    /// Whether the addresses that Services had before this process are theirs.
    adopted: bool,
    /// Services that got none, and what they were told.
    waiting: BTreeSet<ObjectKey>,
}

impl LoadBalancers {
    fn new(context: &Context, ranges: Vec<AddressRange>) -> (Self, WorkQueue<ObjectKey>) {
        let queue = WorkQueue::new();
        let services = context.informers.of::<Service>();
        let changed = queue.clone();
        services.on_event(move |event| match event {
            Event::Applied { old, new } if !is_ours(new) && !old.as_ref().is_some_and(|old| is_ours(old)) => {}
            _ => changed.add(event.key()),
        });
        let state = State { pool: Pool::new(ranges), adopted: false, waiting: BTreeSet::new() };
        let new = Self {
            client: context.client.clone(),
            services,
            recorder: context.recorder.for_component("service-controller"),
            queue: queue.clone(),
            state: Mutex::new(state),
        };
        (new, queue)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }

    /// Gives Services what they show, those that are older first: two may show one address.
    fn adopt(&self, state: &mut State) {
        if std::mem::replace(&mut state.adopted, true) {
            return;
        }
        let mut services = self.services.list();
        services.sort_by_key(|service| service.metadata.creation_timestamp.as_ref().map(|time| time.0));
        for service in services.iter().filter(|service| is_ours(service)) {
            state.pool.adopt(&ObjectKey::of(&**service), &shown(service));
        }
    }

    /// Takes back what a Service had; whoever waits for an address may have it.
    fn release(&self, key: &ObjectKey) {
        let mut state = self.lock();
        self.adopt(&mut state);
        state.waiting.remove(key);
        if state.pool.release(key) {
            std::mem::take(&mut state.waiting).into_iter().for_each(|one| self.queue.add(one));
        }
    }
}

impl Controller for LoadBalancers {
    async fn reconcile(&self, key: ObjectKey) -> Outcome {
        let service = self.services.get(&key).filter(|service| is_ours(service));
        // Its status forgets the address by itself when the type changes.
        let Some(service) = service else {
            self.release(&key);
            return Ok(None);
        };
        let spec = service.spec.clone().unwrap_or_default();
        let assigned = {
            let mut state = self.lock();
            self.adopt(&mut state);
            let wanted = spec.load_balancer_ip.as_deref().filter(|wanted| !wanted.is_empty());
            let assigned = state.pool.assign(&key, &families(&spec), wanted);
            match assigned {
                Ok(_) => state.waiting.remove(&key),
                Err(_) => {
                    state.pool.release(&key);
                    state.waiting.insert(key.clone())
                }
            };
            assigned
        };
        let addresses = match assigned {
            Ok(addresses) => addresses,
            Err(refused) => {
                let words = format!("Error syncing load balancer: failed to ensure load balancer: {refused}");
                self.recorder.warning(events::about(&*service), "SyncLoadBalancerFailed", words);
                Vec::new()
            }
        };
        if shows(&service, &addresses) {
            return Ok(None);
        }
        let points: Vec<Value> = addresses.iter().map(|ip| json!({ "ip": ip, "ipMode": "VIP" })).collect();
        let api: Api<Service> = Api::namespaced(self.client.clone(), &key.namespace);
        let status = json!({ "loadBalancer": { "ingress": points } });
        write::ignore_not_found(write::patch_status(&api, &key.name, status).await)?;
        if !addresses.is_empty() {
            self.recorder.normal(events::about(&*service), "EnsuredLoadBalancer", "Ensured load balancer");
        }
        Ok(None)
    }
}

/// Whether a Service is to have an address from here.
fn is_ours(service: &Service) -> bool {
    let spec = service.spec.as_ref().filter(|spec| spec.type_.as_deref() == Some("LoadBalancer"));
    spec.is_some_and(|spec| spec.load_balancer_class.as_deref().is_none_or(|class| class == CLASS))
}

/// The families of a Service, true for IPv4.
fn families(spec: &ServiceSpec) -> Vec<bool> {
    spec.ip_families.iter().flatten().map(|family| family == "IPv4").collect()
}

fn points(service: &Service) -> impl Iterator<Item = &LoadBalancerIngress> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    status.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten()
}

fn shown(service: &Service) -> Vec<IpAddr> {
    points(service).filter_map(|point| point.ip.as_ref()?.parse().ok()).collect()
}

/// Whether a Service's status says these addresses and nothing else.
fn shows(service: &Service, addresses: &[IpAddr]) -> bool {
    let plain = |point: &LoadBalancerIngress| point.hostname.is_none() && point.ip_mode.as_deref() == Some("VIP");
    shown(service) == addresses && points(service).count() == addresses.len() && points(service).all(plain)
}
