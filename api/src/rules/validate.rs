//! Objects against rules.

use std::collections::HashMap;

use cel::{Bindings, Limits, Program, Value as Cel};
use serde_json::{Map, Value};

use super::rule::Rule;
use super::{Findings, Rules};
use crate::expression::{COST_PER_EXPRESSION, COST_TOGETHER};
use crate::field::{FieldError, Kind, Path};

/// The longest message that an expression may make.
const MAX_MESSAGE: usize = 5 * 1024;
const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// Validates a whole object.
pub(super) fn validate(rules: &Rules, new: &Value, old: Option<&Value>, path: &Path) -> Findings {
    let mut run = Run { budget: COST_TOGETHER, findings: Findings::default(), spent: false };
    let pair = old.map(|old| (new, old));
    run.node(rules, new, old, path, Before { here: pair, above: None });
    run.findings
}

/// What an error is weighed against: what has not changed may stay wrong.
#[derive(Clone, Copy)]
struct Before<'v> {
    /// The new and old value here, if the old one can be found.
    here: Option<(&'v Value, &'v Value)>,
    /// Those of the nearest value above.
    above: Option<(&'v Value, &'v Value)>,
}

impl<'v> Before<'v> {
    fn is_unchanged(self) -> bool {
        self.here.or(self.above).is_some_and(|(new, old)| new == old)
    }

    fn below(self, new: &'v Value, old: Option<&'v Value>) -> Self {
        match self.here {
            None => self,
            above => Self { here: old.map(|old| (new, old)), above },
        }
    }

    /// The version and kind of a resource always look unchanged: both sides have been converted.
    fn property(self, name: &str, new: &'v Value, old: Option<&'v Value>) -> Self {
        if self.above.is_none() && matches!(name, "apiVersion" | "kind") {
            return Self { here: None, above: None };
        }
        self.below(new, old)
    }
}

struct Run {
    budget: u64,
    findings: Findings,
    /// Whether the budget is used up, which ends everything.
    spent: bool,
}

