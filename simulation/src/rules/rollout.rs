//! A rollout stays within `maxSurge` and `maxUnavailable`, as its controller may see the Deployment.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Rule;
use super::lately::Lately;
use crate::objects::{self, Change};

/// What a Deployment wants, worked out.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bounds {
    most: i64,
    least: i64,
}

#[derive(Default)]
pub(super) struct Rollout {
    /// By the uid of a Deployment.
    bounds: Lately<Bounds>,
    /// Ready pods by the uid of their ReplicaSet.
    ready: Lately<i64>,
    deployments: BTreeSet<String>,
}

impl Rule for Rollout {
    fn name(&self) -> &'static str {
        "rollout"
    }

    fn see(&mut self, change: &Change<'_>) -> Result<(), String> {
        match (change.kind(), change.new.or(change.old)) {
            ("deployments", Some(deployment)) => {
                self.bounds.set(objects::uid(deployment), change.at, bounds(deployment));
                self.deployments.insert(objects::uid(deployment).to_owned());
            }
            ("pods", Some(pod)) => {
                if let Some(set) = objects::controller(pod) {
                    self.ready.set(set, change.at, ready_of(change, objects::namespace(pod), set));
                }
            }
            ("replicasets", Some(set)) if change.new.is_some() => return self.scaled(change, set),
            _ => {}
        }
        Ok(())
    }
}

impl Rollout {
    fn scaled(&self, change: &Change<'_>, set: &Value) -> Result<(), String> {
        let Some(owner) = objects::controller(set).filter(|owner| self.deployments.contains(*owner)) else {
            return Ok(());
        };
        let wanted = |set: &Value| objects::number(set, "/spec/replicas").unwrap_or(0);
        let (was, is) = (change.old.map_or(0, wanted), wanted(set));
        let place = format!("replicasets/{}", objects::namespace(set));
        let sets: Vec<_> = objects::of(change.objects, &place).map(|(_, set)| set).collect();
        let sets = || sets.iter().filter(|set| objects::controller(set) == Some(owner));
        let bounds: Vec<_> = self.bounds.of(owner, change.at).collect();
        let total: i64 = sets().map(|set| wanted(set)).sum();
        let most = bounds.iter().map(|bounds| bounds.most).max().unwrap_or(i64::MAX);
        if is > was && total > most {
            return Err(format!("{} grows from {was} to {is}: {total} in all, at most {most}", change.key));
        }
        let ready = |set: &Value| self.ready.of(objects::uid(set), change.at).max().unwrap_or(0).min(wanted(set));
        let left: i64 = sets().map(|set| ready(set)).sum();
        let had = left + self.ready.of(objects::uid(set), change.at).max().unwrap_or(0).min(was) - ready(set);
        let least = bounds.iter().map(|bounds| bounds.least).min().unwrap_or(0);
        if is < was && left < least && left < had {
            return Err(format!(
                "{} shrinks from {was} to {is}: at most {left} were ready, {least} are needed",
                change.key
            ));
        }
        Ok(())
    }
}

fn ready_of(change: &Change<'_>, namespace: &str, set: &str) -> i64 {
    let place = format!("pods/{namespace}");
    let is_ready = |pod: &Value| objects::controller(pod) == Some(set) && objects::is_true(pod, "Ready");
    objects::of(change.objects, &place).filter(|(_, pod)| is_ready(pod)).count() as i64
}

/// Upstream's `ResolveFenceposts`.
fn bounds(deployment: &Value) -> Bounds {
    let replicas = objects::number(deployment, "/spec/replicas").unwrap_or(1);
    if objects::text(deployment, "/spec/strategy/type") == "Recreate" || objects::is_going(deployment) {
        return Bounds { most: replicas, least: 0 };
    }
    let resolve = |path: &str, up: bool| {
        let value = deployment.pointer(path).cloned().unwrap_or_else(|| "25%".into());
        let Some(percent) = value.as_str().and_then(|text| text.strip_suffix('%')?.parse::<i64>().ok()) else {
            return value.as_i64().unwrap_or(0);
        };
        if up { (replicas * percent + 99) / 100 } else { replicas * percent / 100 }
    };
    let surge = resolve("/spec/strategy/rollingUpdate/maxSurge", true);
    let unavailable = resolve("/spec/strategy/rollingUpdate/maxUnavailable", false);
    let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
    Bounds { most: replicas + surge, least: replicas - unavailable }
}
