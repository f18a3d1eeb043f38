//! Rules for the schemas of CustomResourceDefinitions: that they are structural, that their keywords make sense
//! together,
//! and that their defaults are what they describe.

use serde_json::{Value, json};

use crate::custom;
use crate::field::{FieldError, Path};
use crate::kinds::rules::tree::{Errors, Node};
use crate::schema::{Presence, SchemaRef};
use crate::validate::{self, Pattern};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
const COMBINATORS: [&str; 3] = ["allOf", "anyOf", "oneOf"];
/// Longer patterns are refused: compiling them all must stay cheap.
const LONGEST_PATTERN: usize = 4096;
/// More patterns are refused for the same reason.
const MOST_PATTERNS: usize = 5000;

/// Where in a schema a node stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Root,
    Field,
    Item,
}

/// What is wrong with a schema.
#[derive(Default)]
struct Found {
    /// Keywords that do not mean what they should.
    plain: Errors,
    /// What keeps a schema from being structural.
    shape: Errors,
    /// Whether there are keywords that no structural schema has.
    is_unreadable: bool,
}

/// The schema of whole objects.
pub(crate) fn schema(written: &Value, path: &Path, errors: &mut Errors) {
    let before = errors.0.len();
    if count(written, "pattern") > MOST_PATTERNS {
        errors.push(FieldError::invalid(
            path,
            Value::Null,
            &format!("must not have more than {MOST_PATTERNS} patterns"),
        ));
        return;
    }
    let mut found = Found::default();
    structural(&Node::at(path, Some(written)), Place::Root, &mut found);
    errors.0.append(&mut found.plain.0);
    // Upstream cannot ask for a shape where it cannot read the schema.
    if !found.is_unreadable {
        errors.0.append(&mut found.shape.0);
    }
    if errors.0.len() == before && count(written, "default") > 0 {
        let (schemas, root) = custom::read_schema(written);
        defaults(schemas.at(root), path, errors);
    }
}

/// The formats in a schema that nobody checks, as the reference lists them: in the order of the schema, as often as they
/// stand there.
pub(crate) fn unknown_formats<'v>(schema: &'v Value, found: &mut Vec<&'v str>) {
    let Value::Object(schema) = schema else { return };
    let text = |name: &str| schema.get(name).and_then(Value::as_str).unwrap_or("");
    if let Some(format) = schema.get("format").and_then(Value::as_str).filter(|format| !format.is_empty())
        && !validate::is_known_format(format, text("type"))
    {
        found.push(format);
    }
    for inner in ["items", "additionalProperties", "not"].iter().filter_map(|name| schema.get(*name)) {
        unknown_formats(inner, found);
    }
    for list in COMBINATORS.iter().filter_map(|name| schema.get(*name)?.as_array()) {
        list.iter().for_each(|inner| unknown_formats(inner, found));
    }
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        properties.values().for_each(|inner| unknown_formats(inner, found));
    }
}

/// How often a keyword, or a field of that name, occurs.
fn count(value: &Value, name: &str) -> usize {
    match value {
        Value::Object(map) => {
            usize::from(map.contains_key(name)) + map.values().map(|inner| count(inner, name)).sum::<usize>()
        }
        Value::Array(list) => list.iter().map(|inner| count(inner, name)).sum(),
        _ => 0,
    }
}

fn structural(schema: &Node<'_, '_>, place: Place, found: &mut Found) {
    type_rules(schema, place, found);
    unsupported(schema, found);
    pattern(schema, &mut found.plain);
    let (properties, additional, items) =
        (schema.field("properties"), schema.field("additionalProperties"), schema.field("items"));
    if additional.is_set() {
        if place == Place::Root {
            found.shape.forbidden(&additional, "must not be used at the root");
        } else if !properties.is_empty() && !additional.is_true() {
            found.plain.forbidden(&additional, "additionalProperties and properties are mutual exclusive");
        }
        structural_if_object(&additional, Place::Field, found);
    }
    for (_, property) in properties.entries() {
        structural(&property, Place::Field, found);
    }
    if schema.field("type").text() == "array" && items.is_unset() {
        found.plain.required(&items, "must be specified");
    }
    if items.value().is_some_and(Value::is_array) {
        found.is_unreadable = true;
        found.plain.forbidden(&items, "items must be a schema object and not an array");
    }
    structural_if_object(&items, Place::Item, found);
    combinators(schema, schema, found);
    if place == Place::Root || schema.field("x-kubernetes-embedded-resource").is_true() {
        object_rules(schema, found);
        for name in ["apiVersion", "kind", "metadata"] {
            let property = properties.key(name);
            if place == Place::Root {
                no_defaults(&property, name, &mut found.shape);
            }
            let embedded = property.field("x-kubernetes-embedded-resource");
            if embedded.is_true() {
                found.plain.forbidden(&embedded, "must not be used inside of resource meta");
            }
        }
    }
    list_rules(schema, &mut found.plain);
    map_rules(schema, &mut found.plain);
}

