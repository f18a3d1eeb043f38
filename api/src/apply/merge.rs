//! Merging an applied configuration into the live object: the configuration decides what it names, everything else stays.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::set::Step;
use super::shape::{Shape, elements, field_schema, fields_of};
use crate::schema::SchemaRef;

/// Merges `applied` into `live`.
pub(super) fn merge(live: &Value, applied: &Value, schema: SchemaRef<'_>) -> Value {
    merge_value(Some(live), Some(applied), Some(schema)).unwrap_or_else(|| Value::Object(Map::new()))
}

fn merge_value(live: Option<&Value>, applied: Option<&Value>, schema: Option<SchemaRef<'_>>) -> Option<Value> {
    let Some(applied) = applied else { return live.cloned() };
    match Shape::of_both(schema, live, Some(applied)) {
        Shape::Leaf => Some(applied.clone()),
        // A null leaves the elements of others alone.
        _ if applied.is_null() => live.cloned(),
        Shape::Fields(schema) => Some(Value::Object(merge_fields(live, applied, schema))),
        Shape::Elements { items, keys } => Some(Value::Array(merge_elements(live, applied, items, keys))),
    }
}

fn merge_fields(live: Option<&Value>, applied: &Value, schema: Option<SchemaRef<'_>>) -> Map<String, Value> {
    let mut merged = fields_of(live).cloned().unwrap_or_default();
    for (name, value) in fields_of(Some(applied)).into_iter().flatten() {
        let old = merged.remove(name);
        if let Some(new) = merge_value(old.as_ref(), Some(value), field_schema(schema, name)) {
            merged.insert(name.clone(), new);
        }
    }
    merged
}

/// Merges lists of elements: those that both have merge, in the order of the configuration.
fn merge_elements(live: Option<&Value>, applied: &Value, items: Option<SchemaRef<'_>>, keys: &[String]) -> Vec<Value> {
    let live = elements(live, items, keys);
    let applied = elements(Some(applied), items, keys);
    let mut merged = Vec::with_capacity(live.len() + applied.len());
    for (left, right) in merge_order(&steps_of(&live), &steps_of(&applied)) {
        let old = left.map(|at| live[at].1.as_slice()).unwrap_or_default();
        let Some(right) = right else {
            merged.extend(old.iter().map(|element| (*element).clone()));
            continue;
        };
        // Of elements that occur more than once, the configuration's replaces all.
        let old = if let [one] = old { Some(*one) } else { None };
        merged.extend(applied[right].1.iter().filter_map(|new| merge_value(old, Some(new), items)));
    }
    merged
}

fn steps_of<'s>(elements: &'s [(Step, Vec<&Value>)]) -> Vec<&'s Step> {
    elements.iter().map(|(step, _)| step).collect()
}

/// The order of merged elements, as positions in the live list and in the configuration. Elements of the configuration
/// keep its order, elements of the live list keep theirs, and they interleave as in the live list where that is possible.
fn merge_order(live: &[&Step], applied: &[&Step]) -> Vec<(Option<usize>, Option<usize>)> {
    let place: BTreeMap<&Step, usize> = live.iter().enumerate().map(|(at, step)| (*step, at)).collect();
    let in_applied: BTreeSet<&Step> = applied.iter().copied().collect();
    let mut shared = applied.iter().copied().filter(|step| place.contains_key(step));
    let mut next_shared = shared.next();
    let mut merged = BTreeSet::new();
    let mut order = Vec::with_capacity(live.len() + applied.len());
    let (mut l, mut r) = (0, 0);
    while l < live.len() || r < applied.len() {
        if let (Some(left), Some(right)) = (live.get(l), applied.get(r)) {
            if left == right {
                order.push((Some(l), Some(r)));
                merged.insert(*left);
                (l, r) = (l + 1, r + 1);
                next_shared = shared.next();
                continue;
            }
            // Shared, but the configuration wants another one first: its turn comes with the configuration's.
            if in_applied.contains(left) && next_shared.is_some_and(|next| next != *left) {
                l += 1;
                continue;
            }
        }
        if let Some(left) = live.get(l) {
            if !in_applied.contains(left) {
                order.push((Some(l), None));
                l += 1;
                continue;
            }
            if merged.contains(left) {
                l += 1;
            }
        }
        let Some(right) = applied.get(r) else {
            // What remains of the live list has been merged already.
            l += 1;
            continue;
        };
        order.push((place.get(right).copied(), Some(r)));
        merged.insert(*right);
        r += 1;
        if next_shared == Some(right) {
            next_shared = shared.next();
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_interleave_as_the_reference_does() {
        let cases = [
            ("ab", "ab", "ab"),
            ("abc", "ca", "bca"),
            ("abc", "d", "abcd"),
            ("abc", "bd", "abcd"),
            ("", "ab", "ab"),
            ("ab", "ba", "ba"),
            ("abcd", "xcya", "bxcdya"),
        ];
        for (live, applied, want) in cases {
            let steps = |text: &str| text.chars().map(|c| Step::Value(c.to_string())).collect::<Vec<_>>();
            let (live_steps, applied_steps) = (steps(live), steps(applied));
            let order = merge_order(&live_steps.iter().collect::<Vec<_>>(), &applied_steps.iter().collect::<Vec<_>>());
            let got: String = order
                .into_iter()
                .filter_map(|(l, r)| r.and_then(|r| applied.chars().nth(r)).or_else(|| live.chars().nth(l?)))
                .collect();
            assert_eq!(got, want, "{applied} into {live}");
        }
    }
}
