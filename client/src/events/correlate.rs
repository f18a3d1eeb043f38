//! Decides what becomes of an event, as client-go's `EventCorrelator` does: the same event raises a count, many alike
//! are combined into one, and one object cannot flood the API server.

use std::collections::HashMap;
use std::hash::Hash;

use super::Occurrence;

/// client-go's limits: how many objects and events are remembered,
const REMEMBERED: usize = 4096;
/// how many alike (same object, reason; other message) within ten minutes before they are combined,
const ALIKE: usize = 10;
const ALIKE_WINDOW: f64 = 600.0;
/// and the burst of events per object, then one in five minutes.
const BURST: f64 = 25.0;
const PER_SECOND: f64 = 1.0 / 300.0;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Decision {
    /// Make an event object with this message.
    Create { message: String },
    /// Raise the count of an existing one.
    Raise(Seen),
    /// The object has too many events already.
    Drop,
}

/// An event object as it should be now.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Seen {
    pub(super) name: String,
    pub(super) message: String,
    pub(super) count: i32,
}

#[derive(Default)]
pub(super) struct Correlator {
    budgets: Recent<String, Budget>,
    groups: Recent<Group, Alike>,
    sent: Recent<(Group, String), Seen>,
}

/// Events that differ only in their message.
type Group = (String, &'static str, String);

struct Budget {
    tokens: f64,
    at: jiff::Timestamp,
}

#[derive(Default)]
struct Alike {
    messages: Vec<String>,
    last: Option<jiff::Timestamp>,
}

impl Correlator {
    pub(super) fn decide(&mut self, occurrence: &Occurrence) -> Decision {
        if !self.budget_allows(occurrence) {
            return Decision::Drop;
        }
        let message = self.aggregate(occurrence);
        let key = (group(occurrence), identity(&message, occurrence).to_owned());
        match self.sent.get(&key) {
            Some(seen) => {
                Decision::Raise(Seen { message, count: seen.count.saturating_add(1), name: seen.name.clone() })
            }
            None => Decision::Create { message },
        }
    }

    /// Remembers the object that now stands for this event.
    pub(super) fn sent(&mut self, occurrence: &Occurrence, decision: &Decision, name: String) {
        let (message, count) = match decision {
            Decision::Create { message } => (message.clone(), 1),
            Decision::Raise(seen) => (seen.message.clone(), seen.count),
            Decision::Drop => return,
        };
        let key = (group(occurrence), identity(&message, occurrence).to_owned());
        self.sent.insert(key, Seen { name, message, count });
    }

    fn budget_allows(&mut self, occurrence: &Occurrence) -> bool {
        let now = occurrence.at;
        let budget = self.budgets.entry(object(occurrence), || Budget { tokens: BURST, at: now });
        let passed = now.duration_since(budget.at).as_secs_f64().max(0.0);
        budget.tokens = (budget.tokens + passed * PER_SECOND).min(BURST);
        budget.at = now;
        if budget.tokens < 1.0 {
            return false;
        }
        budget.tokens -= 1.0;
        true
    }

    fn aggregate(&mut self, occurrence: &Occurrence) -> String {
        let alike = self.groups.entry(group(occurrence), Alike::default);
        let is_old = |last: jiff::Timestamp| occurrence.at.duration_since(last).as_secs_f64() > ALIKE_WINDOW;
        if alike.last.is_some_and(is_old) {
            alike.messages.clear();
        }
        alike.last = Some(occurrence.at);
        if alike.messages.contains(&occurrence.message) {
            return occurrence.message.clone();
        }
        if alike.messages.len() + 1 < ALIKE {
            alike.messages.push(occurrence.message.clone());
            return occurrence.message.clone();
        }
        format!("{COMBINED}{}", occurrence.message)
    }
}

const COMBINED: &str = "(combined from similar events): ";

/// Combined events are one event whatever their message.
fn identity<'a>(message: &'a str, occurrence: &Occurrence) -> &'a str {
    let is_combined = message.len() > occurrence.message.len() && message.starts_with(COMBINED);
    if is_combined { COMBINED } else { message }
}