fn structural_if_object(at: &Node<'_, '_>, place: Place, found: &mut Found) {
    if at.map().is_some() {
        structural(at, place, found);
    }
}

fn type_rules(schema: &Node<'_, '_>, place: Place, found: &mut Found) {
    const EMBEDDED: &str = "must be object if x-kubernetes-embedded-resource is true";
    let kind = schema.field("type");
    let flag = |name: &str| schema.field(name).is_true();
    let (int_or_string, open) = (flag("x-kubernetes-int-or-string"), flag("x-kubernetes-preserve-unknown-fields"));
    match (kind.text(), place) {
        ("", _) if flag("x-kubernetes-embedded-resource") => found.shape.required(&kind, EMBEDDED),
        (other, _) if other != "object" && flag("x-kubernetes-embedded-resource") => {
            found.shape.invalid(&kind, EMBEDDED)
        }
        ("", _) if int_or_string || (open && place != Place::Root) => {}
        ("", Place::Root) => found.shape.required(&kind, "must not be empty at the root"),
        ("", Place::Field) => found.shape.required(&kind, "must not be empty for specified object fields"),
        ("", Place::Item) => found.shape.required(&kind, "must not be empty for specified array items"),
        ("object", _) => {}
        ("null", _) => found.plain.forbidden(&kind, "type cannot be set to null, use nullable as an alternative"),
        (_, Place::Root) => {
            found.shape.invalid(&kind, "must be object at the root");
            found.plain.one_of(&kind, &TYPES);
        }
        _ => found.plain.one_of(&kind, &TYPES),
    }
    let preserve = schema.field("x-kubernetes-preserve-unknown-fields");
    if preserve.is_false() {
        found.plain.invalid(&preserve, "must be true or undefined");
    }
}

fn unsupported(schema: &Node<'_, '_>, found: &mut Found) {
    for key in ["additionalItems", "definitions", "dependencies", "id", "patternProperties", "$ref"] {
        if schema.field(key).is_set() {
            found.is_unreadable = true;
            found.plain.forbidden(&schema.field(key), &format!("{key} is not supported"));
        }
    }
    if schema.field("uniqueItems").is_true() {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        found.plain.forbidden(&schema.field("uniqueItems"), why);
    }
}

/// A pattern must compile, and stay small when it does.
fn pattern(schema: &Node<'_, '_>, errors: &mut Errors) {
    let pattern = schema.field("pattern");
    let text = pattern.text();
    if text.len() > LONGEST_PATTERN {
        errors.too_long(&pattern, LONGEST_PATTERN);
    } else if !text.is_empty()
        && let Some(why) = Pattern::new(text).error()
    {
        errors.invalid(&pattern, &format!("must be a valid regular expression, but isn't: {why}"));
    }
}

/// What is said of the parts that every object has.
fn object_rules(schema: &Node<'_, '_>, found: &mut Found) {
    let properties = schema.field("properties");
    for name in ["kind", "apiVersion"] {
        let field = properties.key(name);
        let kind = field.field("type");
        if field.is_set() && kind.text() != "string" {
            found.shape.invalid_value(&kind, kind.text(), "must be string");
        }
    }
    let metadata = properties.key("metadata");
    if metadata.is_set() {
        let kind = metadata.field("type");
        if kind.text() != "object" {
            found.shape.invalid_value(&kind, kind.text(), "must be object");
        }
        let restricted = metadata.field("properties");
        if restricted.entries().any(|(name, _)| !matches!(name, "name" | "generateName")) {
            let why =
                "must not specify anything other than name and generateName, but metadata is implicitly specified";
            found.shape.forbidden(&metadata, why);
        }
    }
    if !schema.field("x-kubernetes-embedded-resource").is_true() {
        return;
    }
    if schema.field("additionalProperties").is_set() {
        let why = "must not be used if x-kubernetes-embedded-resource is set";
        found.shape.forbidden(&schema.field("additionalProperties"), why);
    }
    if properties.is_empty() && !schema.field("x-kubernetes-preserve-unknown-fields").is_true() {
        let why =
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        found.shape.required(&properties, why);
    }
}

