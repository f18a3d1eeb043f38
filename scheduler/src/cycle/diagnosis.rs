//! Why a pod has no node, in upstream's words (its `FitError`).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::framework::{PostFiltered, Refusal, Rejection};

/// Why no node fits.
#[derive(Clone, Debug, Default)]
pub struct Diagnosis {
    /// How many nodes there are.
    pub nodes: usize,
    /// How many nodes were refused for each reason.
    pub reasons: BTreeMap<Cow<'static, str>, usize>,
    /// The plugins that said no.
    pub plugins: BTreeSet<&'static str>,
    /// Set when the pod was refused as a whole, before nodes were looked at.
    pub whole: Option<String>,
    /// What PostFilter plugins decided, when there are any.
    pub after: Option<PostFiltered>,
    /// Positions of the nodes where evicting pods may help, in the order of the search.
    pub(crate) resolvable: Vec<usize>,
}

impl fmt::Display for Diagnosis {
    /// The text of `FailedScheduling` events: `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available:", self.nodes)?;
        match &self.whole {
            Some(whole) => write!(f, " {whole}.")?,
            None => {
                let mut texts: Vec<String> =
                    self.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
                texts.sort_unstable();
                if !texts.is_empty() {
                    write!(f, " {}.", texts.join(", "))?;
                }
            }
        }
        match &self.after {
            Some(PostFiltered::Wait(why) | PostFiltered::Hopeless(why)) => write!(f, " {why}"),
            Some(PostFiltered::Preempt(_)) | None => Ok(()),
        }
    }
}

impl Diagnosis {
    /// Notes that a plugin refused the node at this position of the snapshot.
    pub(super) fn refuse(&mut self, at: usize, refusal: &Refusal) {
        self.plugins.insert(refusal.plugin);
        if !refusal.no.unresolvable {
            self.resolvable.push(at);
        }
        self.count(&refusal.no.reasons);
    }

    /// Notes that a plugin refused the pod before nodes were looked at.
    pub(super) fn refuse_all(&mut self, plugin: &'static str, no: &Rejection) {
        self.plugins.insert(plugin);
        self.whole = Some(no.reasons.join(", "));
        if !no.unresolvable {
            self.resolvable = (0..self.nodes).collect();
        }
    }

    /// Counts the reasons of one more node.
    pub(crate) fn count(&mut self, reasons: &[Cow<'static, str>]) {
        for reason in reasons {
            match self.reasons.get_mut(reason) {
                Some(count) => *count += 1,
                None => drop(self.reasons.insert(reason.clone(), 1)),
            }
        }
    }

    /// Counts one reason of several nodes.
    pub(crate) fn count_many(&mut self, reason: impl Into<Cow<'static, str>>, nodes: usize) {
        *self.reasons.entry(reason.into()).or_default() += nodes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(plugin: &'static str, no: Rejection) -> Refusal {
        Refusal { plugin, no }
    }

    #[test]
    fn a_diagnosis_reads_as_upstream() {
        let mut diagnosis = Diagnosis { nodes: 3, ..Diagnosis::default() };
        assert_eq!(Diagnosis::default().to_string(), "no nodes available to schedule pods");
        diagnosis.refuse(0, &refusal("a", Rejection::unschedulable("Insufficient cpu")));
        diagnosis.refuse(1, &refusal("b", Rejection::unresolvable("node(s) were unschedulable")));
        diagnosis.refuse(2, &refusal("b", Rejection::unresolvable("node(s) were unschedulable")));
        let text = "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.";
        assert_eq!(diagnosis.to_string(), text);
        assert_eq!(diagnosis.resolvable, [0]);
        diagnosis.after = Some(PostFiltered::Wait("preemption: not eligible due to preemptionPolicy=Never.".into()));
        assert_eq!(diagnosis.to_string(), format!("{text} preemption: not eligible due to preemptionPolicy=Never."));
    }

    #[test]
    fn a_pod_that_is_refused_as_a_whole_is_refused_by_each_node() {
        let mut diagnosis = Diagnosis { nodes: 2, ..Diagnosis::default() };
        diagnosis.refuse_all("a", &Rejection::unresolvable("it is wrong"));
        assert_eq!(diagnosis.to_string(), "0/2 nodes are available: it is wrong.");
        assert!(diagnosis.resolvable.is_empty());
        diagnosis.refuse_all("a", &Rejection::unschedulable("it is full"));
        assert_eq!(diagnosis.resolvable, [0, 1]);
    }
}
