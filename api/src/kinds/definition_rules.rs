//! Rules for CustomResourceDefinitions: names, versions, and that schemas are structural. CEL rules are checked by
//! their evaluator.

use std::collections::HashSet;

use serde_json::Value;

use super::dump::Shown;
use super::rules;
use super::tree::{Errors, Node};
use crate::custom::status::{self, Approval};
use crate::field::{FieldError, Path};
use crate::rules::check_rules;

const APPROVAL: &str = "protected groups must have approval annotation \"api-approved.kubernetes.io\", see \
                        https://github.com/kubernetes/enhancements/pull/1111";
const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// A `CustomResourceDefinition`.
pub(crate) fn definition(object: &Node<'_, '_>, errors: &mut Errors) {
    let spec = object.field("spec");
    let (group, names) = (spec.field("group"), spec.field("names"));
    if errors.require_text(&group) {
        errors.invalid_all(&group, rules::subdomain(group.text()));
        if group.text().split('.').count() < 2 {
            errors.invalid(&group, "should be a domain with at least one dot");
        }
    }
    let scope = spec.field("scope");
    if errors.require_text(&scope) {
        errors.one_of(&scope, &["Cluster", "Namespaced"]);
    }
    versions(&spec, errors);
    names_rules(&names, errors);
    conversion(&spec.field("conversion"), errors);
    schemas(&spec, errors);
    stored_versions(object, errors);
}

/// Rules for new definitions: groups of Kubernetes itself need an approval.
pub(crate) fn new_definition(object: &Node<'_, '_>, errors: &mut Errors) {
    let (metadata, spec) = (object.field("metadata"), object.field("spec"));
    let group = spec.field("group").text();
    let wanted = format!("{}.{group}", spec.field("names").field("plural").text());
    if metadata.field("name").text() != wanted {
        errors.invalid(&metadata.field("name"), "must be spec.names.plural+\".\"+spec.group");
    }
    if !status::is_protected(group) {
        return;
    }
    let annotations = metadata.field("annotations");
    let approval = annotations.map().and_then(|map| map.get(status::APPROVAL_ANNOTATION)).and_then(Value::as_str);
    let at = annotations.key(status::APPROVAL_ANNOTATION);
    match Approval::of(approval.unwrap_or("")) {
        Approval::Missing => errors.required(&at, APPROVAL),
        Approval::Invalid => errors.invalid(&at, &status::invalid_approval()),
        Approval::Approved | Approval::Unapproved => {}
    }
}

/// What a change may not do: objects lie in the store under group and plural, and clients know scope and kind.
pub(crate) fn definition_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (spec, before) = (new.field("spec"), old.field("spec"));
    let (names, names_before) = (spec.field("names"), before.field("names"));
    let status = old.field("status");
    let conditions = status.field("conditions");
    let established =
        conditions.items().any(|one| one.field("type").text() == "Established" && one.field("status").text() == "True");
    if established {
        errors.immutable(&spec.field("scope"), &before.field("scope"));
        errors.immutable(&names.field("kind"), &names_before.field("kind"));
    }
    errors.immutable(&spec.field("group"), &before.field("group"));
    errors.immutable(&names.field("plural"), &names_before.field("plural"));
}

/// Rules for a write to the status.
pub(crate) fn definition_status(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
    stored_versions(new, errors);
}

fn versions(spec: &Node<'_, '_>, errors: &mut Errors) {
    let list = spec.field("versions");
    let mut names = HashSet::new();
    let mut unique = true;
    for (index, version) in list.items().enumerate() {
        let name = version.field("name");
        let wrong = rules::dns1035_label(name.text());
        if index == 0 {
            // Internally the first version has a field of its own, which is checked as well.
            for why in &wrong {
                errors.invalid_value(&spec.field("version"), name.text(), why);
            }
        }
        errors.invalid_all(&name, wrong);
        unique &= names.insert(name.text());
    }
    if !unique {
        errors.invalid_shown(&list, &shown_versions(&list), "must contain unique version names");
    }
    if list.items().filter(|version| version.field("storage").is_true()).count() != 1 {
        errors.invalid_shown(&list, &shown_versions(&list), "must have exactly one version marked as storage version");
    }
}

