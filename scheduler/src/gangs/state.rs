//! The gangs that there are: their policy, and which of their pods have a place.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use client::ObjectKey;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::scheduling::v1alpha2::PodGroup;

use super::membership::{GangKey, Membership};

/// Why pods are not tried yet, and why those that have places give them back, in upstream's words.
const NOT_THERE: &str = "waiting for minCount pods from a gang to appear in scheduling queue";
const NOT_PLACED: &str = "waiting for minCount pods from a gang to be scheduled";

#[derive(Debug, Default)]
pub(super) struct State {
    gangs: HashMap<GangKey, Members>,
    groups: HashMap<ObjectKey, Arc<PodGroup>>,
    /// The gang of each pod.
    of: HashMap<String, GangKey>,
}

type Members = BTreeMap<String, Member>;

#[derive(Debug)]
struct Member {
    least: usize,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    None,
    /// Chosen, and kept for it.
    Reserved,
    /// Bound, as the API says.
    Bound,
}

impl State {
    /// Takes over a pod. Answers whose wait for company may be over by that.
    pub(super) fn set_pod(&mut self, pod: &Pod) -> Vec<String> {
        let (Some(uid), Some(member)) = (&pod.metadata.uid, Membership::of(pod)) else { return Vec::new() };
        let is_bound =
            pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some_and(|node| !node.is_empty());
        let was_ready = self.not_ready(&member.key).is_none();
        if self.of.get(uid).is_some_and(|before| *before != member.key) {
            self.remove_pod(uid);
        }
        self.of.insert(uid.clone(), member.key.clone());
        let members = self.gangs.entry(member.key.clone()).or_default();
        let known = members.entry(uid.clone()).or_insert(Member { least: 0, place: Place::None });
        known.least = member.least;
        if is_bound {
            known.place = Place::Bound;
        }
        self.now_ready(&member.key, was_ready)
    }

    pub(super) fn remove_pod(&mut self, uid: &str) {
        let Some(key) = self.of.remove(uid) else { return };
        if let Some(members) = self.gangs.get_mut(&key) {
            members.remove(uid);
            if members.is_empty() {
                self.gangs.remove(&key);
            }
        }
    }

    /// Takes over a group; `None` when it is gone. Answers whose wait may be over by that.
    pub(super) fn set_group(&mut self, key: ObjectKey, group: Option<Arc<PodGroup>>) -> Vec<String> {
        let keys: Vec<GangKey> =
            self.gangs.keys().filter(|gang| gang.is_object && gang.group == key).cloned().collect();
        let before: Vec<bool> = keys.iter().map(|key| self.not_ready(key).is_none()).collect();
        match group {
            Some(group) => drop(self.groups.insert(key, group)),
            None => drop(self.groups.remove(&key)),
        }
        keys.iter().zip(before).flat_map(|(key, was_ready)| self.now_ready(key, was_ready)).collect()
    }

    fn now_ready(&self, key: &GangKey, was_ready: bool) -> Vec<String> {
        if was_ready || self.not_ready(key).is_some() { Vec::new() } else { self.placeless(key) }
    }

    fn placeless(&self, key: &GangKey) -> Vec<String> {
        let members = self.gangs.get(key).into_iter().flatten();
        members.filter(|(_, member)| member.place == Place::None).map(|(uid, _)| uid.clone()).collect()
    }

    /// How many pods of a gang must have places together; 0 when they are on their own. The error names a group that is
    /// not there.
    fn least(&self, key: &GangKey) -> Result<usize, String> {
        if !key.is_object {
            // Pods of one group should agree; none of them starts with fewer than it asks for.
            let members = self.gangs.get(key).into_iter().flatten();
            return Ok(members.map(|(_, member)| member.least).max().unwrap_or(0));
        }
        let missing = || format!("waiting for pods's pod group {:?} to appear in scheduling queue", key.group.name);
        let group = self.groups.get(&key.group).ok_or_else(missing)?;
        let gang = group.spec.scheduling_policy.gang.as_ref();
        Ok(gang.map_or(0, |gang| usize::try_from(gang.min_count).unwrap_or(0)))
    }

    /// Why pods of this gang are not tried yet.
    fn not_ready(&self, key: &GangKey) -> Option<String> {
        let there = self.gangs.get(key).map_or(0, BTreeMap::len);
        match self.least(key) {
            Err(missing) => Some(missing),
            Ok(least) => (there < least).then(|| NOT_THERE.to_owned()),
        }
    }

    /// Why this pod is not tried yet.
    pub(super) fn waits_for(&self, pod: &Pod) -> Option<String> {
        self.not_ready(&Membership::of(pod)?.key)
    }

    /// The other pods of the gang that have no place; `None` when the pod is tried alone.
    pub(super) fn mates(&self, uid: &str) -> Option<Vec<String>> {
        let key = self.of.get(uid)?;
        if self.least(key) == Ok(0) {
            return None;
        }
        Some(self.placeless(key).into_iter().filter(|mate| mate != uid).collect())
    }

    /// Keeps a place for a pod. Answers the pods of its gang that have their places not yet bound, once they suffice.
    pub(super) fn reserve(&mut self, uid: &str) -> Result<Vec<String>, String> {
        let Some(key) = self.of.get(uid).cloned() else { return Ok(Vec::new()) };
        if let Some(member) = self.gangs.get_mut(&key).and_then(|members| members.get_mut(uid))
            && member.place == Place::None
        {
            member.place = Place::Reserved;
        }
        if let Some(missing) = self.missing(uid, 0) {
            return Err(missing);
        }
        let members = self.gangs.get(&key).into_iter().flatten();
        Ok(members.filter(|(_, member)| member.place == Place::Reserved).map(|(uid, _)| uid.clone()).collect())
    }

    /// Gives a pod's place back, unless it is bound.
    pub(super) fn release(&mut self, uid: &str) {
        let Some(members) = self.of.get(uid).and_then(|key| self.gangs.get_mut(key)) else { return };
        if let Some(member) = members.get_mut(uid)
            && member.place == Place::Reserved
        {
            member.place = Place::None;
        }
    }

    /// Why the pods of the gang that have places do not suffice, even if `more` of them had some.
    pub(super) fn missing(&self, uid: &str, more: usize) -> Option<String> {
        let key = self.of.get(uid)?;
        let members = self.gangs.get(key)?;
        let placed = members.values().filter(|member| member.place != Place::None).count();
        match self.least(key) {
            Err(missing) => Some(missing),
            Ok(least) => (placed + more < least).then(|| NOT_PLACED.to_owned()),
        }
    }

    /// The group of a pod, if it is an object and the pod is not on its own.
    pub(super) fn group(&self, uid: &str) -> Option<Arc<PodGroup>> {
        let key = self.of.get(uid)?;
        key.is_object.then(|| self.groups.get(&key.group).cloned())?
    }
}
