//! Rules when a definition is written: are they right, and can they be afforded?

use std::sync::Arc;

use cel::Decl;
use serde_json::{Map, Value};

use super::rule::Rule;
use super::{VALIDATIONS, declare, field_path, is_resource, mentions_rules};
use crate::field::{FieldError, Kind, Path};

/// What one rule may cost over a whole object.
const COST_PER_RULE: u64 = 10_000_000;
/// What all rules of a schema may cost over a whole object.
const COST_PER_SCHEMA: u64 = 100_000_000;
/// So many of the most expensive rules are named when all together cost too much.
const NAMED: usize = 4;
const REASONS: [&str; 4] = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// What is wrong with the rules of a schema that is right otherwise. `path` is where the schema lies.
pub fn check_rules(written: &Value, path: &Path) -> Vec<FieldError> {
    let Some(root) = written.as_object().filter(|root| mentions_rules(root)) else { return Vec::new() };
    let mut check = Check::default();
    let place = Place { decl: None, in_scope: false, times: Some(1), no_old_self: None };
    check.node(root, path, &place, true);
    if check.total > COST_PER_SCHEMA {
        check.expensive.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
        let why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
        check.errors.extend(check.expensive.iter().take(NAMED).map(|(path, _)| FieldError::forbidden(path, why)));
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        check.errors.push(FieldError::forbidden(path, &too_expensive(what, check.total, COST_PER_SCHEMA)));
    }
    check.errors
}

/// What is known of a node from above.
#[derive(Clone)]
struct Place {
    decl: Option<Arc<Decl>>,
    /// Whether there are rules here or above: what they say of names holds below as well.
    in_scope: bool,
    /// How many values of the node an object can have, if that is limited.
    times: Option<u64>,
    /// The list above whose elements cannot be followed from old to new.
    no_old_self: Option<Path>,
}

#[derive(Default)]
struct Check {
    errors: Vec<FieldError>,
    /// How many of them are about the shape of rules.
    misshapen: usize,
    total: u64,
    expensive: Vec<(Path, u64)>,
}

impl Check {
    fn node(&mut self, written: &Map<String, Value>, path: &Path, place: &Place, resource: bool) {
        let mut place = place.clone();
        place.in_scope |= written.contains_key(VALIDATIONS);
        if place.in_scope && place.decl.is_none() {
            place.decl = declare::declare(written, resource, "selfType").map(Arc::new);
        }
        let misshapen = self.misshapen;
        self.below(written, path, &place);
        let errors = self.errors.len();
        self.shape(written, path);
        self.misshapen += self.errors.len() - errors;
        let rules: Vec<_> = Rule::all(written).collect();
        // What the compiler says helps nobody while rules here or below are not even complete.
        if rules.is_empty() || self.misshapen > misshapen {
            return;
        }
        let path = path.child(VALIDATIONS);
        let Some(decl) = &place.decl else {
            let why = "internal error: failed to construct type information for x-kubernetes-validations rules: unable \
                       to convert structural schema to CEL declarations";
            self.errors.push(FieldError::internal(&path, why));
            return;
        };
        for (at, rule) in rules.into_iter().enumerate() {
            self.rule(&Rule::compile(rule, written, decl), &path.index(at), &place, decl);
        }
    }

    fn below(&mut self, written: &Map<String, Value>, path: &Path, place: &Place) {
        let times = place.times.zip(multiplier(written)).map(|(times, by)| times.saturating_mul(by));
        let known = |decl: Option<Arc<Decl>>| Place { decl, times, ..place.clone() };
        let properties = written.get("properties").and_then(Value::as_object);
        for (name, property) in properties.into_iter().flatten() {
            let Some(property) = property.as_object().filter(|property| mentions_rules(property)) else { continue };
            let decl = place.decl.as_deref().and_then(|decl| declare::property(decl, name));
            self.node(property, &path.child("properties").key(name), &known(decl), is_resource(property));
        }
        let part = |name: &str| written.get(name).and_then(Value::as_object).filter(|part| mentions_rules(part));
        let decl = || place.decl.as_deref().and_then(declare::part);
        if let Some(values) = part("additionalProperties") {
            self.node(values, &path.child("additionalProperties"), &known(decl()), is_resource(values));
        }
        if let Some(items) = part("items") {
            let mut place = known(decl());
            if declare::list_keys(written).is_empty() && place.no_old_self.is_none() {
                place.no_old_self = Some(path.clone());
            }
            self.node(items, &path.child("items"), &place, is_resource(items));
        }
    }

