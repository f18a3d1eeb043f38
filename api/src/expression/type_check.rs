//! Type checking of an admission policy against the schemas of what it is about.
//!
//! What it finds are warnings in the policy's status: expressions work on whatever they are shown.

use std::collections::BTreeSet;
use std::sync::Arc;

use cel::{Decl, Type};
use serde_json::{Map, Value, json};

use super::admission::Scope;
use crate::rules::declare;

/// A kind of objects that a policy may be shown.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Group, version and kind as warnings name them.
    name: String,
    /// Nothing when the schema says nothing.
    decl: Option<Arc<Decl>>,
}

/// Something about an expression that does not fit a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where the expression is.
    pub field: String,
    pub text: String,
}

/// Group, version and resource that a rule of a policy names.
pub type Named<'a> = (&'a str, &'a str, &'a str);

/// The resources that each of a policy's rules names, in order; a rule with a wildcard names none.
pub fn named(spec: &Value) -> Vec<Vec<Named<'_>>> {
    let rules = list(&spec["matchConstraints"], "resourceRules");
    rules.map(|rule| named_by(rule).unwrap_or_default()).collect()
}

fn named_by(rule: &Value) -> Option<Vec<Named<'_>>> {
    let sorted = |field: &str| list(rule, field).filter_map(Value::as_str).collect::<BTreeSet<_>>();
    let (groups, versions) = (sorted("apiGroups"), sorted("apiVersions"));
    if groups.iter().chain(&versions).any(|one| one.contains('*')) {
        return None;
    }
    let resources = sorted("resources").into_iter().filter(|resource| !resource.contains(['*', '/']));
    let resources: Vec<&str> = resources.collect();
    let mut all = Vec::new();
    for group in groups {
        for version in &versions {
            all.extend(resources.iter().map(|resource| (group, *version, *resource)));
        }
    }
    Some(all)
}

impl Subject {
    /// The kind as an OpenAPI v3 document declares it; `None` when it does not.
    pub fn read(document: &Value, (group, version, kind): (&str, &str, &str)) -> Option<Self> {
        let schemas = document.pointer("/components/schemas")?.as_object()?;
        let wanted = json!({"group": group, "version": version, "kind": kind});
        let is_it = |schema: &Value| list(schema, "x-kubernetes-group-version-kind").any(|one| *one == wanted);
        let (name, schema) = schemas.iter().find(|(_, schema)| is_it(schema))?;
        let mut resolver = Resolver { schemas, inside: vec![name] };
        let decl = declare(&resolver.resolved(schema), true, kind).map(Arc::new);
        let place = if group.is_empty() { format!("/{version}") } else { format!("{group}/{version}") };
        Some(Self { name: format!("{place}, Kind={kind}"), decl })
    }
}

/// Puts what a document's schemas refer to in its place.
struct Resolver<'a> {
    schemas: &'a Map<String, Value>,
    /// The definitions that are being resolved: one inside itself is an object of which nothing is known.
    inside: Vec<&'a str>,
}

impl<'a> Resolver<'a> {
    /// A schema with all that declarations are made of, and nothing else.
    fn resolved(&mut self, schema: &'a Value) -> Map<String, Value> {
        if let Some(name) = reference(schema) {
            let Some(target) = self.schemas.get(name) else { return Map::new() };
            if self.inside.contains(&name) {
                return Map::from_iter([("type".to_owned(), json!("object"))]);
            }
            self.inside.push(name);
            let resolved = self.resolved(target);
            self.inside.pop();
            return resolved;
        }
        let mut out = Map::new();
        for (key, value) in schema.as_object().into_iter().flatten() {
            match (key.as_str(), value) {
                ("properties", Value::Object(all)) => {
                    let all = all.iter().map(|(name, inner)| (name.clone(), self.resolved(inner).into()));
                    let all: Map<String, Value> = all.collect();
                    out.insert(key.clone(), all.into());
                }
                ("items" | "additionalProperties", Value::Object(_)) => {
                    out.insert(key.clone(), self.resolved(value).into());
                }
                // Quantities, and what is a number or a string.
                ("oneOf", _) => {
                    out.insert("x-kubernetes-int-or-string".to_owned(), true.into());
                }
                ("description" | "x-kubernetes-validations" | "not" | "anyOf" | "allOf", _) => {}
                _ => {
                    out.insert(key.clone(), value.clone());
                }
            }
        }
        out
    }
}

/// The definition that a schema stands for; `allOf` around it carries the description.
fn reference(schema: &Value) -> Option<&str> {
    let direct = schema.get("$ref").and_then(Value::as_str);
    let wrapped = || list(schema, "allOf").find_map(|inner| inner.get("$ref").and_then(Value::as_str));
    direct.or_else(wrapped).and_then(|path| path.rsplit('/').next())
}

