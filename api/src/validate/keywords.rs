//! Rules on values as JSON schema writes them: limits, patterns, enums, combinations.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde_json::{Map, Value};

use super::{Pattern, combination, formats, invalid, wrong_type};
use crate::field::{FieldError, Path};

/// Limits of numbers, texts, lists and maps.
/// `compiled` is the schema's pattern, where it is at hand.
pub(super) fn scalar(
    value: &Value,
    rules: &Map<String, Value>,
    compiled: Option<&Pattern>,
    path: &Path,
    errors: &mut Vec<FieldError>,
) {
    match value {
        Value::Number(_) => number(value, rules, path, errors),
        Value::String(text) => self::text(text, rules, compiled, path, errors),
        Value::Array(list) => list_size(list, rules, path, errors),
        Value::Object(map) => map_size(map, rules, path, errors),
        _ => {}
    }
}

fn number(value: &Value, rules: &Map<String, Value>, path: &Path, errors: &mut Vec<FieldError>) {
    let Some(number) = value.as_f64() else { return };
    let rule = |name: &str| rules.get(name).and_then(Value::as_f64);
    let flag = |name: &str| rules.get(name) == Some(&Value::Bool(true));
    if let Some(limit) = rule("maximum") {
        match flag("exclusiveMaximum") {
            true if number >= limit => {
                errors.push(invalid(path, value.clone(), &format!("should be less than {limit}")))
            }
            false if number > limit => {
                errors.push(invalid(path, value.clone(), &format!("should be less than or equal to {limit}")))
            }
            _ => {}
        }
    }
    if let Some(limit) = rule("minimum") {
        match flag("exclusiveMinimum") {
            true if number <= limit => {
                errors.push(invalid(path, value.clone(), &format!("should be greater than {limit}")))
            }
            false if number < limit => {
                errors.push(invalid(path, value.clone(), &format!("should be greater than or equal to {limit}")));
            }
            _ => {}
        }
    }
    if let Some(factor) = rule("multipleOf").filter(|factor| *factor > 0.0)
        && (number / factor).fract() != 0.0
    {
        errors.push(invalid(path, value.clone(), &format!("should be a multiple of {factor}")));
    }
}

/// Only the first rule that a text breaks is told.
fn text(text: &str, rules: &Map<String, Value>, compiled: Option<&Pattern>, path: &Path, errors: &mut Vec<FieldError>) {
    let length = text.chars().count();
    if let Some(most) = size(rules, "maxLength").filter(|most| length > *most) {
        errors.push(FieldError::too_long(path, most));
    } else if let Some(least) = size(rules, "minLength").filter(|least| length < *least) {
        errors.push(invalid(path, text, &format!("should be at least {least} chars long")));
    } else if let Some(pattern) = rules.get("pattern").and_then(Value::as_str) {
        let matched = match compiled {
            Some(compiled) => compiled.is_match(text).map_err(str::to_owned),
            None => cached(pattern).is_match(text).map_err(str::to_owned),
        };
        match matched {
            Ok(true) => {}
            Ok(false) => errors.push(invalid(path, text, &format!("should match '{pattern}'"))),
            Err(error) => {
                errors.push(invalid(path, text, &format!("should match '{pattern}', but pattern is invalid: {error}")))
            }
        }
    }
}

fn list_size(list: &[Value], rules: &Map<String, Value>, path: &Path, errors: &mut Vec<FieldError>) {
    if let Some(least) = size(rules, "minItems").filter(|least| list.len() < *least) {
        errors.push(invalid(path, list.len(), &format!("should have at least {least} items")));
    }
    if let Some(most) = size(rules, "maxItems").filter(|most| list.len() > *most) {
        errors.push(FieldError::too_many(path, list.len(), most));
    }
}

fn map_size(map: &Map<String, Value>, rules: &Map<String, Value>, path: &Path, errors: &mut Vec<FieldError>) {
    if let Some(least) = size(rules, "minProperties").filter(|least| map.len() < *least) {
        errors.push(invalid(path, map.len(), &format!("should have at least {least} properties")));
    }
    if let Some(most) = size(rules, "maxProperties").filter(|most| map.len() > *most) {
        errors.push(FieldError::too_many(path, map.len(), most));
    }
}

fn size(rules: &Map<String, Value>, name: &str) -> Option<usize> {
    rules.get(name)?.as_u64().and_then(|size| usize::try_from(size).ok())
}