/// The combinators of a node; `outside` is the schema around all of them that says the shape.
fn combinators(schema: &Node<'_, '_>, outside: &Node<'_, '_>, found: &mut Found) {
    let types_may_differ = is_int_or_string(schema);
    for list in COMBINATORS {
        for branch in schema.field(list).items() {
            logical(&branch, outside, types_may_differ && list != "oneOf", found);
        }
    }
    if schema.field("not").is_set() {
        logical(&schema.field("not"), outside, false, found);
    }
}

/// Whether `anyOf` says once more that a value is an integer or a string, which is allowed.
fn is_int_or_string(schema: &Node<'_, '_>) -> bool {
    let both = json!([{"type": "integer"}, {"type": "string"}]);
    let any = schema.field("anyOf");
    let all = schema.field("allOf");
    let first = all.index(0);
    schema.field("x-kubernetes-int-or-string").is_true()
        && (any.value() == Some(&both) || first.field("anyOf").value() == Some(&both))
}

/// Inside combinators only values may be restricted: the shape is said outside.
fn logical(schema: &Node<'_, '_>, outside: &Node<'_, '_>, types_may_differ: bool, found: &mut Found) {
    const SHAPE: [(&str, &str); 13] = [
        ("type", "must be empty to be structural"),
        ("additionalProperties", "must be undefined to be structural"),
        ("default", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("nullable", "must be false to be structural"),
        ("x-kubernetes-preserve-unknown-fields", "must be undefined to be structural"),
        ("x-kubernetes-embedded-resource", "must be false to be structural"),
        ("x-kubernetes-int-or-string", "must be false to be structural"),
        ("x-kubernetes-list-map-keys", "must be empty to be structural"),
        ("x-kubernetes-list-type", "must be undefined to be structural"),
        ("x-kubernetes-map-type", "must be undefined to be structural"),
        ("x-kubernetes-validations", "must be empty to be structural"),
    ];
    for (key, why) in SHAPE {
        let field = schema.field(key);
        let allowed = key == "type" && types_may_differ && matches!(field.text(), "integer" | "string");
        if field.is_set() && !field.is_false() && !allowed {
            found.shape.forbidden(&field, why);
        }
    }
    pattern(schema, &mut found.plain);
    let (inside, properties) = (schema.field("properties"), outside.field("properties"));
    for (name, _) in inside.entries() {
        let property = inside.key(name);
        if name == "metadata" {
            found.shape.forbidden(&property, "must not be specified in a nested context");
        }
        complete(&property, &properties.key(name), outside, found);
    }
    let (items, items_outside) = (schema.field("items"), outside.field("items"));
    if items.is_set() {
        complete(&items, &items_outside, outside, found);
    }
    let nested_types = types_may_differ && schema.field("anyOf").is_set();
    for list in COMBINATORS {
        for branch in schema.field(list).items() {
            logical(&branch, outside, nested_types, found);
        }
    }
    if schema.field("not").is_set() {
        logical(&schema.field("not"), outside, false, found);
    }
}

/// What a combinator restricts must be there outside, unless anything may be.
fn complete(inside: &Node<'_, '_>, counterpart: &Node<'_, '_>, around: &Node<'_, '_>, found: &mut Found) {
    let open = around.field("x-kubernetes-preserve-unknown-fields").is_true();
    if counterpart.is_unset() && !open && around.field("additionalProperties").is_unset() {
        found.shape.required(counterpart, &format!("because it is defined in {}", inside.path()));
        return;
    }
    logical(inside, counterpart, is_int_or_string(counterpart), found);
}

fn list_rules(schema: &Node<'_, '_>, errors: &mut Errors) {
    let (list_type, keys) = (schema.field("x-kubernetes-list-type"), schema.field("x-kubernetes-list-map-keys"));
    let (kind, items) = (schema.field("type"), schema.field("items"));
    if list_type.is_set() {
        let why = "must be array if x-kubernetes-list-type is specified";
        match kind.text() {
            "array" => {}
            "" => errors.required(&kind, why),
            _ => errors.invalid(&kind, why),
        }
        errors.one_of(&list_type, &["atomic", "set", "map"]);
    }
    match (list_type.text(), keys.is_empty()) {
        ("map", true) => errors.required(&keys, "must not be empty if x-kubernetes-list-type is map"),
        ("map", false) => map_keys(&items, &keys, errors),
        ("", false) => errors.required(&list_type, "must be map if x-kubernetes-list-map-keys is non-empty"),
        (_, false) => errors.invalid(&list_type, "must be map if x-kubernetes-list-map-keys is non-empty"),
        ("set", true) => set_rules(&items, errors),
        _ => {}
    }
}

/// Elements that are told apart by keys are objects that have these.
fn map_keys(items: &Node<'_, '_>, keys: &Node<'_, '_>, errors: &mut Errors) {
    let kind = items.field("type");
    if items.is_set() && kind.text() != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        errors.invalid_value(&kind, kind.text(), why);
    }
    if items.field("nullable").is_true() {
        errors.forbidden(&items.field("nullable"), "cannot be nullable when x-kubernetes-list-type is map");
    }
    let (properties, required) = (items.field("properties"), items.field("required"));
    for (index, key) in keys.texts().enumerate() {
        let property = properties.key(key);
        if property.is_unset() {
            errors.invalid(keys, "entries must all be names of item properties");
            continue;
        }
        if keys.texts().take(index).any(|before| before == key) {
            errors.invalid(keys, "must not contain duplicate entries");
        }
        let kind = property.field("type");
        if matches!(kind.text(), "array" | "object") {
            // The reference shows the type of the element here.
            let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            errors.invalid_value(&kind, "object", why);
        }
        if property.field("nullable").is_true() {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.forbidden(&property.field("nullable"), why);
        }
        if property.field("default").is_unset() && !required.texts().any(|name| name == key) {
            let why =
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.required(&property.field("default"), why);
        }
    }
}