/// What does not fit in the validations of a ValidatingAdmissionPolicy. `params` are those of its parameters' kind,
/// `None` when it has none.
pub fn warnings(spec: &Value, subjects: &[Subject], params: Option<Option<&Subject>>) -> Vec<Warning> {
    let params = params.map(|known| known.and_then(|known| known.decl.clone()));
    let scopes: Vec<(&Subject, Scope)> = subjects
        .iter()
        .map(|subject| {
            let mut scope = Scope::typed(subject.decl.clone(), params.clone());
            for variable in list(spec, "variables") {
                let type_ = scope.type_of(text(variable, "expression")).unwrap_or(Type::Dyn);
                scope.declare(text(variable, "name"), &type_);
            }
            (subject, scope)
        })
        .collect();
    let mut warnings = Vec::new();
    for (at, validation) in list(spec, "validations").enumerate() {
        for field in ["expression", "messageExpression"] {
            let expression = text(validation, field);
            if expression.is_empty() && field == "messageExpression" {
                continue;
            }
            let found = scopes.iter().filter_map(|(subject, scope)| {
                let issues = scope.type_of(expression).err()?;
                Some(format!("{}: {issues}\n", subject.name))
            });
            let found: Vec<String> = found.collect();
            if !found.is_empty() {
                let field = format!("spec.validations[{at}].{field}");
                warnings.push(Warning { field, text: found.join("\n") });
            }
        }
    }
    warnings
}

fn list<'a>(tree: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    tree.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(tree: &'a Value, name: &str) -> &'a str {
    tree.get(name).and_then(Value::as_str).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::openapi;

    fn subject(group: &str, version: &str, kind: &str) -> Subject {
        let place = if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
        let document = openapi::Places::of(&Catalog::builtin()).document(&place).unwrap();
        Subject::read(&document, (group, version, kind)).unwrap()
    }

    /// The warnings about one expression on Deployments, with ConfigMaps as parameters.
    fn check(expression: &str) -> Vec<String> {
        let spec = json!({
            "variables": [{"name": "n", "expression": "object.spec.replicas"}, {"name": "wrong", "expression": "object.x"}],
            "validations": [{"expression": expression}],
        });
        let (deployment, map) = (subject("apps", "v1", "Deployment"), subject("", "v1", "ConfigMap"));
        let found = warnings(&spec, &[deployment], Some(Some(&map)));
        assert!(found.iter().all(|warning| warning.field == "spec.validations[0].expression"));
        found.into_iter().map(|warning| warning.text).collect()
    }

    #[test]
    fn what_fits_is_not_warned_of() {
        for expression in [
            "object.spec.replicas > 1 && variables.n < 5",
            "object.spec.template.spec.containers.all(c, c.image.startsWith('a') && has(c.resources.limits))",
            "object.metadata.labels['a'] == params.data['b'] && oldObject == null",
            "variables.wrong == 'whatever it is'",
            "object.spec.strategy.rollingUpdate.maxSurge == 1 || object.spec.strategy.rollingUpdate.maxSurge == '25%'",
            "quantity(string(object.spec.template.spec.containers[0].resources.limits['cpu'])).isGreaterThan(quantity('1'))",
            "authorizer.requestResource.check('get').allowed() && request.operation == 'CREATE'",
        ] {
            assert_eq!(check(expression), Vec::<String>::new(), "{expression}");
        }
    }

    #[test]
    fn what_does_not_fit_is_told_for_each_kind() {
        let undefined = "apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'sped'\n | \
                         object.spec.sped > 1\n | ...........^\n";
        assert_eq!(check("object.spec.sped > 1"), [undefined]);
        for (expression, why) in [
            ("object.spec.replicas > '1'", "found no matching overload for '_>_'"),
            ("variables.n == 'a'", "found no matching overload for '_==_'"),
            ("params.dater['a'] == 'b'", "undefined field 'dater'"),
        ] {
            let [warning] = check(expression).try_into().unwrap();
            assert!(warning.contains(why), "{warning}");
        }
        let spec =
            json!({"validations": [{"expression": "true"}, {"expression": "true", "messageExpression": "object.x"}]});
        let subjects = [subject("", "v1", "Pod"), subject("apps", "v1", "Deployment")];
        let [warning] = warnings(&spec, &subjects, None).try_into().unwrap();
        assert_eq!(warning.field, "spec.validations[1].messageExpression");
        assert!(
            warning.text.starts_with("/v1, Kind=Pod: ERROR") && warning.text.contains("\n\napps/v1, Kind=Deployment")
        );
    }

    #[test]
    fn kinds_that_contain_themselves_end() {
        let definition = subject("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
        let expression = "object.spec.versions.all(v, v.schema.openAPIV3Schema.properties['a'].type == 'b')";
        let spec = json!({"validations": [{"expression": expression}]});
        let [warning] = warnings(&spec, &[definition], None).try_into().unwrap();
        assert!(warning.text.contains("undefined field 'type'"), "{}", warning.text);
    }

    #[test]
    fn rules_with_wildcards_name_nothing() {
        let rule = |group: &str, resources: Value| json!({"apiGroups": [group], "apiVersions": ["v1"], "resources": resources});
        let rules = json!([
            rule("apps", json!(["deployments", "deployments/scale", "*"])),
            rule("*", json!(["pods"])),
            rule("", json!(["services", "pods"])),
        ]);
        let spec = json!({"matchConstraints": {"resourceRules": rules}});
        let all = [vec![("apps", "v1", "deployments")], vec![], vec![("", "v1", "pods"), ("", "v1", "services")]];
        assert_eq!(named(&spec), all);
    }
}