    /// What must be right before a rule is compiled.
    fn shape(&mut self, written: &Map<String, Value>, path: &Path) {
        let breaks = |text: &str| text.contains(['\n', '\r']);
        for (at, rule) in Rule::all(written).enumerate() {
            let path = path.child(VALIDATIONS).index(at);
            let (trimmed, message) = (rule.rule.trim(), rule.message.trim());
            if trimmed.is_empty() {
                self.errors.push(FieldError::required(&path.child("rule"), "rule is not specified"));
            } else if !rule.message.is_empty() && message.is_empty() {
                let why = "must be non-empty if specified";
                self.errors.push(FieldError::invalid(&path.child("message"), rule.message.as_str(), why));
            } else if breaks(message) {
                let why = "must not contain line breaks";
                self.errors.push(FieldError::invalid(&path.child("message"), rule.message.as_str(), why));
            } else if breaks(trimmed) && message.is_empty() {
                let why = "must be specified if rule contains line breaks";
                self.errors.push(FieldError::required(&path.child("message"), why));
            }
            if !rule.message_expression.is_empty() && rule.message_expression.trim().is_empty() {
                let why = "must be non-empty if specified";
                self.errors.push(FieldError::required(&path.child("messageExpression"), why));
            }
            if let Some(reason) = rule.reason.as_deref().filter(|reason| !REASONS.contains(reason)) {
                self.errors.push(FieldError::not_supported(&path.child("reason"), reason, &REASONS));
            }
            self.field_path(&rule.field_path, written, &path.child("fieldPath"));
        }
    }

    fn field_path(&mut self, text: &str, written: &Map<String, Value>, path: &Path) {
        if text.is_empty() {
            return;
        }
        let mut refuse = |why: &str| self.errors.push(FieldError::invalid(path, text, why));
        if text.trim().is_empty() {
            refuse("must be non-empty if specified");
        }
        if text.contains(['\n', '\r']) {
            refuse("must not contain line breaks");
        }
        if field_path::read(text, written).is_err() {
            refuse("must be a valid path");
        }
    }

    fn rule(&mut self, rule: &Rule, path: &Path, place: &Place, decl: &Decl) {
        let refuse = |at: &str, why: &str| FieldError {
            path: path.child(at),
            kind: Kind::Invalid,
            message: format!("Invalid value: {}: {why}", rule.written.shown()),
        };
        match &rule.program {
            Some(Ok(program)) => {
                let times = place.times.unwrap_or_else(|| declare::most_often(decl));
                let cost = program.cost_estimate().max.saturating_mul(times);
                self.charge(&path.child("rule"), "estimated rule cost", cost);
            }
            Some(Err(why)) => self.errors.push(refuse("rule", why)),
            None => {}
        }
        match &rule.message {
            Some(Ok(program)) => {
                let cost = program.cost_estimate().max;
                self.charge(&path.child("messageExpression"), "estimated messageExpression cost", cost);
            }
            Some(Err(why)) => self.errors.push(refuse("messageExpression", why)),
            None => {}
        }
        if rule.uses_old() {
            if let Some(list) = &place.no_old_self {
                let why = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {list}");
                self.errors.push(FieldError::invalid(&path.child("rule"), rule.written.rule.as_str(), &why));
            }
        } else if let Some(flag) = rule.written.optional_old_self {
            let why = "may not be set if oldSelf is not used in rule";
            self.errors.push(FieldError::invalid(&path.child("optionalOldSelf"), flag, why));
        }
    }

    fn charge(&mut self, path: &Path, what: &str, cost: u64) {
        if cost > COST_PER_RULE {
            self.errors.push(FieldError::forbidden(path, &too_expensive(what, cost, COST_PER_RULE)));
        }
        self.total = self.total.saturating_add(cost);
        if cost >= COST_PER_SCHEMA / 100 {
            self.expensive.push((path.clone(), cost));
        }
    }
}

/// How many values a node can have below it for each of its own; `None` when nothing limits that.
fn multiplier(written: &Map<String, Value>) -> Option<u64> {
    let limit = |name: &str| {
        let limit = written.get(name)?.as_i64()?;
        Some(u64::try_from(limit).unwrap_or(0))
    };
    match written.get("type").and_then(Value::as_str) {
        Some("array") => limit("maxItems"),
        Some("object") if written.get("additionalProperties").is_some_and(|values| !values.is_null()) => {
            limit("maxProperties")
        }
        _ => Some(1),
    }
}

fn too_expensive(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = match factor {
        factor if factor > 100.0 => "more than 100x".to_owned(),
        factor if factor < 1.5 => format!("{factor:.6}x"),
        factor => format!("{factor:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and \
         maxLength where arrays, maps, and strings are declared)"
    )
}
