//! No pod is made that a quota has no room for.

use super::Rule;
use super::lately::Lately;
use crate::objects::{self, Change};

#[derive(Default)]
pub(super) struct Quotas {
    /// How many pods there may be, by the key of the quota.
    most: Lately<i64>,
}

impl Rule for Quotas {
    fn name(&self) -> &'static str {
        "quotas"
    }

    fn see(&mut self, change: &Change<'_>) -> Result<(), String> {
        if let ("resourcequotas", Some(quota)) = (change.kind(), change.new) {
            // Nothing is refused before the quota was counted for the first time.
            let most = quota.pointer("/status/hard/pods").map_or(i64::MAX, |most| objects::amount(most) / 1000);
            self.most.set(change.key, change.at, most);
        }
        let Some(pod) = change.creates("pods") else { return Ok(()) };
        let namespace = objects::namespace(pod);
        let place = format!("pods/{namespace}");
        let there = objects::of(change.objects, &place).filter(|(_, pod)| !objects::is_over(pod)).count() as i64;
        let quotas = format!("resourcequotas/{namespace}");
        for (key, _) in objects::of(change.objects, &quotas) {
            let most = self.most.of(key, change.at).max().unwrap_or(i64::MAX);
            if there > most {
                return Err(format!("{} is one of {there}, {key} allows {most}", change.key));
            }
        }
        Ok(())
    }
}
