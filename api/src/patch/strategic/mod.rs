//! Strategic merge patch: lists merge by key as the schema says, and directives steer the merge.
//!
//! | directive | meaning |
//! |---|---|
//! | `$patch: replace` in a map | the rest of the map replaces what is there |
//! | `$patch: replace` as an element | the other elements replace the list |
//! | `$patch: delete` in a map / an element | empties the map / removes the element with this key |
//! | `$retainKeys: [..]` | other fields of the map are removed |
//! | `$deleteFromPrimitiveList/x: [..]` | removes these values from the list `x` |
//! | `$setElementOrder/x: [..]` | orders the list `x` |

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::go::{go_format, go_format_map, go_type, json_type, parse};
use super::order::{Identity, normalize};
use super::{MAX_DEPTH, PatchError, deeper_than};
use crate::schema::SchemaRef;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

type Object = Map<String, Value>;

/// Applies a strategic merge patch to an object of this schema.
pub fn strategic_merge(doc: Value, patch: &[u8], schema: SchemaRef<'_>) -> Result<Value, PatchError> {
    let patch = match parse(patch).map_err(PatchError::Malformed)? {
        Value::Object(patch) => Value::Object(patch),
        Value::Null => Value::Object(Object::new()),
        other => {
            let found = json_type(&other);
            return Err(PatchError::Malformed(format!(
                "json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"
            )));
        }
    };
    if deeper_than(&patch, MAX_DEPTH) {
        return Err(PatchError::Malformed("json: exceeded max depth".to_owned()));
    }
    let Value::Object(patch) = patch else { return Ok(doc) };
    let original = if let Value::Object(doc) = doc { doc } else { Object::new() };
    merge_maps(original, patch, Some(schema)).map(Value::Object)
}

fn merge_maps(original: Object, mut patch: Object, schema: Option<SchemaRef<'_>>) -> Result<Object, PatchError> {
    match patch.get(PATCH) {
        None => {}
        Some(Value::String(directive)) if directive == "replace" => {
            patch.remove(PATCH);
            return Ok(without_directives(patch));
        }
        Some(Value::String(directive)) if directive == "delete" => return Ok(Object::new()),
        Some(other) => return Err(unknown_directive(other, &patch)),
    }
    let mut merged = original;
    retain_keys(&mut merged, &mut patch)?;
    set_orders(&mut merged, &mut patch, schema)?;
    delete_from_lists(&mut merged, &mut patch)?;
    for (name, value) in patch {
        merge_field(&mut merged, name, value, schema)?;
    }
    Ok(merged)
}

/// Merges one field that is no directive.
fn merge_field(
    merged: &mut Object,
    name: String,
    value: Value,
    schema: Option<SchemaRef<'_>>,
) -> Result<(), PatchError> {
    if value.is_null() {
        merged.remove(&name);
        return Ok(());
    }
    let field = schema.and_then(|schema| schema.field(&name));
    let strategy = field.map(|field| &field.node().patch);
    let replaces = strategy.is_some_and(|strategy| strategy.replace);
    let new = match (merged.remove(&name), value) {
        (Some(Value::Object(old)), Value::Object(new)) if !replaces => Value::Object(merge_maps(old, new, field)?),
        (Some(Value::Array(old)), Value::Array(new)) if strategy.is_some_and(|strategy| strategy.merge) => {
            let key = strategy.and_then(|strategy| strategy.merge_key.as_deref());
            Value::Array(merge_lists(old, new, key, field.and_then(SchemaRef::items))?)
        }
        (Some(Value::Object(_)), Value::Object(new)) => Value::Object(new),
        (Some(Value::Array(_)), Value::Array(new)) => Value::Array(new),
        // A new value, or one of another type.
        (_, Value::Object(new)) => Value::Object(added_map(new)),
        (_, new) => cleaned(new),
    };
    merged.insert(name, new);
    Ok(())
}

/// `$retainKeys`: removes the fields that it does not list; the patch may only set fields that it lists.
fn retain_keys(merged: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let bad = || PatchError::Directive("invalid patch format of retainKeys".to_owned());
    let keys = keys.as_array().ok_or_else(bad)?;
    let listed = |name: &str| keys.iter().any(|key| key == name);
    for (name, value) in patch.iter() {
        if !value.is_null() && !is_list_directive(name) && !listed(name) {
            return Err(bad());
        }
    }
    merged.retain(|name, _| listed(name));
    Ok(())
}