fn shown_versions(list: &Node<'_, '_>) -> Shown {
    let one = |version: Node<'_, '_>| {
        Shown::fields([
            ("Name", version.field("name").text().into()),
            ("Served", version.field("served").is_true().into()),
            ("Storage", version.field("storage").is_true().into()),
            ("Deprecated", version.field("deprecated").is_true().into()),
            ("DeprecationWarning", version.field("deprecationWarning").shown()),
            // A schema that all versions share is shown once, above them.
            ("Schema", Value::Null),
            ("Subresources", version.field("subresources").shown()),
            ("AdditionalPrinterColumns", version.field("additionalPrinterColumns").shown()),
            ("SelectableFields", version.field("selectableFields").shown()),
        ])
    };
    Shown::List(list.items().map(one).collect())
}

fn names_rules(names: &Node<'_, '_>, errors: &mut Errors) {
    for key in ["plural", "singular"] {
        let name = names.field(key);
        for why in rules::dns1035_label(name.text()) {
            errors.invalid_value(&name, name.text(), &why);
        }
    }
    for key in ["kind", "listKind"] {
        let name = names.field(key);
        for why in rules::dns1035_label(&name.text().to_lowercase()) {
            errors.invalid_value(
                &name,
                name.text(),
                &format!("may have mixed case, but should otherwise match: {why}"),
            );
        }
    }
    for list in ["shortNames", "categories"] {
        for name in names.field(list).items() {
            errors.invalid_all(&name, rules::dns1035_label(name.text()));
        }
    }
    let list_kind = names.field("listKind");
    if !list_kind.text().is_empty() && list_kind.text() == names.field("kind").text() {
        errors.invalid(&list_kind, "kind and listKind may not be the same");
    }
}

fn conversion(at: &Node<'_, '_>, errors: &mut Errors) {
    let (strategy, webhook) = (at.field("strategy"), at.field("webhook"));
    match strategy.text() {
        "None" => {
            if webhook.is_set() {
                errors.forbidden(&webhook, "should not be set when strategy is not set to Webhook");
            }
        }
        "Webhook" => {
            let client = webhook.field("clientConfig");
            if client.is_unset() {
                errors.required(&at.field("webhookClientConfig"), "required when strategy is set to Webhook");
            } else {
                super::extension_rules::client_config(&client, errors);
            }
            if webhook.field("conversionReviewVersions").is_empty() {
                errors.required(&webhook.field("conversionReviewVersions"), "");
            }
        }
        _ => errors.one_of(&strategy, &["None", "Webhook"]),
    }
}

fn stored_versions(object: &Node<'_, '_>, errors: &mut Errors) {
    let (spec, status) = (object.field("spec"), object.field("status"));
    let (versions, stored) = (spec.field("versions"), status.field("storedVersions"));
    if stored.is_empty() {
        errors.invalid_value(&stored, Value::Null, "must have at least one stored version");
        return;
    }
    let storage = versions.items().filter(|version| version.field("storage").is_true()).last();
    if let Some(storage) = storage {
        let name = storage.field("name").text();
        if !stored.texts().any(|one| one == name) {
            errors.invalid(&stored, &format!("must have the storage version {name}"));
        }
    }
    for version in stored.items() {
        if !versions.items().any(|one| one.field("name").text() == version.text()) {
            let name = version.text();
            let why = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until \
                 a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            errors.invalid(&version, &why);
        }
    }
}

/// Where all versions share one schema, upstream reports its errors at a place above the versions.
fn schemas(spec: &Node<'_, '_>, errors: &mut Errors) {
    let list = spec.field("versions");
    let own = |value: &Value| value.pointer("/schema/openAPIV3Schema").cloned();
    let first = list.list().first().and_then(own);
    let shared = list.list().iter().all(|version| own(version) == first);
    for (index, version) in list.items().enumerate() {
        let holder = version.field("schema");
        let schema = holder.field("openAPIV3Schema");
        if schema.is_unset() {
            errors.required(&schema, "");
            continue;
        }
        if shared && index > 0 {
            continue;
        }
        let path = if shared { Path::new("spec").child("validation").child("openAPIV3Schema") } else { schema.path() };
        let before = errors.0.len();
        structural(&Node::at(&path, schema.value()), Place::Root, errors);
        if let (Some(written), true) = (schema.value(), errors.0.len() == before) {
            errors.0.extend(check_rules(written, &path));
        }
    }
}

/// Where in a schema a node stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Root,
    Field,
    Item,
}

