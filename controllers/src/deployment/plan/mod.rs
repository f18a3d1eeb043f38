//! Decides the next step of a Deployment: which ReplicaSets to make, scale and remove, and what its status says.
//!
//! One call makes at most one move (scale the new set up, or old ones down) and reports; the change of a ReplicaSet's
//! status wakes the controller for the next. That keeps every moment within maxSurge and maxUnavailable.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, ReplicaSet};

use super::sets::{self, Limits};
use super::status;
use crate::context::Failure;
use crate::meta;

/// A write to make, in order.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Write {
    Create(ReplicaSet),
    /// Replaces the set; `scaled_from` is its former size if that changed.
    Update {
        set: ReplicaSet,
        scaled_from: Option<i32>,
    },
    Delete(ReplicaSet),
}

/// What to do about one Deployment.
#[derive(Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) writes: Vec<Write>,
    /// The revision to note on the Deployment, if it is not there.
    pub(super) revision: Option<i64>,
    pub(super) status: DeploymentStatus,
    pub(super) again: Option<Duration>,
}

/// What is known about a Deployment.
pub(super) struct Observed<'a> {
    pub(super) deployment: &'a Deployment,
    pub(super) sets: Vec<Arc<ReplicaSet>>,
    /// The uids of the sets that still have pods, which a `Recreate` waits for.
    pub(super) with_pods: HashSet<String>,
    pub(super) now: Timestamp,
}

/// Decides. Pure: works on copies of the sets and records how they change.
pub(super) fn plan(seen: &Observed<'_>) -> Result<Plan, Failure> {
    let spec = seen.deployment.spec.clone().unwrap_or_default();
    let mut state = State::new(seen, &spec);
    if seen.deployment.metadata.deletion_timestamp.is_some() {
        return Ok(state.finish(false));
    }
    let is_paused = spec.paused == Some(true);
    status::report_pause(seen.deployment, &mut state.status, seen.now);
    if is_paused || state.is_scaling() {
        state.note_revision();
        state.scale();
        if is_paused {
            state.clean_up();
        }
        return Ok(state.finish(false));
    }
    if state.limits.is_recreate {
        state.recreate()?;
    } else {
        state.roll()?;
    }
    Ok(state.finish(true))
}

struct State<'a> {
    seen: &'a Observed<'a>,
    spec: &'a DeploymentSpec,
    limits: Limits,
    new: Option<ReplicaSet>,
    /// Oldest first.
    old: Vec<ReplicaSet>,
    status: DeploymentStatus,
    writes: Vec<Write>,
    revision: Option<i64>,
}

impl<'a> State<'a> {
    fn new(seen: &'a Observed<'a>, spec: &'a DeploymentSpec) -> Self {
        let mut all: Vec<ReplicaSet> = seen.sets.iter().map(|set| (**set).clone()).collect();
        all.sort_by_key(sets::created);
        // Of several with the same template (from a former collision) the oldest is the new one, deterministically.
        let at = all.iter().position(|set| sets::is_same_template(set, &spec.template));
        let new = at.map(|at| all.remove(at));
        let status = seen.deployment.status.clone().unwrap_or_default();
        let limits = Limits::of(spec);
        Self { seen, spec, limits, new, old: all, status, writes: Vec::new(), revision: None }
    }

    fn all(&self) -> Vec<&ReplicaSet> {
        self.old.iter().chain(&self.new).collect()
    }

    fn finish(mut self, is_rollout: bool) -> Plan {
        let mut deployment = self.seen.deployment.clone();
        deployment.status = Some(std::mem::take(&mut self.status));
        let (all, new) = (self.all(), self.new.as_ref());
        let mut status = status::calculate(&deployment, new, &all, self.limits, self.seen.now);
        if is_rollout {
            status::report_progress(&deployment, new, &all, &mut status, self.seen.now);
        }
        let again = if is_rollout { status::next_look(&deployment, &status, self.seen.now) } else { None };
        Plan { writes: self.writes, revision: self.revision, status, again }
    }