/// `value` must be one of `allowed`.
pub(super) fn enumeration(value: &Value, allowed: &[Value], path: &Path, errors: &mut Vec<FieldError>) {
    if allowed.contains(value) {
        return;
    }
    let shown: Vec<String> =
        allowed.iter().map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned)).collect();
    let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
    errors.push(FieldError::not_supported(path, value.clone(), &shown));
}

/// `allOf`, `anyOf`, `oneOf` and `not`.
pub(super) fn combinations(value: &Value, rules: &Map<String, Value>, path: &Path, errors: &mut Vec<FieldError>) {
    let alternatives = |name: &str| -> Vec<Vec<FieldError>> {
        let schemas = rules.get(name).and_then(Value::as_array).into_iter().flatten();
        schemas.map(|schema| against(value, schema, path)).collect()
    };
    let any = alternatives("anyOf");
    if !any.is_empty() && !any.iter().any(Vec::is_empty) {
        errors.push(combination(format!("\"{path}\" must validate at least one schema (anyOf)")));
        errors.extend(closest(any));
    }
    let one = alternatives("oneOf");
    match one.iter().filter(|failures| failures.is_empty()).count() {
        _ if one.is_empty() => {}
        1 => {}
        0 => {
            errors.push(combination(format!(
                "\"{path}\" must validate one and only one schema (oneOf). Found none valid"
            )));
            errors.extend(closest(one));
        }
        valid => {
            let text =
                format!("\"{path}\" must validate one and only one schema (oneOf). Found {valid} valid alternatives");
            errors.push(combination(text));
        }
    }
    let all = alternatives("allOf");
    let failed = all.iter().filter(|failures| !failures.is_empty()).count();
    if failed > 0 {
        let none = if failed == all.len() { ". None validated" } else { "" };
        errors.push(combination(format!("\"{path}\" must validate all the schemas (allOf){none}")));
        errors.extend(all.into_iter().flatten());
    }
    if let Some(schema) = rules.get("not")
        && against(value, schema, path).is_empty()
    {
        errors.push(combination(format!("\"{path}\" must not validate the schema (not)")));
    }
}

/// The failures of the alternative that fails least.
fn closest(alternatives: Vec<Vec<FieldError>>) -> Vec<FieldError> {
    alternatives.into_iter().min_by_key(Vec::len).unwrap_or_default()
}

/// A value against a schema inside a combination, which is kept as its author wrote it.
fn against(value: &Value, schema: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let Value::Object(rules) = schema else { return errors };
    if let Some(wanted) = rules.get("type").and_then(Value::as_str)
        && !is_of(value, wanted)
    {
        errors.push(wrong_type(value, wanted, path));
        return errors;
    }
    combinations(value, rules, path, &mut errors);
    if let Some(format) = rules.get("format").and_then(Value::as_str) {
        formats::check(value, format, path, &mut errors);
    }
    scalar(value, rules, None, path, &mut errors);
    if let Some(allowed) = rules.get("enum").and_then(Value::as_array) {
        enumeration(value, allowed, path, &mut errors);
    }
    let inner = |name: &str| rules.get(name).and_then(Value::as_object);
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let declared = inner("properties").and_then(|fields| fields.get(name));
                if let Some(schema) = declared.or_else(|| rules.get("additionalProperties")) {
                    errors.extend(against(value, schema, &path.child(name)));
                }
            }
            let required =
                rules.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
            errors.extend(
                required
                    .filter(|name| !map.contains_key(*name))
                    .map(|name| FieldError::required(&path.child(name), "")),
            );
        }
        Value::Array(list) => {
            if let Some(schema) = rules.get("items") {
                errors.extend(list.iter().enumerate().flat_map(|(at, value)| against(value, schema, &path.index(at))));
            }
        }
        _ => {}
    }
    errors
}

fn is_of(value: &Value, wanted: &str) -> bool {
    match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => super::is_integer(value),
        "number" => value.is_number(),
        _ => true,
    }
}

/// A pattern of a combinator, which has no node of its own to keep it.
fn cached(pattern: &str) -> Arc<Pattern> {
    const KEPT: usize = 1000;
    static COMPILED: OnceLock<Mutex<HashMap<String, Arc<Pattern>>>> = OnceLock::new();
    let lock = COMPILED.get_or_init(Mutex::default);
    let mut cache = lock.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = cache.get(pattern) {
        return Arc::clone(known);
    }
    if cache.len() >= KEPT {
        cache.clear();
    }
    let new = Arc::new(Pattern::new(pattern));
    cache.insert(pattern.to_owned(), Arc::clone(&new));
    new
}
