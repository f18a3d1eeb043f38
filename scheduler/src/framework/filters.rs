//! The Filter plugins of one cycle, for the search of a node and for those who ask what would be if pods came or went.

use std::sync::Arc;

use crate::framework::{CycleState, Filter, NodeInfo, PodInfo, PreFilter, Profile, Rejection, Snapshot};

/// A "no" and who said it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub plugin: &'static str,
    pub no: Rejection,
}

/// Those plugins of a profile that have something to say about the pod.
pub struct Filters<'a> {
    filters: Vec<&'a dyn Filter>,
    /// So many of them, the first, are local: those before the first of the profile that is not.
    local: usize,
    preparing: Vec<&'a dyn PreFilter>,
}

impl<'a> Filters<'a> {
    /// The plugins that did not ask to be skipped.
    pub fn new(profile: &'a Profile, state: &CycleState) -> Self {
        let speaks = |name: &str| !state.skipped_filters.contains(name);
        let all = || profile.filter.iter().map(|plugin| &**plugin);
        Self {
            filters: all().filter(|plugin| speaks(plugin.name())).collect(),
            local: all().take_while(|plugin| plugin.is_local()).filter(|plugin| speaks(plugin.name())).count(),
            preparing: profile
                .pre_filter
                .iter()
                .map(|plugin| &**plugin)
                .filter(|plugin| speaks(plugin.name()))
                .collect(),
        }
    }

    /// Whether the pod fits, with and without the pods that are nominated for the node and go before it: they may never
    /// come, and what they bring (a label that the pod wants to be with) must not be counted on.
    pub fn check(
        &self,
        state: &CycleState,
        pod: &PodInfo,
        node: &NodeInfo,
        snapshot: &Snapshot,
    ) -> Result<(), Refusal> {
        let first = |other: &&Arc<PodInfo>| other.priority >= pod.priority && other.uid != pod.uid;
        let mut coming = snapshot.nominated(&node.name).iter().filter(first).peekable();
        if coming.peek().is_some() {
            let (mut state, mut node) = (state.clone(), node.clone());
            for other in coming {
                self.add_pod(&mut state, pod, other, &mut node, snapshot);
            }
            ask(&self.filters, &state, pod, &node)?;
        }
        ask(&self.filters, state, pod, node)
    }

    /// What the local filters say that come before all others.
    pub(crate) fn ask_local(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
        ask(&self.filters[..self.local], state, pod, node)
    }

    /// What the filters say that [`Self::ask_local`] leaves out.
    pub(crate) fn ask_others(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
        ask(&self.filters[self.local..], state, pod, node)
    }

    /// Whether [`Self::ask_others`] has nobody to ask.
    pub(crate) fn are_all_local(&self) -> bool {
        self.local == self.filters.len()
    }

    /// All that say no to the node, and not only the first as [`Filters::check`] does.
    pub fn refusals(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo, snapshot: &Snapshot) -> Vec<Refusal> {
        let ask = |plugin: &&dyn Filter| {
            let no = plugin.filter(state, pod, node).err()?;
            Some(Refusal { plugin: plugin.name(), no })
        };
        let all: Vec<Refusal> = self.filters.iter().filter_map(ask).collect();
        // What is kept for nominated pods may be all that is missing.
        if all.is_empty() { self.check(state, pod, node, snapshot).err().into_iter().collect() } else { all }
    }

    /// Puts `other` onto the node, in what the plugins prepared for `pod`, too.
    pub fn add_pod(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        other: &Arc<PodInfo>,
        node: &mut NodeInfo,
        snapshot: &Snapshot,
    ) {
        node.add(Arc::clone(other));
        for plugin in &self.preparing {
            plugin.add_pod(state, pod, other, node, snapshot);
        }
    }

    /// Takes `other` off the node, in what the plugins prepared for `pod`, too.
    pub fn remove_pod(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        other: &PodInfo,
        node: &mut NodeInfo,
        snapshot: &Snapshot,
    ) {
        node.remove(&other.uid);
        for plugin in &self.preparing {
            plugin.remove_pod(state, pod, other, node, snapshot);
        }
    }
}

fn ask(filters: &[&dyn Filter], state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
    for plugin in filters {
        plugin.filter(state, pod, node).map_err(|no| Refusal { plugin: plugin.name(), no })?;
    }
    Ok(())
}
