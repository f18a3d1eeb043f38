//! Who an object is never changes: its uid, the time at which it was made, and whom it belongs to.

use super::Rule;
use crate::objects::{self, Change};

pub(super) struct Identity;

impl Rule for Identity {
    fn name(&self) -> &'static str {
        "identity"
    }

    fn see(&mut self, change: &Change<'_>) -> Result<(), String> {
        let Some(new) = change.new else { return Ok(()) };
        let owners = new.pointer("/metadata/ownerReferences").and_then(|owners| owners.as_array());
        let controllers = owners.into_iter().flatten().filter(|owner| owner["controller"] == true).count();
        if controllers > 1 {
            return Err(format!("{} has {controllers} controllers", change.key));
        }
        let Some(old) = change.old else { return Ok(()) };
        for path in ["/metadata/uid", "/metadata/creationTimestamp"] {
            if old.pointer(path) != new.pointer(path) {
                return Err(format!("{path} of {} changes", change.key));
            }
        }
        let generation = |object| objects::number(object, "/metadata/generation").unwrap_or(0);
        if generation(new) < generation(old) {
            return Err(format!("the generation of {} goes back", change.key));
        }
        match (objects::controller(old), objects::controller(new)) {
            (Some(before), Some(now)) if before != now => Err(format!("{} passes from {before} to {now}", change.key)),
            _ => Ok(()),
        }
    }
}