/// `$setElementOrder/x`: merges the list `x` of the patch, if there is one, and orders the result.
fn set_orders(merged: &mut Object, patch: &mut Object, schema: Option<SchemaRef<'_>>) -> Result<(), PatchError> {
    for (directive, order) in take_directives(patch, SET_ORDER) {
        let name = &directive[SET_ORDER.len()..];
        let order = into_list(order)?;
        let server = merged.get(name).cloned().map(into_list).transpose()?;
        let patched = patch.remove(name).map(into_list).transpose()?;
        let field = schema.and_then(|schema| schema.field(name));
        let strategy = field.map(|field| &field.node().patch);
        let key = strategy.and_then(|strategy| strategy.merge_key.as_deref());
        check_order(patched.as_deref().unwrap_or_default(), &order, key)?;
        let server_order = server.clone().unwrap_or_default();
        let list = match (server, patched) {
            (None, None) => continue,
            (Some(server), None) => server,
            (None, Some(patched)) => added_list(patched),
            (Some(server), Some(patched)) if strategy.is_some_and(|strategy| strategy.merge) => {
                merge_lists(server, patched, key, field.and_then(SchemaRef::items))?
            }
            (Some(_), Some(patched)) => patched,
        };
        require_key(&list, key)?;
        merged.insert(name.to_owned(), Value::Array(normalize(list, &order, &server_order, Identity(key))));
    }
    Ok(())
}

/// The elements of the patch must occur in the given order.
fn check_order(patched: &[Value], order: &[Value], key: Option<&str>) -> Result<(), PatchError> {
    if order.is_empty() {
        return Ok(());
    }
    require_key(order, key)?;
    let mut rest = order.iter();
    for element in patched.iter().filter(|element| element.get(PATCH).is_none()) {
        require_key(std::slice::from_ref(element), key)?;
        if !rest.any(|place| Identity(key).same(place, element)) {
            let (patched, order) = (go_format(&patched.to_vec().into()), go_format(&order.to_vec().into()));
            return Err(PatchError::Directive(format!(
                "The order in patch list:\n{patched}\n doesn't match $setElementOrder list:\n{order}\n"
            )));
        }
    }
    Ok(())
}

/// `$deleteFromPrimitiveList/x`: removes values from the list `x`.
fn delete_from_lists(merged: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
    for (directive, gone) in take_directives(patch, DELETE_FROM_LIST) {
        let Value::Array(gone) = gone else {
            return Err(PatchError::Directive("invalid patch format of primitive list".to_owned()));
        };
        if let Some(Value::Array(list)) = merged.get_mut(&directive[DELETE_FROM_LIST.len()..]) {
            let gone: HashSet<&Value> = gone.iter().collect();
            list.retain(|element| !gone.contains(element));
        }
    }
    Ok(())
}

fn merge_lists(
    server: Vec<Value>,
    patch: Vec<Value>,
    key: Option<&str>,
    items: Option<SchemaRef<'_>>,
) -> Result<Vec<Value>, PatchError> {
    let Some(sample) = server.first().or(patch.first()) else { return Ok(server) };
    if sample.is_array() {
        return Err(PatchError::Directive("lists of lists are not supported".to_owned()));
    }
    let expected = go_type(sample);
    if let Some(odd) = server.iter().chain(&patch).find(|element| go_type(element) != expected) {
        let types = format!("[{expected} {}]", go_type(odd));
        return Err(PatchError::Directive(format!("list element types are not identical: {types}")));
    }
    if !sample.is_object() {
        let mut seen = HashSet::with_capacity(server.len() + patch.len());
        let merged = server.iter().chain(&patch).filter(|value| seen.insert(*value)).cloned().collect();
        return Ok(normalize(merged, &patch, &server, Identity(None)));
    }
    let Some(key) = key else {
        return Err(PatchError::Directive("cannot merge lists without merge key for type struct".to_owned()));
    };
    merge_keyed(server, patch, key, items)
}

