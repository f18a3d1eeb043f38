//! What is known of volumes, and what is assumed on top of it (upstream: `AssumeCache`).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use api::volumes::{
    Candidates, SELECTED_NODE, annotate, bound_to, check_made_for, claim_class, claims_of, is_bound, is_delayed,
    requested, volume_class, volume_name,
};
use client::{Event, ObjectKey};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::{CSIDriver, CSIStorageCapacity, StorageClass};

use super::drivers::{DriverVolume, Drivers};
use super::needs::{Needs, Open};
use super::plan::{Binding, Plan, Provision};
use super::topology::Topology;

const UNBOUND: &str = "pod has unbound immediate PersistentVolumeClaims";

/// An object as it will be when a plan is written.
#[derive(Debug)]
struct Assumed<K> {
    object: Arc<K>,
    /// The pod that the plan is for.
    by: String,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) claims: HashMap<ObjectKey, Arc<PersistentVolumeClaim>>,
    pub(super) volumes: HashMap<String, Arc<PersistentVolume>>,
    pub(super) nodes: HashMap<String, Arc<Node>>,
    /// The names of volumes by their class.
    by_class: HashMap<String, BTreeSet<String>>,
    classes: HashMap<String, Arc<StorageClass>>,
    /// The CSI drivers that say where they have room.
    accountable: HashSet<String>,
    /// Those that keep pods off nodes where they are not.
    required: HashSet<String>,
    /// Those of the nodes.
    pub(super) drivers: Drivers,
    capacities: HashMap<ObjectKey, Arc<CSIStorageCapacity>>,
    assumed_claims: HashMap<ObjectKey, Assumed<PersistentVolumeClaim>>,
    assumed_volumes: HashMap<String, Assumed<PersistentVolume>>,
    /// By pod.
    plans: HashMap<String, Plan>,
    /// Pods with plans that are deleted.
    given_up: HashSet<String>,
}

impl State {
    /// What the API says goes before what was assumed of an older version.
    pub(super) fn set_claim(&mut self, event: &Event<PersistentVolumeClaim>) {
        self.assumed_claims.remove(&event.key());
        put(&mut self.claims, event.key(), event);
    }

    /// As [`State::set_claim`].
    pub(super) fn set_volume(&mut self, event: &Event<PersistentVolume>) {
        let name = event.key().name;
        self.assumed_volumes.remove(&name);
        if let Some(old) = self.volumes.get(&name) {
            let class = volume_class(old);
            if let Some(names) = self.by_class.get_mut(class) {
                names.remove(&name);
                if names.is_empty() {
                    self.by_class.remove(class);
                }
            }
        }
        if let Event::Applied { new, .. } = event {
            self.by_class.entry(volume_class(new).to_owned()).or_default().insert(name.clone());
        }
        put(&mut self.volumes, name, event);
    }

    pub(super) fn set_class(&mut self, event: &Event<StorageClass>) {
        put(&mut self.classes, event.key().name, event);
    }

    pub(super) fn set_capacity(&mut self, event: &Event<CSIStorageCapacity>) {
        put(&mut self.capacities, event.key(), event);
    }

    pub(super) fn set_node(&mut self, event: &Event<Node>) {
        put(&mut self.nodes, event.key().name, event);
    }

    pub(super) fn set_driver(&mut self, event: &Event<CSIDriver>) {
        let is_accountable = |driver: &CSIDriver| driver.spec.storage_capacity == Some(true);
        let name = event.key().name;
        match event {
            Event::Applied { new, .. } if is_accountable(new) => self.accountable.insert(name.clone()),
            _ => self.accountable.remove(&name),
        };
        match event {
            Event::Applied { new, .. } if new.spec.prevent_pod_scheduling_if_missing == Some(true) => {
                self.required.insert(name)
            }
            _ => self.required.remove(&name),
        };
    }

