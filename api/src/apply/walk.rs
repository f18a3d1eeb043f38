//! Which fields a value has, and in which fields two values differ.

use std::collections::BTreeMap;

use serde_json::Value;

use super::set::{FieldSet, Node, Step};
use super::shape::{Shape, elements, field_schema, fields_of, is_declared};
use crate::schema::SchemaRef;

/// The fields that a value sets: leaves, empty containers and elements of keyed lists and sets.
pub(super) fn field_set(value: &Value, schema: SchemaRef<'_>) -> FieldSet {
    set_by(value, Some(schema)).below
}

fn set_by(value: &Value, schema: Option<SchemaRef<'_>>) -> Node {
    match (Shape::of(schema, value), value) {
        (Shape::Fields(schema), Value::Object(fields)) if !fields.is_empty() => {
            let field = |(name, child): (&String, &Value)| {
                let mut node = set_by(child, field_schema(schema, name));
                node.member |= !is_declared(schema, name);
                (Step::Field(name.clone()), node)
            };
            Node { member: false, below: fields.iter().map(field).collect() }
        }
        (Shape::Elements { items, keys }, Value::Array(list)) if !list.is_empty() => {
            let element = |(step, found): (Step, Vec<&Value>)| {
                let below = if let [element] = found[..] { set_by(element, items).below } else { FieldSet::default() };
                (step, Node { member: true, below })
            };
            Node { member: false, below: elements(Some(value), items, keys).into_iter().map(element).collect() }
        }
        _ => Node { member: true, below: FieldSet::default() },
    }
}

/// In which fields a new value differs from an old one.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// Fields whose value the new object decides: it added or modified them.
    pub(super) written: FieldSet,
    pub(super) removed: FieldSet,
}

/// Compares an old value with a new one.
pub(super) fn compare(old: &Value, new: &Value, schema: SchemaRef<'_>) -> Comparison {
    let change = differ(Some(old), Some(new), Some(schema));
    Comparison { written: change.written.below, removed: change.removed.below }
}

/// What changed at and below a place.
#[derive(Default)]
struct Change {
    written: Node,
    removed: Node,
}

impl Change {
    /// The same, below the steps that lead to each of these.
    fn below(changes: impl Iterator<Item = (Step, Self)>) -> Self {
        let (mut written, mut removed) = (Vec::new(), Vec::new());
        for (step, change) in changes {
            if !change.removed.is_empty() {
                removed.push((step.clone(), change.removed));
            }
            written.push((step, change.written));
        }
        let node = |nodes: Vec<(Step, Node)>| Node { member: false, below: nodes.into_iter().collect() };
        Self { written: node(written), removed: node(removed) }
    }
}

fn differ(old: Option<&Value>, new: Option<&Value>, schema: Option<SchemaRef<'_>>) -> Change {
    let mut change = Change::default();
    match Shape::of_both(schema, old, new) {
        Shape::Leaf => change.written.member = old != new,
        Shape::Fields(schema) => change = differ_fields(old, new, schema),
        Shape::Elements { items, keys } => change = differ_elements(old, new, items, keys),
    }
    match (old, new) {
        (None, Some(_)) => change.written.member = true,
        (Some(_), None) => (change.written.member, change.removed.member) = (false, true),
        _ => {}
    }
    change
}

fn differ_fields(old: Option<&Value>, new: Option<&Value>, schema: Option<SchemaRef<'_>>) -> Change {
    let (old, new) = (fields_of(old), fields_of(new));
    let names = old.into_iter().flatten().map(|(name, _)| name);
    let added = new.into_iter().flatten().map(|(name, _)| name);
    let added = added.filter(|name| !old.is_some_and(|old| old.contains_key(*name)));
    Change::below(names.chain(added).map(|name| {
        let (old, new) = (old.and_then(|fields| fields.get(name)), new.and_then(|fields| fields.get(name)));
        (Step::Field(name.clone()), differ(old, new, field_schema(schema, name)))
    }))
}

fn differ_elements(old: Option<&Value>, new: Option<&Value>, items: Option<SchemaRef<'_>>, keys: &[String]) -> Change {
    let mut places: BTreeMap<Step, [Vec<&Value>; 2]> = BTreeMap::new();
    for (side, list) in [old, new].into_iter().enumerate() {
        for (step, found) in elements(list, items, keys) {
            places.entry(step).or_default()[side] = found;
        }
    }
    Change::below(places.into_iter().map(|(step, [old, new])| {
        let change = match (&old[..], &new[..]) {
            ([], [new]) => differ(None, Some(new), items),
            ([old], []) => differ(Some(old), None, items),
            ([old], [new]) => differ(Some(old), Some(new), items),
            // Elements that occur more than once are owned together.
            (old, new) => {
                let mut change = Change::default();
                change.written.member = !new.is_empty() && old != new;
                change.removed.member = new.is_empty();
                change
            }
        };
        (step, change)
    }))
}
