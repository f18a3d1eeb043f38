//! Removing what a manager no longer applies, unless somebody else owns it.

use serde_json::{Map, Value};

use super::managers::Managers;
use super::set::{FieldSet, Step};
use super::shape::{Shape, element_step, field_schema};
use super::walk::field_set;
use crate::schema::SchemaRef;

/// Removes from `merged` the fields that the last configuration of a manager set (`last`) and that no one owns now;
/// `managers` already holds what it applies this time.
pub(super) fn prune(merged: Value, managers: &Managers, last: &FieldSet, schema: SchemaRef<'_>) -> Value {
    if last.is_empty() {
        return merged;
    }
    let last = with_named_fields(last, Some(schema));
    let all = fields_in(&merged, schema);
    let without_last = remove(&merged, &last, schema);
    // What others own comes back ...
    let mut kept = FieldSet::default();
    managers.values().for_each(|owner| kept.absorb(owner.set.clone()));
    name_fields(&mut kept, Some(schema));
    kept.absorb(fields_in(&without_last, schema));
    let without_unowned = remove(&merged, &all.clone().difference(&kept), schema);
    // ... and so does what the last configuration did not set.
    let gone = all.difference(&fields_in(&without_unowned, schema)).intersection(&last);
    remove(&merged, &gone, schema)
}

fn fields_in(value: &Value, schema: SchemaRef<'_>) -> FieldSet {
    with_named_fields(&field_set(value, schema), Some(schema))
}

/// The set with every struct field on the way as a member.
fn with_named_fields(set: &FieldSet, schema: Option<SchemaRef<'_>>) -> FieldSet {
    let mut named = set.clone();
    name_fields(&mut named, schema);
    named
}

fn name_fields(set: &mut FieldSet, schema: Option<SchemaRef<'_>>) {
    for (step, node) in set.nodes_mut() {
        let below = match step {
            Step::Field(name) => {
                node.member |= super::shape::is_declared(schema, name) && !node.below.is_empty();
                field_schema(schema, name)
            }
            _ => schema.and_then(SchemaRef::items),
        };
        name_fields(&mut node.below, below);
    }
}

/// The value without these fields and elements. Maps and lists that become empty become null: whoever owns them as
/// such goes on owning them.
fn remove(value: &Value, set: &FieldSet, schema: SchemaRef<'_>) -> Value {
    remove_from(value, set, Some(schema))
}

fn remove_from(value: &Value, set: &FieldSet, schema: Option<SchemaRef<'_>>) -> Value {
    if set.is_empty() {
        return value.clone();
    }
    match (Shape::of(schema, value), value) {
        (Shape::Fields(schema), Value::Object(fields)) => {
            let kept = fields.iter().filter_map(|(name, child)| {
                let child = remove_at(child, set, &Step::Field(name.clone().into()), field_schema(schema, name))?;
                Some((name.clone(), child))
            });
            let kept: Map<String, Value> = kept.collect();
            if kept.is_empty() && !fields.is_empty() { Value::Null } else { Value::Object(kept) }
        }
        (Shape::Elements { items, keys }, Value::Array(list)) => {
            let kept = list.iter().filter_map(|element| match element_step(element, items, keys) {
                Ok(step) => remove_at(element, set, &step, items),
                Err(_) => Some(element.clone()),
            });
            let kept: Vec<Value> = kept.collect();
            if kept.is_empty() && !list.is_empty() { Value::Null } else { Value::Array(kept) }
        }
        _ => value.clone(),
    }
}

fn remove_at(child: &Value, set: &FieldSet, step: &Step, schema: Option<SchemaRef<'_>>) -> Option<Value> {
    match set.node(step) {
        None => Some(child.clone()),
        Some(node) if node.member => None,
        Some(node) => Some(remove_from(child, &node.below, schema)),
    }
}
