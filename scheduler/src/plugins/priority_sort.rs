//! The order of the queue.

use std::cmp::Ordering;

use crate::framework::{Plugin, PodInfo, QueueSort};
use crate::profile::PluginSpec;

pub(crate) const PLUGIN: PluginSpec =
    PluginSpec::new("PrioritySort", |slot| slot.plain(PrioritySort).queue_sort().end());

/// Higher priority first; the queue itself keeps pods of equal priority in the order in which they came.
pub(crate) struct PrioritySort;

impl Plugin for PrioritySort {
    fn name(&self) -> &'static str {
        PLUGIN.name
    }
}

impl QueueSort for PrioritySort {
    fn order(&self, a: &PodInfo, b: &PodInfo) -> Ordering {
        b.priority.cmp(&a.priority)
    }
}