    /// See [`super::Volumes::of_drivers`].
    pub(super) fn of_drivers(&self, pod: &Pod) -> Vec<DriverVolume> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let keys = claims_of(pod).into_iter().map(|used| ObjectKey::new(namespace, used.name));
        keys.filter_map(|key| {
            let claim = self.claim(&key)?;
            match volume_name(claim) {
                "" => {
                    let class = self.classes.get(claim_class(claim))?;
                    Some(DriverVolume { driver: class.provisioner.clone(), name: key.to_string() })
                }
                name => DriverVolume::of(self.volume(name)?),
            }
        })
        .collect()
    }

    /// See [`super::Volumes::missing_driver`].
    pub(super) fn missing_driver<'a>(&self, node: &str, needed: &'a BTreeSet<DriverVolume>) -> Option<&'a str> {
        let mut drivers = needed.iter().map(|volume| volume.driver.as_str());
        drivers.find(|driver| self.required.contains(*driver) && !self.drivers.is_on(node, driver))
    }

    fn claim(&self, key: &ObjectKey) -> Option<&Arc<PersistentVolumeClaim>> {
        self.assumed_claims.get(key).map(|assumed| &assumed.object).or_else(|| self.claims.get(key))
    }

    fn volume(&self, name: &str) -> Option<&Arc<PersistentVolume>> {
        self.assumed_volumes.get(name).map(|assumed| &assumed.object).or_else(|| self.volumes.get(name))
    }

    /// The claims of a pod, each usable in principle; the error says which is not, and why.
    fn claims_of(&self, pod: &Pod) -> Result<Vec<&Arc<PersistentVolumeClaim>>, String> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let claims = claims_of(pod).into_iter().map(|used| {
            let name = &used.name;
            let claim = self.claim(&ObjectKey::new(namespace, name.as_str())).ok_or_else(|| match used.is_made {
                true => format!("waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}"),
                false => format!("persistentvolumeclaim {name:?} not found"),
            })?;
            if claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Lost") {
                let volume = volume_name(claim);
                return Err(format!(
                    "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"
                ));
            }
            if claim.metadata.deletion_timestamp.is_some() {
                return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
            }
            if used.is_made {
                check_made_for(claim, pod).map_err(|foreign| foreign.to_string())?;
            }
            Ok(claim)
        });
        claims.collect()
    }

    /// See [`super::Volumes::needs`].
    pub(super) fn needs(&self, pod: &Pod) -> Result<Option<Needs>, String> {
        let claims = self.claims_of(pod)?;
        if claims.is_empty() {
            return Ok(None);
        }
        let mut needs = Needs::default();
        for claim in claims {
            let class = self.classes.get(claim_class(claim));
            if is_bound(claim) {
                needs.bound.push(self.volume(volume_name(claim)).cloned());
            } else if volume_name(claim).is_empty() && class.is_some_and(|class| is_delayed(class)) {
                needs.open.push(self.open(claim, class));
            } else {
                return Err(UNBOUND.to_owned());
            }
        }
        needs.open.sort_by_cached_key(|open| requested(&open.claim));
        Ok(Some(needs))
    }

    fn open(&self, claim: &Arc<PersistentVolumeClaim>, class: Option<&Arc<StorageClass>>) -> Open {
        let names = self.by_class.get(claim_class(claim)).into_iter().flatten();
        let volumes = names.filter_map(|name| self.volume(name).cloned());
        let room = class.filter(|class| self.accountable.contains(&class.provisioner)).map(|class| {
            let name = class.metadata.name.as_ref();
            let rooms = self.capacities.values().filter(|room| Some(&room.storage_class_name) == name);
            rooms.cloned().collect()
        });
        Open { claim: Arc::clone(claim), candidates: Candidates::of(claim, volumes), class: class.cloned(), room }
    }

    /// See [`super::Volumes::topologies`]. Claims that are made for the pod are not looked at, as upstream.
    pub(super) fn topologies(&self, pod: &Pod) -> Result<Vec<Topology>, String> {
        let mut topologies = Vec::new();
        for claim in self.named_claims(pod)? {
            let name = volume_name(claim);
            if name.is_empty() {
                self.check_waits(claim)?;
                continue;
            }
            let volume = self.volume(name).ok_or_else(|| format!("persistentvolume {name:?} not found"))?;
            topologies.extend(Topology::of(volume));
        }
        Ok(topologies)
    }

    /// Whether a claim without a volume will get one with the node.
    fn check_waits(&self, claim: &PersistentVolumeClaim) -> Result<(), String> {
        let name = claim_class(claim);
        if name.is_empty() {
            return Err("PersistentVolumeClaim had no pv name and storageClass name".to_owned());
        }
        let class = self.classes.get(name);
        let class = class.ok_or_else(|| format!("storageclass.storage.k8s.io {name:?} not found"))?;
        if is_delayed(class) { Ok(()) } else { Err("PersistentVolume had no name".to_owned()) }
    }

    /// See [`super::Volumes::exclusive_claims`].
    pub(super) fn exclusive_claims(&self, pod: &Pod) -> Result<Vec<ObjectKey>, String> {
        let is_exclusive = |claim: &&Arc<PersistentVolumeClaim>| {
            let modes = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_ref());
            modes.is_some_and(|modes| modes.iter().any(|mode| mode == "ReadWriteOncePod"))
        };
        Ok(self.named_claims(pod)?.into_iter().filter(is_exclusive).map(|claim| ObjectKey::of(&**claim)).collect())
    }

    /// The claims that a pod names itself.
    fn named_claims(&self, pod: &Pod) -> Result<Vec<&Arc<PersistentVolumeClaim>>, String> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let named = claims_of(pod).into_iter().filter(|used| !used.is_made).map(|used| {
            let claim = self.claim(&ObjectKey::new(namespace, used.name.as_str()));
            claim.ok_or_else(|| format!("persistentvolumeclaim {:?} not found", used.name))
        });
        named.collect()
    }

    /// See [`super::Volumes::reserve`].
    pub(super) fn reserve(&mut self, pod: &Pod, node: &str) -> Result<(), Vec<String>> {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let Some(needs) = self.needs(pod).map_err(|why| vec![why])? else { return Ok(()) };
        let labels = self.nodes.get(node).and_then(|node| node.metadata.labels.clone()).unwrap_or_default();
        let choice = needs.choose(node, &labels);
        let choice = choice.map_err(|reasons| reasons.into_iter().map(str::to_owned).collect::<Vec<_>>())?;
        if choice.bind.is_empty() && choice.provision.is_empty() {
            return Ok(());
        }
        let bind = choice.bind.into_iter();
        let bindings = bind.map(|(claim, volume)| self.assume_volume(&uid, claim, volume)).collect();
        let provisions = choice.provision.into_iter().map(|claim| self.assume_claim(&uid, claim, node)).collect();
        self.plans.insert(uid.clone(), Plan { uid, node: node.to_owned(), bindings, provisions });
        Ok(())
    }

    fn assume_volume(
        &mut self,
        uid: &str,
        claim: Arc<PersistentVolumeClaim>,
        volume: Arc<PersistentVolume>,
    ) -> Binding {
        let Some(bound) = bound_to(&volume, &claim).map(Arc::new) else {
            return Binding { claim, volume, is_due: false };
        };
        let name = bound.metadata.name.clone().unwrap_or_default();
        self.assumed_volumes.insert(name, Assumed { object: Arc::clone(&bound), by: uid.to_owned() });
        Binding { claim, volume: bound, is_due: true }
    }

    fn assume_claim(&mut self, uid: &str, claim: Arc<PersistentVolumeClaim>, node: &str) -> Provision {
        let mut selected = (*claim).clone();
        if !annotate(&mut selected.metadata, SELECTED_NODE, node) {
            return Provision { claim, is_due: false };
        }
        let selected = Arc::new(selected);
        let key = ObjectKey::of(&*selected);
        self.assumed_claims.insert(key, Assumed { object: Arc::clone(&selected), by: uid.to_owned() });
        Provision { claim: selected, is_due: true }
    }

    /// See [`super::Volumes::forget`].
    pub(super) fn forget(&mut self, uid: &str) {
        self.given_up.remove(uid);
        if self.plans.remove(uid).is_some() {
            self.assumed_claims.retain(|_, assumed| assumed.by != uid);
            self.assumed_volumes.retain(|_, assumed| assumed.by != uid);
        }
    }

    /// The pod is deleted: who waits for its volumes need not.
    pub(super) fn give_up(&mut self, uid: &str) {
        if self.plans.contains_key(uid) {
            self.given_up.insert(uid.to_owned());
        }
    }

    pub(super) fn is_given_up(&self, uid: &str) -> bool {
        self.given_up.contains(uid)
    }

    pub(super) fn plan(&self, uid: &str) -> Option<Plan> {
        self.plans.get(uid).cloned()
    }

    pub(super) fn plans(&self) -> usize {
        self.plans.len()
    }
}

fn put<Key: std::hash::Hash + Eq, K>(map: &mut HashMap<Key, Arc<K>>, key: Key, event: &Event<K>) {
    match event {
        Event::Applied { new, .. } => map.insert(key, Arc::clone(new)),
        Event::Deleted(_) => map.remove(&key),
    };
}