    /// Somebody changed `replicas` (not the template): the sets remember for which size they were made.
    fn is_scaling(&self) -> bool {
        let active = self.all().into_iter().filter(|set| sets::replicas(set) > 0);
        active.filter_map(sets::desired).any(|desired| desired != self.limits.replicas)
    }

    /// Gives the new set the highest revision, and notes it on the Deployment.
    fn note_revision(&mut self) {
        let next = self.old.iter().map(|set| sets::revision(&set.metadata)).max().unwrap_or(0) + 1;
        let Some(new) = &mut self.new else { return };
        let before = new.clone();
        sets::annotate_new(new, self.seen.deployment, next, self.limits, true);
        new.spec.get_or_insert_default().min_ready_seconds = self.spec.min_ready_seconds;
        if *new != before {
            self.writes.push(Write::Update { set: new.clone(), scaled_from: None });
        }
        let revision = sets::revision(&new.metadata);
        if sets::revision(&self.seen.deployment.metadata) != revision {
            self.revision = Some(revision);
        }
        if status::condition(Some(&self.status), status::PROGRESSING).is_none() && has_deadline(self.spec) {
            let message = format!("Found new replica set \"{}\"", meta::name(&new.metadata));
            status::set_condition(
                &mut self.status,
                status::PROGRESSING,
                "True",
                "FoundNewReplicaSet",
                message,
                self.seen.now,
            );
        }
    }

    /// Makes the set for the current template; it is created with `replicas` pods at once.
    fn create_new(&mut self, replicas: i32) -> Result<(), Failure> {
        let next = self.old.iter().map(|set| sets::revision(&set.metadata)).max().unwrap_or(0) + 1;
        let mut set = sets::new_set(self.seen.deployment, next, self.limits)?;
        sets::set_replicas(&mut set, replicas);
        if sets::revision(&self.seen.deployment.metadata) != next {
            self.revision = Some(next);
        }
        if has_deadline(self.spec) {
            let message = format!("Created new replica set \"{}\"", meta::name(&set.metadata));
            status::set_condition(
                &mut self.status,
                status::PROGRESSING,
                "True",
                "NewReplicaSetCreated",
                message,
                self.seen.now,
            );
        }
        self.writes.push(Write::Create(set.clone()));
        self.new = Some(set);
        Ok(())
    }

    fn roll(&mut self) -> Result<(), Failure> {
        if self.new.is_none() {
            return self.create_new(self.new_size(0));
        }
        self.note_revision();
        let current = self.new.as_ref().map_or(0, sets::replicas);
        let wanted = self.new_size(current);
        if wanted != current {
            self.resize_new(wanted);
            return Ok(());
        }
        if !self.shrink_old() {
            self.clean_up_if_complete();
        }
        Ok(())
    }

    /// How large the new set may be now: total pods stay within replicas + maxSurge.
    fn new_size(&self, current: i32) -> i32 {
        if current >= self.limits.replicas {
            return self.limits.replicas;
        }
        let total: i32 = self.all().into_iter().map(sets::replicas).sum();
        let room = (self.limits.max_replicas() - total).max(0);
        current + room.min(self.limits.replicas - current)
    }

    /// Shrinks old sets as far as availability allows: first pods that are not available anyway. True if anything shrank.
    fn shrink_old(&mut self) -> bool {
        let total: i32 = self.all().into_iter().map(sets::replicas).sum();
        if self.old.iter().all(|set| sets::replicas(set) == 0) {
            return false;
        }
        let new_missing = self.new.as_ref().map_or(0, |new| sets::replicas(new) - sets::available(new));
        let mut budget = total - self.limits.min_available() - new_missing;
        if budget <= 0 {
            return false;
        }
        let before = self.writes.len();
        let mut sizes: Vec<i32> = self.old.iter().map(sets::replicas).collect();
        for (set, size) in self.old.iter().zip(&mut sizes) {
            let unhealthy = (*size - sets::available(set)).clamp(0, budget);
            *size -= unhealthy;
            budget -= unhealthy;
        }
        let available: i32 = self.all().into_iter().map(sets::available).sum();
        let mut budget = available - self.limits.min_available();
        for size in &mut sizes {
            let healthy = (*size).clamp(0, budget.max(0));
            *size -= healthy;
            budget -= healthy;
        }
        for (at, size) in sizes.into_iter().enumerate() {
            self.resize_old(at, size);
        }
        self.writes.len() > before
    }

