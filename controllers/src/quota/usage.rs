//! What is used of the names that one quota limits.

use api::Object;
use api::quota::{Amounts, Evaluator, Measure, add_all};
use facts::quantity::{Format, Quantity};
use jiff::Timestamp;

/// The sum over all objects in a quota's scope.
pub(super) struct Usage<'a> {
    quota: &'a Object,
    hard: &'a Amounts,
    now: Timestamp,
    /// What could be counted.
    pub(super) used: Amounts,
    /// When the sum will be another though no object changes.
    pub(super) changes: Option<Timestamp>,
}

impl<'a> Usage<'a> {
    pub(super) fn new(quota: &'a Object, hard: &'a Amounts, now: Timestamp) -> Self {
        Self { quota, hard, now, used: Amounts::new(), changes: None }
    }

    /// Adds the objects of one evaluator, which are only looked at if the quota limits something of them.
    pub(super) fn count(&mut self, evaluator: Evaluator<'_>, objects: impl FnOnce() -> Vec<Measure>) {
        let names: Vec<&String> = self.hard.keys().filter(|name| evaluator.counts(name)).collect();
        if names.is_empty() {
            return;
        }
        let mut total = Amounts::new();
        for measure in objects().iter().filter(|measure| measure.is_in_scope(self.quota)) {
            add_all(&mut total, &measure.usage(self.now));
            self.changes = self.changes.into_iter().chain(measure.ends(self.now)).min();
        }
        for name in names {
            let amount = total.get(name).copied().unwrap_or_default();
            *self.used.entry(name.clone()).or_default() += amount;
        }
    }

    /// Adds the numbers of plain objects; `None` is a number that nobody knows (yet).
    pub(super) fn count_plain(&mut self, number: impl Fn(&str) -> Option<usize>) {
        for name in self.hard.keys() {
            let Some(number) = super::plain_kind(name).and_then(|kind| number(&kind)) else { continue };
            // No scope covers plain objects.
            let number = if Measure::default().is_in_scope(self.quota) { number } else { 0 };
            let number = i64::try_from(number).unwrap_or(i64::MAX);
            self.used.insert(name.clone(), Quantity::new(number, Format::DecimalSi));
        }
    }
}

#[cfg(test)]
mod tests {
    use api::quota::amounts;
    use k8s_openapi::serde_json::{Value, json};

    use super::*;

    fn object(tree: Value) -> Object {
        Object::from_value(tree).unwrap()
    }

    fn check(quota: Value, expected: Value) {
        let quota = object(quota);
        let hard = amounts(quota.get(&["spec", "hard"]));
        let mut usage = Usage::new(&quota, &hard, Timestamp::UNIX_EPOCH);
        let pod = |cpu: &str| {
            let pod = json!({ "spec": { "containers": [{ "resources": { "requests": { "cpu": cpu } } }] } });
            Evaluator::Pods.measure(&object(pod))
        };
        usage.count(Evaluator::Pods, || vec![pod("500m"), pod("1")]);
        usage.count(Evaluator::Services, Vec::new);
        usage.count_plain(|kind| (kind == "secrets").then_some(3));
        let used = usage.used.into_iter().map(|(name, amount)| (name, json!(amount.to_string())));
        assert_eq!(Value::Object(used.collect()), expected);
    }

    #[test]
    fn every_limited_name_that_can_be_counted_has_a_sum() {
        let hard =
            json!({ "cpu": "5", "pods": "5", "services": "1", "secrets": "9", "count/widgets.example.com": "1" });
        let used = json!({ "cpu": "1500m", "pods": "2", "services": "0", "secrets": "3" });
        check(json!({ "spec": { "hard": hard } }), used);
    }

    #[test]
    fn what_no_scope_covers_is_not_counted() {
        let spec = json!({ "hard": { "pods": "5", "count/secrets": "1" }, "scopes": ["BestEffort"] });
        check(json!({ "spec": spec }), json!({ "pods": "0", "count/secrets": "0" }));
    }
}
