//! What a namespace says about its deletion, in upstream's words.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::NamespaceCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What an attempt to empty a namespace met.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) discovery: Option<String>,
    pub(super) failures: Vec<String>,
    remaining: BTreeMap<String, usize>,
    finalizers: BTreeMap<String, usize>,
}

impl Findings {
    pub(super) fn add(&mut self, kind: &str, count: usize, finalizers: BTreeMap<String, usize>) {
        if count > 0 {
            self.remaining.insert(kind.to_owned(), count);
        }
        for (finalizer, count) in finalizers {
            *self.finalizers.entry(finalizer).or_default() += count;
        }
    }

    /// Nothing is left and nothing went wrong.
    pub(super) fn is_empty(&self) -> bool {
        self.discovery.is_none() && self.failures.is_empty() && self.remaining.is_empty()
    }

    /// Objects of this kind, and nothing else, keep the namespace.
    pub(super) fn is_only(&self, kind: &str) -> bool {
        self.discovery.is_none() && self.failures.is_empty() && self.remaining.keys().all(|known| known == kind)
    }

    pub(super) fn summary(&self) -> String {
        let parts = self.discovery.iter().cloned().chain(self.failures.iter().cloned());
        let remaining = self.remaining.iter().map(|(kind, count)| format!("{kind} has {count} resource instances"));
        parts.chain(remaining).collect::<Vec<_>>().join(", ")
    }

    fn conditions(&self) -> [(&'static str, bool, &'static str, String); 5] {
        let join = |counts: &BTreeMap<String, usize>, verb: &str| {
            counts
                .iter()
                .map(|(name, count)| format!("{name} {verb} {count} resource instances"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let or = |is_bad: bool, bad: (&'static str, String), good: (&'static str, &str)| {
            if is_bad { bad } else { (good.0, good.1.to_owned()) }
        };
        let discovery = or(
            self.discovery.is_some(),
            ("DiscoveryFailed", self.discovery.clone().unwrap_or_default()),
            ("ResourcesDiscovered", "All resources successfully discovered"),
        );
        let content = or(
            !self.failures.is_empty(),
            (
                "ContentDeletionFailed",
                format!(
                    "Failed to delete all resource types, {} remaining: {}",
                    self.failures.len(),
                    self.failures.join(", ")
                ),
            ),
            ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
        );
        let remaining = or(
            !self.remaining.is_empty(),
            ("SomeResourcesRemain", format!("Some resources are remaining: {}", join(&self.remaining, "has"))),
            ("ContentRemoved", "All content successfully removed"),
        );
        let finalizers = or(
            !self.finalizers.is_empty(),
            (
                "SomeFinalizersRemain",
                format!("Some content in the namespace has finalizers remaining: {}", join(&self.finalizers, "in")),
            ),
            ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
        );
        [
            ("NamespaceDeletionDiscoveryFailure", self.discovery.is_some(), discovery.0, discovery.1),
            (
                "NamespaceDeletionGroupVersionParsingFailure",
                false,
                "ParsedGroupVersions",
                "All legacy kube types successfully parsed".to_owned(),
            ),
            ("NamespaceDeletionContentFailure", !self.failures.is_empty(), content.0, content.1),
            ("NamespaceContentRemaining", !self.remaining.is_empty(), remaining.0, remaining.1),
            ("NamespaceFinalizersRemaining", !self.finalizers.is_empty(), finalizers.0, finalizers.1),
        ]
    }
}

/// The conditions after this attempt; the transition time moves only with the status.
pub(super) fn updated(
    mut all: Vec<NamespaceCondition>,
    findings: &Findings,
    now: Timestamp,
) -> Vec<NamespaceCondition> {
    for (kind, is_true, reason, message) in findings.conditions() {
        let status = if is_true { "True" } else { "False" };
        let known = all.iter().position(|condition| condition.type_ == kind);
        let since = known.map(|at| &all[at]).filter(|known| known.status == status);
        let last_transition_time = since.and_then(|known| known.last_transition_time.clone()).or(Some(Time(now)));
        let fresh = NamespaceCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time,
        };
        match known {
            Some(at) => all[at] = fresh,
            None => all.push(fresh),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_tell_what_keeps_the_namespace() {
        let mut findings = Findings::default();
        findings.add("pods", 2, BTreeMap::from([("example.com/hold".to_owned(), 1)]));
        findings.add("secrets", 0, BTreeMap::new());
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let conditions = updated(Vec::new(), &findings, now);
        let of = |kind: &str| conditions.iter().find(|condition| condition.type_ == kind).unwrap();
        let remaining = of("NamespaceContentRemaining");
        assert_eq!(remaining.message.as_deref(), Some("Some resources are remaining: pods has 2 resource instances"));
        assert_eq!(remaining.status, "True");
        assert_eq!(of("NamespaceDeletionContentFailure").status, "False");
        assert_eq!(of("NamespaceFinalizersRemaining").reason.as_deref(), Some("SomeFinalizersRemain"));
        assert!(!findings.is_empty() && findings.is_only("pods") && !findings.is_only("secrets"));
        let later = updated(conditions.clone(), &findings, "2026-01-02T00:00:00Z".parse().unwrap());
        assert_eq!(later, conditions, "nothing changed, not even a time");
    }
}