    fn recreate(&mut self) -> Result<(), Failure> {
        self.note_revision();
        let before = self.writes.len();
        (0..self.old.len()).for_each(|at| self.resize_old(at, 0));
        if self.writes.len() > before || self.old_pods_run() {
            return Ok(());
        }
        match &self.new {
            None => self.create_new(self.limits.replicas)?,
            Some(_) => self.resize_new(self.limits.replicas),
        }
        self.clean_up_if_complete();
        Ok(())
    }

    fn old_pods_run(&self) -> bool {
        self.old.iter().any(|set| self.seen.with_pods.contains(meta::uid(&set.metadata)))
    }

    /// Brings the sets to a changed size: the only active one entirely, several in proportion.
    fn scale(&mut self) {
        let active = self.all().into_iter().filter(|set| sets::replicas(set) > 0).count();
        if active <= 1 {
            let old_active = self.old.iter().position(|set| sets::replicas(set) > 0);
            match (old_active, &self.new) {
                (Some(at), _) => self.resize_old(at, self.limits.replicas),
                (None, Some(_)) => self.resize_new(self.limits.replicas),
                (None, None) if !self.old.is_empty() => self.resize_old(self.old.len() - 1, self.limits.replicas),
                (None, None) => {}
            }
        } else if self.is_saturated() {
            (0..self.old.len()).for_each(|at| self.resize_old(at, 0));
        } else if !self.limits.is_recreate {
            self.scale_in_proportion();
        }
    }

    /// The new set has all pods that are wanted, and they are available.
    fn is_saturated(&self) -> bool {
        let wanted = self.limits.replicas;
        self.new.as_ref().is_some_and(|new| {
            sets::replicas(new) == wanted && sets::desired(new) == Some(wanted) && sets::available(new) == wanted
        })
    }

    fn scale_in_proportion(&mut self) {
        let is_active = |set: &ReplicaSet| sets::replicas(set) > 0;
        let mut active: Vec<Slot> = (0..self.old.len()).filter(|at| is_active(&self.old[*at])).map(Slot::Old).collect();
        active.extend(self.new.as_ref().filter(|new| is_active(new)).map(|_| Slot::New));
        let total: i32 = active.iter().map(|slot| sets::replicas(self.slot(*slot))).sum();
        let allowed = if self.limits.replicas > 0 { self.limits.max_replicas() } else { 0 };
        let to_add = allowed - total;
        // The largest takes what rounding leaves; of equals the newest when growing, the oldest when shrinking.
        active
            .sort_by_key(|slot| (std::cmp::Reverse(sets::replicas(self.slot(*slot))), sets::created(self.slot(*slot))));
        if to_add > 0 {
            active.sort_by(|a, b| {
                let key = |slot: Slot| (sets::replicas(self.slot(slot)), sets::created(self.slot(slot)));
                key(*b).cmp(&key(*a))
            });
        }
        let mut added = 0;
        let mut sizes = Vec::new();
        for slot in &active {
            let set = self.slot(*slot);
            let share = self.share(set, to_add, added);
            added += share;
            sizes.push(sets::replicas(set) + share);
        }
        if let Some(first) = sizes.first_mut() {
            *first = (*first + to_add - added).max(0);
        }
        for (slot, size) in active.into_iter().zip(sizes) {
            match slot {
                Slot::Old(at) => self.resize_old(at, size),
                Slot::New => self.resize_new(size),
            }
        }
    }