/// Merges lists of objects that `key` tells apart.
fn merge_keyed(
    mut server: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
    items: Option<SchemaRef<'_>>,
) -> Result<Vec<Value>, PatchError> {
    let (mut elements, mut gone, mut replace) = (Vec::with_capacity(patch.len()), HashSet::new(), false);
    for element in patch {
        let Value::Object(fields) = &element else { continue };
        match fields.get(PATCH) {
            None => elements.push(element),
            Some(Value::String(directive)) if directive == "replace" => replace = true,
            Some(Value::String(directive)) if directive == "delete" => {
                gone.insert(fields.get(key).ok_or_else(|| no_merge_key(fields, key))?.clone());
            }
            Some(Value::String(directive)) if directive == "merge" => {
                return Err(PatchError::Directive("merging lists cannot yet be specified in the patch".to_owned()));
            }
            Some(other) => return Err(unknown_directive(other, fields)),
        }
    }
    if replace {
        require_key(&elements, Some(key))?;
        return Ok(added_list(elements));
    }
    server.retain(|old| !old.get(key).is_some_and(|key| gone.contains(key)));
    let server_order = server.clone();
    let patch_order = elements.clone();
    let mut places = HashMap::with_capacity(server.len());
    for (at, old) in server_order.iter().enumerate() {
        if let Some(name) = old.get(key) {
            places.entry(name.clone()).or_insert(at);
        }
    }
    for element in elements {
        let Value::Object(fields) = element else { continue };
        let wanted = fields.get(key).ok_or_else(|| no_merge_key(&fields, key))?;
        match places.get(wanted).and_then(|at| server.get_mut(*at)) {
            Some(Value::Object(old)) => *old = merge_maps(std::mem::take(old), fields, items)?,
            _ => {
                places.insert(wanted.clone(), server.len());
                server.push(Value::Object(added_map(fields)));
            }
        }
    }
    require_key(&server, Some(key))?;
    Ok(normalize(server, &patch_order, &server_order, Identity(Some(key))))
}

/// Every element must have the merge key.
fn require_key(list: &[Value], key: Option<&str>) -> Result<(), PatchError> {
    let Some(key) = key else { return Ok(()) };
    for element in list {
        match element {
            Value::Object(fields) if fields.contains_key(key) => {}
            Value::Object(fields) => return Err(no_merge_key(fields, key)),
            other => {
                let found = go_type(other);
                let why = format!("expected a map[string]interface {{}}, but received a {found}");
                return Err(PatchError::Directive(why));
            }
        }
    }
    Ok(())
}

fn no_merge_key(fields: &Object, key: &str) -> PatchError {
    PatchError::Directive(format!("map: {} does not contain declared merge key: {key}", go_format_map(fields)))
}

fn unknown_directive(directive: &Value, fields: &Object) -> PatchError {
    PatchError::Directive(format!("unknown patch type: {} in map: {}", go_format(directive), go_format_map(fields)))
}

fn into_list(value: Value) -> Result<Vec<Value>, PatchError> {
    match value {
        Value::Array(list) => Ok(list),
        other => {
            let found = go_type(&other);
            Err(PatchError::Directive(format!("expected a []interface {{}}, but received a {found}")))
        }
    }
}

fn is_list_directive(name: &str) -> bool {
    name.starts_with(SET_ORDER) || name.starts_with(DELETE_FROM_LIST)
}

/// Takes the directives with this prefix out of the patch.
fn take_directives(patch: &mut Object, prefix: &str) -> Vec<(String, Value)> {
    let names: Vec<String> = patch.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
    names.into_iter().filter_map(|name| patch.remove_entry(&name)).collect()
}

/// A value that the original does not have: taken without directives and nulls.
fn cleaned(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(added_map(map)),
        Value::Array(list) => Value::Array(added_list(list)),
        other => other,
    }
}

fn added_map(map: Object) -> Object {
    if map.get(PATCH).is_some_and(|directive| directive == "delete") {
        return Object::new();
    }
    let kept = map.into_iter().filter(|(name, value)| !value.is_null() && !is_directive(name));
    kept.map(|(name, value)| (name, cleaned(value))).collect()
}

/// Elements that only carry a directive have done their work.
fn added_list(list: Vec<Value>) -> Vec<Value> {
    let done =
        |element: &Value| element.get(PATCH).is_some_and(|directive| directive == "delete" || directive == "replace");
    list.into_iter().filter(|element| !done(element)).map(cleaned).collect()
}

fn without_directives(map: Object) -> Object {
    map.into_iter().filter(|(name, _)| !is_directive(name)).collect()
}

fn is_directive(name: &str) -> bool {
    name == PATCH || name == RETAIN_KEYS || is_list_directive(name)
}

#[cfg(test)]
mod tests;
