//! Sums by domain: a topology key and one of its values.

use std::collections::HashMap;

use crate::framework::NodeInfo;

#[derive(Clone, Debug, Default)]
pub(super) struct Counts(HashMap<String, HashMap<String, i64>>);

impl Counts {
    /// Adds to the domain that the node is in; not to any when it has no such label.
    pub(super) fn add(&mut self, key: &str, node: &NodeInfo, amount: i64) {
        if let Some(value) = node.labels().get(key) {
            self.add_to(key, value, amount);
        }
    }

    /// Adds `sign` times what `other` has, which is little.
    pub(super) fn merge(&mut self, other: &Self, sign: i64) {
        for (key, values) in &other.0 {
            values.iter().for_each(|(value, amount)| self.add_to(key, value, sign * amount));
        }
    }

    fn add_to(&mut self, key: &str, value: &str, amount: i64) {
        if amount == 0 {
            return;
        }
        if !self.0.contains_key(key) {
            self.0.insert(key.to_owned(), HashMap::new());
        }
        let Some(values) = self.0.get_mut(key) else { return };
        match values.get_mut(value) {
            Some(sum) if sum.saturating_add(amount) == 0 => {
                values.remove(value);
                if values.is_empty() {
                    self.0.remove(key);
                }
            }
            Some(sum) => *sum = sum.saturating_add(amount),
            None => {
                values.insert(value.to_owned(), amount);
            }
        }
    }

    /// The sum of the domain that the node is in.
    pub(super) fn get(&self, key: &str, node: &NodeInfo) -> i64 {
        sum_of(key, self.0.get(key), node)
    }

    /// The sums of all domains that the node is in.
    pub(super) fn sums<'a>(&'a self, node: &'a NodeInfo) -> impl Iterator<Item = i64> + 'a {
        self.0.iter().map(move |(key, values)| sum_of(key, Some(values), node))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn sum_of(key: &str, values: Option<&HashMap<String, i64>>, node: &NodeInfo) -> i64 {
    let sum = || values?.get(node.labels().get(key)?).copied();
    sum().unwrap_or(0)
}