fn structural(schema: &Node<'_, '_>, place: Place, errors: &mut Errors) {
    type_rules(schema, place, errors);
    unsupported(schema, errors);
    let (properties, additional, items) =
        (schema.field("properties"), schema.field("additionalProperties"), schema.field("items"));
    if additional.is_set() {
        if place == Place::Root {
            errors.forbidden(&additional, "must not be used at the root");
        } else if !properties.is_empty() {
            errors.forbidden(&additional, "must not be used together with properties");
        }
        structural_if_object(&additional, Place::Field, errors);
    }
    for (_, property) in properties.entries() {
        structural(&property, Place::Field, errors);
    }
    if schema.field("type").text() == "array" && items.is_unset() {
        errors.required(&items, "must be specified");
    }
    structural_if_object(&items, Place::Item, errors);
    for list in ["allOf", "anyOf", "oneOf"] {
        for branch in schema.field(list).items() {
            logical(&branch, schema, errors);
        }
    }
    if schema.field("not").is_set() {
        logical(&schema.field("not"), schema, errors);
    }
    list_rules(schema, errors);
    default_rule(schema, errors);
}

fn structural_if_object(at: &Node<'_, '_>, place: Place, errors: &mut Errors) {
    if at.map().is_some() {
        structural(at, place, errors);
    }
}

fn type_rules(schema: &Node<'_, '_>, place: Place, errors: &mut Errors) {
    let kind = schema.field("type");
    let free = schema.field("x-kubernetes-int-or-string").is_true()
        || (place != Place::Root && schema.field("x-kubernetes-preserve-unknown-fields").is_true());
    match (kind.text(), place) {
        ("", Place::Root) => errors.required(&kind, "must not be empty at the root"),
        ("", Place::Field) if !free => errors.required(&kind, "must not be empty for specified object fields"),
        ("", Place::Item) if !free => errors.required(&kind, "must not be empty for specified array items"),
        ("", _) | ("object", _) => {}
        (_, Place::Root) => errors.invalid(&kind, "must be object at the root"),
        _ => errors.one_of(&kind, &TYPES),
    }
    if schema.field("x-kubernetes-int-or-string").is_true() && !kind.text().is_empty() {
        errors.forbidden(&kind, "must be empty if x-kubernetes-int-or-string is true");
    }
}

fn unsupported(schema: &Node<'_, '_>, errors: &mut Errors) {
    for key in ["definitions", "dependencies", "id", "patternProperties", "$ref"] {
        if schema.field(key).is_set() {
            errors.forbidden(&schema.field(key), &format!("{key} is not supported"));
        }
    }
    if schema.field("uniqueItems").is_true() {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.forbidden(&schema.field("uniqueItems"), why);
    }
}

/// Inside combinators only values may be restricted: the shape is said outside.
fn logical(schema: &Node<'_, '_>, outside: &Node<'_, '_>, errors: &mut Errors) {
    let int_or_string = outside.field("x-kubernetes-int-or-string").is_true();
    for key in [
        "type",
        "additionalProperties",
        "default",
        "description",
        "title",
        "nullable",
        "x-kubernetes-preserve-unknown-fields",
    ] {
        let field = schema.field(key);
        let allowed = key == "type" && int_or_string && matches!(field.text(), "integer" | "string");
        if field.is_set() && !allowed {
            errors.forbidden(&field, "must be empty to be structural");
        }
    }
    for (_, property) in schema.field("properties").entries() {
        logical(&property, schema, errors);
    }
    for list in ["allOf", "anyOf", "oneOf"] {
        for branch in schema.field(list).items() {
            logical(&branch, schema, errors);
        }
    }
}

fn list_rules(schema: &Node<'_, '_>, errors: &mut Errors) {
    let (kind, keys) = (schema.field("x-kubernetes-list-type"), schema.field("x-kubernetes-list-map-keys"));
    if kind.is_set() {
        errors.one_of(&kind, &["atomic", "map", "set"]);
        if schema.field("type").text() != "array" {
            errors.invalid_value(
                &schema.field("type"),
                schema.field("type").text(),
                "must be array if x-kubernetes-list-type is specified",
            );
        }
    }
    if kind.text() == "map" && keys.is_empty() {
        errors.required(&keys, "must not be empty if x-kubernetes-list-type is map");
    }
    if kind.text() != "map" && !keys.is_empty() {
        errors.forbidden(&keys, "must be empty unless x-kubernetes-list-type is map");
    }
    errors.none_or_one_of(&schema.field("x-kubernetes-map-type"), &["atomic", "granular"]);
}

/// A default has the type of its field.
fn default_rule(schema: &Node<'_, '_>, errors: &mut Errors) {
    let default = schema.field("default");
    let Some(value) = default.value() else { return };
    let (wanted, found) = (schema.field("type").text(), type_of(value));
    if wanted.is_empty() || wanted == found || (wanted == "number" && found == "integer") {
        return;
    }
    let why = format!(" in body must be of type {wanted}: {:?}", found);
    errors.push(FieldError::type_invalid(&default.path(), found, &why));
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
