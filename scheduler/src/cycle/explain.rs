//! The same decision, told in full: what each node was refused for, by whom, or how it was scored.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, PoisonError};

use super::{Allowed, Decision, Scheduler};
use crate::framework::{CycleState, Filters, NodeInfo, PodInfo, Profile, Refusal};

/// Why a pod goes where it goes.
#[derive(Debug)]
pub(crate) struct Explanation {
    /// The plugin that refuses the pod whatever the node is, and why.
    pub(crate) whole: Option<(&'static str, String)>,
    pub(crate) nodes: Vec<NodeVerdict>,
    /// The node, or the text of the event.
    pub(crate) decision: Result<String, String>,
}

/// What a node is for the pod.
#[derive(Debug)]
pub(crate) struct NodeVerdict {
    pub(crate) name: Arc<str>,
    /// All that say no, and not only the first one that decided it.
    pub(crate) refusals: Vec<(String, Vec<Cow<'static, str>>)>,
    /// Of a node that fits: the plugins, what they give it, and what that counts.
    pub(crate) scores: Vec<(&'static str, i64, i64)>,
}

impl NodeVerdict {
    fn total(&self) -> i64 {
        self.scores.iter().map(|(_, score, weight)| score * weight).sum()
    }
}

impl fmt::Display for NodeVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.refusals.is_empty() {
            writeln!(f, "  {}: fits, with a score of {}", self.name, self.total())?;
        } else {
            writeln!(f, "  {}: refused", self.name)?;
        }
        for (plugin, reasons) in &self.refusals {
            writeln!(f, "    {plugin}: {}", reasons.join(", "))?;
        }
        for (plugin, score, weight) in &self.scores {
            writeln!(f, "    {plugin}: {score} x {weight}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((plugin, why)) = &self.whole {
            writeln!(f, "refused by {plugin}, whatever the node is: {why}")?;
        }
        for node in &self.nodes {
            write!(f, "{node}")?;
        }
        match &self.decision {
            Ok(node) => writeln!(f, "would go to node {node}"),
            Err(why) => writeln!(f, "would go nowhere: {why}"),
        }
    }
}

impl Scheduler {
    /// Explains what would be decided for the pod now.
    pub(crate) fn explain(&mut self, profile: &Profile, pod: &Arc<PodInfo>) -> Explanation {
        let decision = match self.decide(profile, pod) {
            Decision::Chosen(node) => Ok(node),
            Decision::Rejected(diagnosis) => Err(diagnosis.to_string()),
        };
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).update(&mut self.snapshot);
        let mut state = CycleState::default();
        let allowed = match self.pre_filter(profile, &mut state, pod) {
            Ok(allowed) => allowed,
            Err((plugin, no)) => {
                return Explanation { whole: Some((plugin, no.reasons.join(", "))), nodes: Vec::new(), decision };
            }
        };
        let filters = Filters::new(profile, &state);
        let nodes = self.snapshot.nodes().iter();
        let mut nodes: Vec<NodeVerdict> =
            nodes.map(|node| self.verdict(&filters, &state, pod, node, allowed.as_ref())).collect();
        self.score_in_full(profile, &mut state, pod, &mut nodes);
        nodes.sort_by(|a, b| b.total().cmp(&a.total()).then_with(|| a.name.cmp(&b.name)));
        Explanation { whole: None, nodes, decision }
    }

    fn verdict(
        &self,
        filters: &Filters<'_>,
        state: &CycleState,
        pod: &PodInfo,
        node: &NodeInfo,
        allowed: Option<&Allowed>,
    ) -> NodeVerdict {
        let told = |Refusal { plugin, no }: Refusal| (plugin.to_owned(), no.reasons);
        let mut refusals: Vec<_> = filters.refusals(state, pod, node, &self.snapshot).into_iter().map(told).collect();
        if let Some(allowed) = allowed.filter(|allowed| !allowed.nodes.contains(&*node.name)) {
            refusals.push((allowed.plugins(), vec!["the pod asks for other nodes by name".into()]));
        }
        NodeVerdict { name: Arc::clone(&node.name), refusals, scores: Vec::new() }
    }

    fn score_in_full(&self, profile: &Profile, state: &mut CycleState, pod: &PodInfo, verdicts: &mut [NodeVerdict]) {
        let mut fitting: Vec<&mut NodeVerdict> =
            verdicts.iter_mut().filter(|verdict| verdict.refusals.is_empty()).collect();
        let nodes: Vec<&NodeInfo> =
            fitting.iter().filter_map(|verdict| self.snapshot.node(&verdict.name).map(|node| &**node)).collect();
        let speaks = |plugin: &&Arc<dyn crate::framework::PreScore>, state: &mut CycleState| {
            plugin.pre_score(state, pod, &nodes, &self.snapshot)
        };
        let silent: BTreeSet<&str> =
            profile.pre_score.iter().filter(|plugin| !speaks(plugin, state)).map(|plugin| plugin.name()).collect();
        for (plugin, weight) in profile.score.iter().filter(|(plugin, _)| !silent.contains(plugin.name())) {
            let mut scores: Vec<i64> = nodes.iter().map(|node| plugin.score(state, pod, node)).collect();
            plugin.normalize(state, &nodes, &mut scores);
            for (verdict, score) in fitting.iter_mut().zip(scores) {
                verdict.scores.push((plugin.name(), score, *weight));
            }
        }
    }
}