fn object(occurrence: &Occurrence) -> String {
    let about = &occurrence.about;
    let source = &occurrence.source;
    let parts = [
        &source.component,
        &source.host,
        &about.kind,
        &about.namespace,
        &about.name,
        &about.uid,
        &about.field_path,
        &about.api_version,
    ];
    parts.map(|part| part.as_deref().unwrap_or_default()).join("/")
}

fn group(occurrence: &Occurrence) -> Group {
    (object(occurrence), occurrence.kind, occurrence.reason.clone())
}

/// A bounded memory: when full, the older half is forgotten.
struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<K: Eq + Hash, V> Recent<K, V> {
    fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= REMEMBERED / 2 && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    fn entry(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V
    where
        K: Clone,
    {
        if !self.young.contains_key(&key) {
            let value = self.old.remove(&key).unwrap_or_else(make);
            self.insert(key.clone(), value);
        }
        self.young.get_mut(&key).expect("inserted above")
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};
    use k8s_openapi::api::core::v1::ObjectReference;

    use super::*;

    fn occurrence(name: &str, message: &str, second: i64) -> Occurrence {
        let about = ObjectReference { kind: Some("Pod".into()), name: Some(name.into()), ..ObjectReference::default() };
        let at = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second);
        Occurrence {
            source: Default::default(),
            about,
            kind: "Warning",
            reason: "BackOff".into(),
            message: message.into(),
            at,
        }
    }

    fn decide(correlator: &mut Correlator, name: &str, message: &str, second: i64) -> Decision {
        let occurrence = occurrence(name, message, second);
        let decision = correlator.decide(&occurrence);
        correlator.sent(&occurrence, &decision, format!("event-{message}"));
        decision
    }

    #[test]
    fn the_same_event_raises_a_count() {
        let mut correlator = Correlator::default();
        assert_eq!(decide(&mut correlator, "web", "a", 0), Decision::Create { message: "a".into() });
        let raised = |count| Decision::Raise(Seen { name: "event-a".into(), message: "a".into(), count });
        assert_eq!(decide(&mut correlator, "web", "a", 1), raised(2));
        assert_eq!(correlator.decide(&occurrence("web", "a", 2)), raised(3));
        assert!(matches!(decide(&mut correlator, "other", "a", 2), Decision::Create { .. }));
    }

    #[test]
    fn many_alike_are_combined() {
        let mut correlator = Correlator::default();
        for number in 0..9 {
            assert!(matches!(decide(&mut correlator, "web", &number.to_string(), 0), Decision::Create { .. }));
        }
        let combined = Decision::Create { message: "(combined from similar events): 9".into() };
        assert_eq!(decide(&mut correlator, "web", "9", 0), combined);
        let Decision::Raise(seen) = decide(&mut correlator, "web", "10", 0) else { panic!("not combined") };
        assert_eq!((seen.count, seen.message.as_str()), (2, "(combined from similar events): 10"));
        assert_eq!(decide(&mut correlator, "web", "11", 10_000), Decision::Create { message: "11".into() });
    }

    #[test]
    fn one_object_cannot_flood_the_server() {
        let mut correlator = Correlator::default();
        for _ in 0..25 {
            assert_ne!(decide(&mut correlator, "web", "a", 0), Decision::Drop);
        }
        assert_eq!(decide(&mut correlator, "web", "a", 0), Decision::Drop);
        assert_ne!(decide(&mut correlator, "other", "a", 0), Decision::Drop);
        assert_ne!(decide(&mut correlator, "web", "a", 301), Decision::Drop);
        assert_eq!(decide(&mut correlator, "web", "a", 302), Decision::Drop);
    }

    #[test]
    fn memory_is_bounded() {
        let mut correlator = Correlator::default();
        for number in 0..20_000 {
            decide(&mut correlator, &format!("web-{number}"), "a", 0);
        }
        assert!(correlator.sent.young.len() + correlator.sent.old.len() <= REMEMBERED);
        assert!(correlator.budgets.young.len() + correlator.budgets.old.len() <= REMEMBERED);
    }
}