    fn slot(&self, slot: Slot) -> &ReplicaSet {
        match slot {
            Slot::Old(at) => &self.old[at],
            Slot::New => self.new.as_ref().expect("a slot names the new set only if there is one"),
        }
    }

    /// The part of `to_add` that falls to this set.
    fn share(&self, set: &ReplicaSet, to_add: i32, added: i32) -> i32 {
        let allowed = to_add - added;
        if allowed == 0 {
            return 0;
        }
        let fraction = self.fraction(set);
        if to_add > 0 { fraction.min(allowed) } else { fraction.max(allowed) }
    }

    fn fraction(&self, set: &ReplicaSet) -> i32 {
        let size = sets::replicas(set);
        if self.limits.replicas == 0 {
            return -size;
        }
        let known = self.seen.deployment.status.as_ref().and_then(|status| status.replicas);
        let former = sets::maximum(set).filter(|maximum| *maximum > 0).or(known).unwrap_or(0);
        if former == 0 {
            return 0;
        }
        let scaled = f64::from(size) * f64::from(self.limits.max_replicas()) / f64::from(former);
        // Both numbers are replica counts: the quotient fits.
        scaled.round() as i32 - size
    }

    fn resize_new(&mut self, size: i32) {
        let limits = self.limits;
        if let Some(write) = self.new.as_mut().and_then(|set| resize(set, size, limits)) {
            self.push_update(write);
        }
    }

    fn resize_old(&mut self, at: usize, size: i32) {
        let limits = self.limits;
        if let Some(write) = resize(&mut self.old[at], size, limits) {
            self.push_update(write);
        }
    }

    /// Two updates of one set become one, as the second would conflict with the first.
    fn push_update(&mut self, write: Write) {
        if let Write::Update { set, .. } = &write {
            let same = |known: &Write| matches!(known, Write::Update { set: known, .. } if known.metadata.uid == set.metadata.uid);
            self.writes.retain(|known| !same(known));
        }
        self.writes.push(write);
    }

    fn clean_up_if_complete(&mut self) {
        let known = self.seen.deployment.status.clone().unwrap_or_default();
        if status::is_complete(self.seen.deployment, &known) {
            self.clean_up();
        }
    }

    /// Removes old sets beyond the history that is wanted.
    fn clean_up(&mut self) {
        let Some(limit) = self.spec.revision_history_limit.filter(|limit| *limit != i32::MAX) else { return };
        let mut alive: Vec<&ReplicaSet> =
            self.old.iter().filter(|set| set.metadata.deletion_timestamp.is_none()).collect();
        let surplus = alive.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        alive.sort_by_key(|set| sets::revision(&set.metadata));
        let removed: Vec<_> =
            alive.into_iter().take(surplus).filter(|set| is_idle(set)).cloned().map(Write::Delete).collect();
        self.writes.extend(removed);
    }
}

/// A place in `State`, so that sets can be sorted without borrowing them.
#[derive(Clone, Copy)]
enum Slot {
    Old(usize),
    New,
}

fn has_deadline(spec: &DeploymentSpec) -> bool {
    spec.progress_deadline_seconds.is_some_and(|seconds| seconds != i32::MAX)
}

/// No pods, none wanted, and the set's controller has seen that.
fn is_idle(set: &ReplicaSet) -> bool {
    let status = set.status.clone().unwrap_or_default();
    status.replicas == 0 && sets::replicas(set) == 0 && status.observed_generation >= set.metadata.generation
}

fn resize(set: &mut ReplicaSet, size: i32, limits: Limits) -> Option<Write> {
    let from = sets::replicas(set);
    let before = set.clone();
    if from == size && size == 0 {
        return None;
    }
    sets::set_replicas(set, size);
    sets::annotate_sizes(set, limits);
    (*set != before).then(|| Write::Update { set: set.clone(), scaled_from: (from != size).then_some(from) })
}

#[cfg(test)]
mod tests;
