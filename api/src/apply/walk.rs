//! Which fields a value has, and in which fields two values differ.

use std::collections::BTreeSet;

use serde_json::Value;

use super::set::{FieldSet, Step};
use super::shape::{Shape, elements, field_schema, fields_of, is_declared};
use crate::schema::SchemaRef;

/// The fields that a value sets: leaves, empty containers and elements of keyed lists and sets.
pub(super) fn field_set(value: &Value, schema: SchemaRef<'_>) -> FieldSet {
    let mut set = FieldSet::default();
    collect(value, Some(schema), &mut Vec::new(), &mut set);
    set
}

fn collect(value: &Value, schema: Option<SchemaRef<'_>>, path: &mut Vec<Step>, set: &mut FieldSet) {
    match (Shape::of(schema, value), value) {
        (Shape::Fields(schema), Value::Object(fields)) if !fields.is_empty() => {
            for (name, child) in fields {
                path.push(Step::Field(name.clone()));
                collect(child, field_schema(schema, name), path, set);
                if !is_declared(schema, name) {
                    set.insert(path);
                }
                path.pop();
            }
        }
        (Shape::Elements { items, keys }, Value::Array(list)) if !list.is_empty() => {
            for (step, found) in elements(Some(value), items, keys) {
                path.push(step);
                if let [element] = found[..] {
                    collect(element, items, path, set);
                }
                set.insert(path);
                path.pop();
            }
        }
        _ => set.insert(path),
    }
}

/// In which fields a new value differs from an old one.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub(super) added: FieldSet,
    pub(super) modified: FieldSet,
    pub(super) removed: FieldSet,
}

impl Comparison {
    /// Fields whose value the new object decides.
    pub(super) fn written(&self) -> FieldSet {
        self.modified.clone().union(&self.added)
    }
}

/// Compares an old value with a new one.
pub(super) fn compare(old: &Value, new: &Value, schema: SchemaRef<'_>) -> Comparison {
    let mut comparison = Comparison::default();
    differ(Some(old), Some(new), Some(schema), &mut Vec::new(), &mut comparison);
    comparison
}

fn differ(
    old: Option<&Value>,
    new: Option<&Value>,
    schema: Option<SchemaRef<'_>>,
    path: &mut Vec<Step>,
    out: &mut Comparison,
) {
    match Shape::of_both(schema, old, new) {
        Shape::Leaf => {
            if let (Some(old), Some(new)) = (old, new)
                && old != new
            {
                out.modified.insert(path);
            }
        }
        Shape::Fields(schema) => differ_fields(old, new, schema, path, out),
        Shape::Elements { items, keys } => differ_elements((old, new), items, keys, path, out),
    }
    match (old, new) {
        (None, Some(_)) => out.added.insert(path),
        (Some(_), None) => out.removed.insert(path),
        _ => {}
    }
}

fn differ_fields(
    old: Option<&Value>,
    new: Option<&Value>,
    schema: Option<SchemaRef<'_>>,
    path: &mut Vec<Step>,
    out: &mut Comparison,
) {
    let (old, new) = (fields_of(old), fields_of(new));
    let names: BTreeSet<&String> = old.into_iter().chain(new).flat_map(|fields| fields.keys()).collect();
    for name in names {
        path.push(Step::Field(name.clone()));
        let (old, new) = (old.and_then(|fields| fields.get(name)), new.and_then(|fields| fields.get(name)));
        differ(old, new, field_schema(schema, name), path, out);
        path.pop();
    }
}

fn differ_elements(
    lists: (Option<&Value>, Option<&Value>),
    items: Option<SchemaRef<'_>>,
    keys: &[String],
    path: &mut Vec<Step>,
    out: &mut Comparison,
) {
    let (old, new) = (elements(lists.0, items, keys), elements(lists.1, items, keys));
    let old: std::collections::BTreeMap<Step, Vec<&Value>> = old.into_iter().collect();
    let new: std::collections::BTreeMap<Step, Vec<&Value>> = new.into_iter().collect();
    let steps: BTreeSet<&Step> = old.keys().chain(new.keys()).collect();
    for step in steps {
        path.push(step.clone());
        let (old, new) = (old.get(step).map(Vec::as_slice), new.get(step).map(Vec::as_slice));
        match (old, new) {
            (None, Some([new])) => differ(None, Some(new), items, path, out),
            (Some([old]), None) => differ(Some(old), None, items, path, out),
            (Some([old]), Some([new])) => differ(Some(old), Some(new), items, path, out),
            // Elements that occur more than once are owned together.
            (None, _) => out.added.insert(path),
            (_, None) => out.removed.insert(path),
            (old, new) if old != new => out.modified.insert(path),
            _ => {}
        }
        path.pop();
    }
}
