//! `x-kubernetes-validations`: rules in a custom resource's schema, written as expressions.
//!
//! [`check_rules`] refuses a definition whose rules are wrong or may cost too much; [`RuleSet`] holds the rules of one
//! version, compiled, and validates objects by them. Both read the schema as its author wrote it.

mod check;
#[cfg(test)]
mod costs;
mod declare;
mod field_path;
mod rule;
#[cfg(test)]
mod tests;
mod validate;

use std::sync::Arc;

use cel::Decl;
use serde_json::{Map, Value};

use crate::field::{FieldError, Path};

pub use check::check_rules;
pub(crate) use declare::declare;
use rule::Rule;

/// The keyword.
const VALIDATIONS: &str = "x-kubernetes-validations";

/// The rules of a schema, compiled.
#[derive(Clone, Debug, Default)]
pub struct RuleSet(Option<Arc<Rules>>);

/// What is wrong with an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    pub errors: Vec<FieldError>,
    /// What would be an error if it had not been there before in just the same way; clients are warned.
    pub tolerated: Vec<FieldError>,
}

/// The rules at a node of a schema and below it.
#[derive(Debug)]
struct Rules {
    decl: Arc<Decl>,
    own: Vec<Rule>,
    properties: Vec<(String, Rules)>,
    values: Option<Box<Rules>>,
    items: Option<Box<Rules>>,
    /// For lists whose elements go by keys: the keys.
    keys: Vec<String>,
}

impl RuleSet {
    /// Compiles the rules of a version's `openAPIV3Schema`. A rule that does not compile fails every object: it should
    /// never have been accepted.
    pub fn compile(written: &Value) -> Self {
        let rules = written.as_object().filter(|written| mentions_rules(written));
        Self(rules.and_then(|written| Rules::compile(written, true, None)).map(Arc::new))
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Validates a whole object against its rules; `old` is what it replaces.
    pub fn validate(&self, new: &Value, old: Option<&Value>, path: &Path) -> Findings {
        match &self.0 {
            Some(rules) => validate::validate(rules, new, old, path),
            None => Findings::default(),
        }
    }
}

impl Rules {
    /// `None` when there are no rules here and below. `decl` is what the node is, if a node above knows.
    fn compile(written: &Map<String, Value>, resource: bool, decl: Option<Arc<Decl>>) -> Option<Self> {
        let decl = decl.or_else(|| declare::declare(written, resource, "object").map(Arc::new))?;
        let own = Rule::all(written).map(|rule| Rule::compile(rule, written, &decl)).collect::<Vec<_>>();
        let below = |name: &str| written.get(name).and_then(Value::as_object);
        let mut properties = Vec::new();
        for (name, property) in below("properties").into_iter().flatten() {
            let Some(property) = property.as_object().filter(|property| mentions_rules(property)) else { continue };
            let known = declare::property(&decl, name);
            properties.extend(Self::compile(property, is_resource(property), known).map(|rules| (name.clone(), rules)));
        }
        let part = |name: &str| {
            let part = below(name).filter(|part| mentions_rules(part))?;
            Self::compile(part, is_resource(part), declare::part(&decl)).map(Box::new)
        };
        let (values, items) = (part("additionalProperties"), part("items"));
        if own.is_empty() && properties.is_empty() && values.is_none() && items.is_none() {
            return None;
        }
        Some(Self { decl, own, properties, values, items, keys: declare::list_keys(written) })
    }
}

/// Whether objects of the schema are whole resources, with names of their own.
fn is_resource(written: &Map<String, Value>) -> bool {
    written.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true))
}

/// Whether there are rules here or below.
fn mentions_rules(written: &Map<String, Value>) -> bool {
    let inner = |value: &Value| value.as_object().is_some_and(mentions_rules);
    written.get(VALIDATIONS).and_then(Value::as_array).is_some_and(|rules| !rules.is_empty())
        || written.get("properties").and_then(Value::as_object).is_some_and(|all| all.values().any(inner))
        || ["items", "additionalProperties"].iter().any(|part| written.get(*part).is_some_and(inner))
}
