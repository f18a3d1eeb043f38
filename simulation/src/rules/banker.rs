//! Those that declare what they may come to want can all get it, one after the other: a naive banker looks at every node
//! after every binding. Who declares nothing keeps what it has.

use serde_json::Value;

use super::Rule;
use crate::objects::{self, Change};

/// The annotation in which a pod declares the most that it will request.
pub(super) const CLAIM: &str = "coracle.dev/claim";

#[derive(Default)]
pub(super) struct Banker;

impl Rule for Banker {
    fn name(&self) -> &'static str {
        "banker"
    }

    fn see(&mut self, change: &Change<'_>) -> Result<(), String> {
        let Some(pod) = change.new.filter(|_| change.kind() == "pods") else { return Ok(()) };
        let node = objects::text(pod, "/spec/nodeName");
        let was_bound = change.old.is_some_and(|old| !objects::text(old, "/spec/nodeName").is_empty());
        if node.is_empty() || was_bound || claim(pod).is_none() {
            return Ok(());
        }
        let Some(room) = change.objects.get(&format!("minions/{node}")) else { return Ok(()) };
        let room = room.pointer("/status/allocatable/cpu").map_or(0, objects::amount);
        let on_node = |pod: &Value| objects::text(pod, "/spec/nodeName") == node && !objects::is_over(pod);
        let pods: Vec<_> = objects::of(change.objects, "pods").map(|(_, pod)| pod).filter(|pod| on_node(pod)).collect();
        let held = |pod: &Value| objects::requests(pod, "cpu");
        let free = room - pods.iter().map(|pod| held(pod)).sum::<i64>();
        let who = pods.iter().filter_map(|pod| claim(pod).map(|most| (held(pod), most))).collect();
        if is_safe(free, who) { Ok(()) } else { Err(format!("{} makes {node} unsafe: {free} m free", change.key)) }
    }
}

/// Whether all can finish: each holds something and needs at most so much.
pub(super) fn is_safe(mut free: i64, mut who: Vec<(i64, i64)>) -> bool {
    while let Some(at) = who.iter().position(|(held, most)| most - held <= free) {
        free += who.swap_remove(at).0;
    }
    who.is_empty()
}

fn claim(pod: &Value) -> Option<i64> {
    let text = pod.pointer("/metadata/annotations")?.get(CLAIM)?.as_str()?;
    let claim: Value = serde_json::from_str(text).ok()?;
    claim.get("cpu").map(objects::amount)
}
