//! The order of the queue.

use std::cmp::Ordering;

use crate::framework::{Plugin, PodInfo, QueueSort};

/// Higher priority first; the queue itself keeps pods of equal priority in the order in which they came.
pub struct PrioritySort;

impl Plugin for PrioritySort {
    fn name(&self) -> &'static str {
        "PrioritySort"
    }
}

impl QueueSort for PrioritySort {
    fn order(&self, a: &PodInfo, b: &PodInfo) -> Ordering {
        b.priority.cmp(&a.priority)
    }
}