/// Elements of sets are compared as a whole.
fn set_rules(items: &Node<'_, '_>, errors: &mut Errors) {
    const ATOMIC: &str = "must be atomic as item of a list with x-kubernetes-list-type=set";
    if items.field("nullable").is_true() {
        errors.forbidden(&items.field("nullable"), "cannot be nullable when x-kubernetes-list-type is set");
    }
    let (maps, lists) = (items.field("x-kubernetes-map-type"), items.field("x-kubernetes-list-type"));
    match items.field("type").text() {
        // The reference shows the other of the two here.
        "object" if maps.text() != "atomic" => errors.invalid_value(&maps, lists.shown(), ATOMIC),
        "array" if lists.is_set() && lists.text() != "atomic" => errors.invalid(&lists, ATOMIC),
        _ => {}
    }
}

fn map_rules(schema: &Node<'_, '_>, errors: &mut Errors) {
    let (map_type, kind) = (schema.field("x-kubernetes-map-type"), schema.field("type"));
    if map_type.is_unset() {
        return;
    }
    let why = "must be object if x-kubernetes-map-type is specified";
    match kind.text() {
        "object" => {}
        "" => errors.required(&kind, why),
        _ => errors.invalid(&kind, why),
    }
    errors.one_of(&map_type, &["atomic", "granular"]);
}

/// What every object has is given by its client: it has no defaults.
fn no_defaults(schema: &Node<'_, '_>, within: &str, errors: &mut Errors) {
    if schema.field("default").is_set() {
        errors.forbidden(&schema.field("default"), &format!("must not be set in top-level {within}"));
    }
    let properties = schema.field("properties");
    for (_, property) in properties.entries() {
        no_defaults(&property, within, errors);
    }
    for part in ["items", "additionalProperties"] {
        if schema.field(part).map().is_some() {
            no_defaults(&schema.field(part), within, errors);
        }
    }
}

