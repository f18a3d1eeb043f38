//! A gang gets its places whole: once one of its pods is bound, enough of them are soon.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::Rule;
use crate::objects::{self, Change};

/// The label that names a gang, and the one that says how many pods it needs.
pub(crate) const GROUP: &str = "scheduling.x-k8s.io/pod-group";
pub(crate) const LEAST: &str = "scheduling.x-k8s.io/min-available";
/// Bindings are requests of their own, and whoever makes them may be replaced meanwhile.
const SOON: Duration = Duration::from_secs(240);

#[derive(Default)]
pub(super) struct Gangs {
    partial: BTreeMap<String, Partial>,
}

struct Partial {
    since: Instant,
    least: usize,
    bound: BTreeSet<String>,
}

impl Rule for Gangs {
    fn name(&self) -> &'static str {
        "gangs"
    }

    fn see(&mut self, change: &Change<'_>) -> Result<(), String> {
        if let Some(late) = self.partial.iter().find(|(_, gang)| gang.since + SOON < change.at) {
            let (name, Partial { least, bound, .. }) = late;
            return Err(format!("{name} has {} of {least} places", bound.len()));
        }
        let Some(pod) = change.new.or(change.old).filter(|_| change.kind() == "pods") else { return Ok(()) };
        let Some((gang, least)) = gang_of(pod) else { return Ok(()) };
        // A gang that loses a pod is its owner's to complete, or to end.
        if change.new.is_none_or(objects::is_going) {
            self.partial.remove(&gang);
            return Ok(());
        }
        if objects::text(pod, "/spec/nodeName").is_empty() {
            return Ok(());
        }
        let was_bound = change.old.is_some_and(|old| !objects::text(old, "/spec/nodeName").is_empty());
        if was_bound {
            return Ok(());
        }
        let others = whole(change, &gang);
        let partial = Partial { since: change.at, least, bound: BTreeSet::new() };
        let known = self.partial.entry(gang.clone()).or_insert(partial);
        known.bound.extend(others);
        if known.bound.len() >= least {
            self.partial.remove(&gang);
        }
        Ok(())
    }
}

/// A pod's gang, and how many pods that needs.
pub(super) fn gang_of(pod: &Value) -> Option<(String, usize)> {
    let labels = pod.pointer("/metadata/labels")?;
    let (group, least) = (labels.get(GROUP)?.as_str()?, labels.get(LEAST)?.as_str()?.parse().ok()?);
    Some((format!("{}/{group}", objects::namespace(pod)), least))
}

/// The bound pods of a gang.
fn whole(change: &Change<'_>, gang: &str) -> Vec<String> {
    let is_in = |pod: &Value| gang_of(pod).is_some_and(|(name, _)| name == gang);
    let is_bound = |pod: &Value| !objects::text(pod, "/spec/nodeName").is_empty();
    let pods = objects::of(change.objects, "pods").map(|(_, pod)| pod);
    pods.filter(|pod| is_in(pod) && is_bound(pod)).map(|pod| objects::uid(pod).to_owned()).collect()
}