impl Run {
    fn node<'v>(&mut self, rules: &Rules, new: &'v Value, old: Option<&'v Value>, path: &Path, before: Before<'v>) {
        if new.is_null() || self.spent {
            return;
        }
        let old = old.filter(|old| !old.is_null());
        self.own(rules, new, old, path, before);
        match new {
            Value::Object(fields) => self.fields(rules, fields, old.and_then(Value::as_object), path, before),
            Value::Array(items) => {
                let Some(inner) = &rules.items else { return };
                let old = by_keys(old.and_then(Value::as_array), &rules.keys);
                for (at, item) in items.iter().enumerate() {
                    let counterpart = old.get(&key(item, &rules.keys)).copied();
                    self.node(inner, item, counterpart, &path.index(at), before.below(item, counterpart));
                }
            }
            _ => {}
        }
    }

    fn fields<'v>(
        &mut self,
        rules: &Rules,
        new: &'v Map<String, Value>,
        old: Option<&'v Map<String, Value>>,
        path: &Path,
        before: Before<'v>,
    ) {
        let old = |name: &str| old.and_then(|old| old.get(name));
        if let Some(inner) = &rules.values {
            for (key, value) in new {
                let old = old(key);
                self.node(inner, value, old, &path.key(key), before.property(key, value, old));
            }
        }
        for (name, inner) in &rules.properties {
            if let Some(value) = new.get(name) {
                let old = old(name);
                self.node(inner, value, old, &path.child(name), before.property(name, value, old));
            }
        }
    }

    fn own(&mut self, rules: &Rules, new: &Value, old: Option<&Value>, path: &Path, before: Before<'_>) {
        if rules.own.is_empty() {
            return;
        }
        let this = match Cel::read(new, &rules.decl) {
            Ok(this) => this,
            Err(err) => {
                let errors = rules
                    .own
                    .iter()
                    .map(|rule| invalid(path, new, &format!("{err} evaluating rule: {}", rule.written.name())));
                self.findings.errors.extend(errors);
                return;
            }
        };
        let old_self = old.and_then(|old| Cel::read(old, &rules.decl).ok());
        for rule in &rules.own {
            if self.spent {
                return;
            }
            if self.budget == 0 {
                self.stop(invalid(path, new, OUT_OF_BUDGET));
                return;
            }
            let optional = rule.written.optional_old_self == Some(true);
            if rule.uses_old() && old_self.is_none() && !optional {
                continue;
            }
            let mut bindings = Bindings::new().with("self", this.clone());
            match old_self.clone() {
                old if optional => bindings.set("oldSelf", Cel::Optional(old.map(Box::new))),
                Some(old) => bindings.set("oldSelf", old),
                None => {}
            }
            self.rule(rule, new, &bindings, path, before);
        }
    }

    fn rule(&mut self, rule: &Rule, new: &Value, bindings: &Bindings<'_>, path: &Path, before: Before<'_>) {
        let program = match &rule.program {
            Some(Ok(program)) => program,
            Some(Err(why)) => {
                self.findings.errors.push(invalid(path, new, &format!("rule compile error: {why}")));
                return;
            }
            None => return,
        };
        let name = rule.written.name();
        let (value, cost) = self.work_out(program, bindings);
        if cost > self.budget {
            self.stop(invalid(path, new, OUT_OF_BUDGET));
            return;
        }
        self.budget -= cost;
        match value {
            Ok(Cel::Bool(true)) => {}
            Ok(_) => self.broken(rule, new, bindings, path, before),
            Err(err) if err.is_cost_limit() => {
                let why = format!(
                    "'{err}': no further validation rules will be run due to call cost exceeds limit for rule: {name}"
                );
                self.stop(invalid(path, new, &why));
            }
            Err(err) if err.to_string().starts_with("no such overload") => {
                let why = format!(
                    "'{err}': call arguments did not match a supported operator, function or macro signature for rule: {name}"
                );
                self.findings.errors.push(invalid(path, new, &why));
            }
            Err(err) => self.findings.errors.push(invalid(path, new, &format!("{err} evaluating rule: {name}"))),
        }
    }

    fn work_out<'v>(&self, program: &Program, bindings: &Bindings<'v>) -> (Result<Cel<'v>, cel::Error>, u64) {
        program.evaluate(bindings, &Limits::cost(COST_PER_EXPRESSION))
    }

    /// A rule that does not hold.
    fn broken(&mut self, rule: &Rule, new: &Value, bindings: &Bindings<'_>, path: &Path, before: Before<'_>) {
        let path = match &rule.field_path {
            Some(field) => path.child(field),
            None => path.clone(),
        };
        let mut detail = None;
        if let Some(Ok(program)) = &rule.message {
            let (value, cost) = self.work_out(program, bindings);
            let source = &rule.written.message_expression;
            if cost > self.budget {
                let why = "messageExpression evaluation failed due to running out of cost budget, no further validation \
                           rules will be run";
                self.stop(invalid(&path, new, why));
                return;
            }
            if value.as_ref().is_err_and(cel::Error::is_cost_limit) {
                let why = format!(
                    "no further validation rules will be run due to call cost exceeds limit for messageExpression: {source:?}"
                );
                self.stop(invalid(&path, new, &why));
                return;
            }
            self.budget -= cost;
            detail = value.ok().and_then(|value| message(&value));
        }
        let detail = detail.unwrap_or_else(|| rule.written.message());
        let error = match rule.written.reason.as_deref() {
            Some("FieldValueForbidden") => FieldError::forbidden(&path, &detail),
            Some("FieldValueRequired") => FieldError::required(&path, &detail),
            Some("FieldValueDuplicate") => FieldError::duplicate(&path, new.clone()),
            _ => invalid(&path, new, &detail),
        };
        if !rule.uses_old() && before.is_unchanged() {
            self.findings.tolerated.push(error);
        } else {
            self.findings.errors.push(error);
        }
    }

    fn stop(&mut self, error: FieldError) {
        self.spent = true;
        self.findings.errors.push(error);
    }
}

/// A message made by an expression, if it can be shown.
fn message(value: &Cel<'_>) -> Option<String> {
    let text = value.as_str()?.trim();
    (!text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n')).then(|| text.to_owned())
}

/// The old elements by their keys, where elements go by keys: only those can be followed.
fn by_keys<'v>(old: Option<&'v Vec<Value>>, keys: &[String]) -> HashMap<String, &'v Value> {
    let mut all = HashMap::new();
    if !keys.is_empty() {
        for item in old.into_iter().flatten() {
            all.entry(key(item, keys)).or_insert(item);
        }
    }
    all
}

/// The values of an element's keys.
fn key(item: &Value, keys: &[String]) -> String {
    let values: Vec<&Value> = keys.iter().map(|key| item.get(key).unwrap_or(&Value::Null)).collect();
    values.iter().map(|value| format!("{value},")).collect()
}

/// Scalars are shown; objects and lists are not, since they may be long.
fn invalid(path: &Path, value: &Value, why: &str) -> FieldError {
    if value.is_object() || value.is_array() {
        return FieldError { path: path.clone(), kind: Kind::Invalid, message: format!("Invalid value: {why}") };
    }
    FieldError::invalid(path, value.clone(), why)
}
