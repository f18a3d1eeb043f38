//! A StatefulSet makes its pods in order, and none beyond what is wanted.

use serde_json::Value;

use super::Rule;
use super::lately::Lately;
use crate::objects::{self, Change};

#[derive(Default)]
pub(super) struct Ordinals {
    /// How many pods a set wants, by its uid.
    wanted: Lately<i64>,
    /// Whether a pod was ready, by its key.
    ready: Lately<bool>,
}

impl Rule for Ordinals {
    fn name(&self) -> &'static str {
        "ordinals"
    }

    fn see(&mut self, change: &Change<'_>) -> Result<(), String> {
        if let ("statefulsets", Some(set)) = (change.kind(), change.new) {
            self.wanted.set(objects::uid(set), change.at, objects::number(set, "/spec/replicas").unwrap_or(1));
        }
        let Some(pod) = change.new.filter(|_| change.kind() == "pods") else { return Ok(()) };
        let outcome = if change.old.is_none() { self.made(change, pod) } else { Ok(()) };
        self.ready.set(change.key, change.at, objects::is_true(pod, "Ready"));
        outcome
    }
}

impl Ordinals {
    fn made(&self, change: &Change<'_>, pod: &Value) -> Result<(), String> {
        let Some(set) = set_of(change, pod) else { return Ok(()) };
        let Some((name, ordinal)) = objects::name(pod).rsplit_once('-') else { return Ok(()) };
        let ordinal: i64 = ordinal.parse().map_err(|_| format!("{} has no ordinal", change.key))?;
        let most = self.wanted.of(objects::uid(set), change.at).max().unwrap_or(i64::MAX);
        if ordinal >= most {
            return Err(format!("{} is made, but {most} are wanted", change.key));
        }
        if objects::text(set, "/spec/podManagementPolicy") == "Parallel" {
            return Ok(());
        }
        let was_ready = |before: i64| {
            let key = format!("pods/{}/{name}-{before}", objects::namespace(pod));
            self.ready.of(&key, change.at).any(|ready| ready)
        };
        match (0..ordinal).find(|before| !was_ready(*before)) {
            Some(before) => Err(format!("{} is made, but {before} was not ready", change.key)),
            None => Ok(()),
        }
    }
}

fn set_of<'a>(change: &Change<'a>, pod: &Value) -> Option<&'a Value> {
    let owner = objects::controller(pod)?;
    let place = format!("statefulsets/{}", objects::namespace(pod));
    objects::of(change.objects, &place).map(|(_, set)| set).find(|set| objects::uid(set) == owner)
}
