//! Which fields a value has, and in which fields two values differ.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::set::{FieldSet, Node, Step};
use super::shape::{Shape, field_step, fields_of, is_declared, sorted_elements};
use crate::schema::SchemaRef;

/// The fields that a value sets: leaves, empty containers and elements of keyed lists and sets.
pub(super) fn field_set(value: &Value, schema: SchemaRef<'_>) -> FieldSet {
    set_by(value, Some(schema)).below
}

fn set_by(value: &Value, schema: Option<SchemaRef<'_>>) -> Node {
    match (Shape::of(schema, value), value) {
        (Shape::Fields(schema), Value::Object(fields)) if !fields.is_empty() => {
            let field = |(name, child): (&String, &Value)| {
                let (step, field) = field_step(schema, name);
                let mut node = set_by(child, field);
                node.member |= !is_declared(schema, name);
                (step, node)
            };
            Node { member: false, below: fields.iter().map(field).collect() }
        }
        (Shape::Elements { items, keys }, Value::Array(list)) if !list.is_empty() => {
            let element = |(step, found): (Step, Vec<&Value>)| {
                let below = if let [element] = found[..] { set_by(element, items).below } else { FieldSet::default() };
                (step, Node { member: true, below })
            };
            Node { member: false, below: sorted_elements(Some(value), items, keys).into_iter().map(element).collect() }
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

/// Compares an old object with a new one.
pub(super) fn compare(
    old: Option<&Map<String, Value>>,
    new: Option<&Map<String, Value>>,
    schema: SchemaRef<'_>,
) -> Comparison {
    let change = differ_fields(old, new, Some(schema));
    Comparison { written: change.written.below, removed: change.removed.below }
}

/// What changed at and below a place.
#[derive(Default)]
struct Change {
    written: Node,
    removed: Node,
}

impl Change {
    /// Takes in what changed at and below a step that comes after all others.
    fn push(&mut self, step: Step, change: Self) {
        if !change.removed.is_empty() {
            self.removed.below.push(step.clone(), change.removed);
        }
        self.written.below.push(step, change.written);
    }
}

fn differ(old: Option<&Value>, new: Option<&Value>, schema: Option<SchemaRef<'_>>) -> Change {
    let mut change = Change::default();
    match Shape::of_both(schema, old, new) {
        Shape::Leaf => change.written.member = old != new,
        Shape::Fields(schema) => change = differ_fields(fields_of(old), fields_of(new), schema),
        Shape::Elements { items, keys } => change = differ_elements(old, new, items, keys),
    }
    match (old, new) {
        (None, Some(_)) => change.written.member = true,
        (Some(_), None) => (change.written.member, change.removed.member) = (false, true),
        _ => {}
    }
    change
}

fn differ_fields(
    old: Option<&Map<String, Value>>,
    new: Option<&Map<String, Value>>,
    schema: Option<SchemaRef<'_>>,
) -> Change {
    let mut change = Change::default();
    let fields = |map: Option<_>| map.into_iter().flatten();
    side_by_side(fields(old), fields(new), |name, old, new| {
        let (step, schema) = field_step(schema, name);
        change.push(step, differ(old, new, schema));
    });
    change
}

fn differ_elements(old: Option<&Value>, new: Option<&Value>, items: Option<SchemaRef<'_>>, keys: &[String]) -> Change {
    let mut whole = Change::default();
    let (old, new) = (sorted_elements(old, items, keys), sorted_elements(new, items, keys));
    side_by_side(old, new, |step, old, new| {
        let change = match (old.as_deref().unwrap_or_default(), new.as_deref().unwrap_or_default()) {
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
        whole.push(step, change);
    });
    whole
}

/// Walks over two sorted sequences together: `each` gets a name with what the two have under it.
fn side_by_side<K: Ord, V>(
    old: impl IntoIterator<Item = (K, V)>,
    new: impl IntoIterator<Item = (K, V)>,
    mut each: impl FnMut(K, Option<V>, Option<V>),
) {
    let (mut old, mut new) = (old.into_iter().peekable(), new.into_iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (Some((ours, _)), Some((theirs, _))) => ours.cmp(theirs),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return,
        };
        let ours = if order == Ordering::Greater { None } else { old.next() };
        let theirs = if order == Ordering::Less { None } else { new.next() };
        match (ours, theirs) {
            (Some((name, ours)), theirs) => each(name, Some(ours), theirs.map(|(_, theirs)| theirs)),
            (None, Some((name, theirs))) => each(name, None, Some(theirs)),
            (None, None) => {}
        }
    }
}