/// Defaults fit their schema, and nothing in them would be pruned.
fn defaults(schema: SchemaRef<'_>, path: &Path, errors: &mut Errors) {
    let node = schema.node();
    if node.presence != Presence::AsGiven {
        return;
    }
    if let Some(default) = &node.default {
        let at = path.child("default");
        let mut pruned = default.clone();
        custom::prune(&mut pruned, schema);
        if pruned != *default {
            errors.push(FieldError::invalid(&at, default.clone(), "must not have unknown fields"));
        }
        let wrong = validate::structural(default, schema, &Path::default());
        wrong.into_iter().for_each(|error| errors.push(error.below(&at)));
    }
    for (name, field) in schema.fields() {
        defaults(field, &path.child("properties").key(name), errors);
    }
    if let Some(values) = schema.values() {
        defaults(values, &path.child("additionalProperties"), errors);
    }
    if let Some(items) = schema.items() {
        defaults(items, &path.child("items"), errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a schema whose field `a` is this.
    fn check(field: Value, want: &[&str]) {
        check_root(json!({"type": "object", "properties": {"a": field}}), want);
    }

    fn check_root(written: Value, want: &[&str]) {
        let mut errors = Errors::default();
        schema(&written, &Path::new("s"), &mut errors);
        let texts: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        assert_eq!(texts, want, "{written}");
    }

    #[test]
    fn what_kubernetes_accepts_is_fine() {
        check(json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}), &[]);
        check(
            json!({"type": "object", "properties": {"b": {"type": "string", "default": "x"}}, "default": {"b": "y"}}),
            &[],
        );
        check(json!({"type": "object", "properties": {"b": {"type": "string"}}, "oneOf": [{"required": ["b"]}]}), &[]);
        check(json!({"type": "string", "pattern": "^[a-z]+$", "not": {"enum": ["b"]}}), &[]);
        check(json!({"x-kubernetes-preserve-unknown-fields": true}), &[]);
        check(json!({"type": "string", "x-kubernetes-int-or-string": true}), &[]);
        check(json!({"type": "string", "pattern": r"^[^()<>@,;:\\/[\]?={}]+$"}), &[]);
        check(json!({"type": "object", "properties": {"b": {"type": "string"}}, "additionalProperties": true}), &[]);
        check_root(
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 9}}}}}),
            &[],
        );
    }

    #[test]
    fn properties_and_a_schema_of_all_others_exclude_each_other() {
        for additional in [json!(false), json!({"type": "string"})] {
            check(
                json!({"type": "object", "properties": {"b": {"type": "string"}}, "additionalProperties": additional}),
                &[
                    "s.properties[a].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
                ],
            );
        }
    }

    #[test]
    fn shapes_are_said_outside_of_combinators() {
        check(
            json!({"type": "object", "properties": {"b": {"type": "string"}}, "anyOf": [{"properties": {"c": {"pattern": "x"}}}]}),
            &[
                "s.properties[a].properties[c]: Required value: because it is defined in s.properties[a].anyOf[0].properties[c]",
            ],
        );
        check(
            json!({"type": "string", "not": {"nullable": true}}),
            &["s.properties[a].not.nullable: Forbidden: must be false to be structural"],
        );
    }

    #[test]
    fn lists_say_how_they_are_told_apart() {
        let list = |items: Value| json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": items});
        check(
            list(json!({"type": "object", "properties": {"k": {"type": "string"}}})),
            &[
                "s.properties[a].items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            ],
        );
        check(
            list(json!({"type": "object", "properties": {"b": {"type": "string"}}})),
            &[
                "s.properties[a].x-kubernetes-list-map-keys: Invalid value: [\"k\"]: entries must all be names of item properties",
            ],
        );
        check(
            json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object"}}),
            &[
                "s.properties[a].items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set",
            ],
        );
    }

    #[test]
    fn what_every_object_has_is_never_defaulted() {
        let name = json!({"type": "object", "properties": {"name": {"type": "string", "default": "x"}}});
        check_root(
            json!({"type": "object", "properties": {"metadata": name}}),
            &["s.properties[metadata].properties[name].default: Forbidden: must not be set in top-level metadata"],
        );
    }

    #[test]
    fn defaults_fit_and_keep_everything() {
        check(
            json!({"type": "object", "properties": {"b": {"type": "string", "maxLength": 1}}, "default": {"b": "xy"}}),
            &["s.properties[a].default.b: Too long: may not be more than 1 byte"],
        );
        check(
            json!({"type": "object", "properties": {"b": {"type": "string"}}, "default": {"c": 1}}),
            &["s.properties[a].default: Invalid value: {\"c\":1}: must not have unknown fields"],
        );
    }

    #[test]
    fn metadata_is_what_it_is_everywhere() {
        check_root(
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
            &[
                "s.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
            ],
        );
        check(
            json!({"type": "string", "x-kubernetes-embedded-resource": true}),
            &[
                "s.properties[a].type: Invalid value: \"string\": must be object if x-kubernetes-embedded-resource is true",
                "s.properties[a].properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
            ],
        );
    }

    #[test]
    fn malicious_schemas_are_refused_soon() {
        let deep =
            (0..100).fold(json!({"type": "string"}), |inner, _| json!({"type": "object", "properties": {"a": inner}}));
        check_root(deep, &[]);
        let mut errors = Errors::default();
        let huge =
            json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "((x{999}){999}){999}"}}});
        schema(&huge, &Path::new("s"), &mut errors);
        assert_eq!(errors.0.len(), 1);
        check(
            json!({"type": "string", "pattern": "x".repeat(LONGEST_PATTERN + 1)}),
            &["s.properties[a].pattern: Too long: may not be more than 4096 bytes"],
        );
    }
}
