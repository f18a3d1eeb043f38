use serde_json::json;

use super::*;
use crate::schema::{Presence, Schema, SchemaId, Schemas};

/// A node with these rules.
fn leaf(type_: Type, rules: Value) -> Schema {
    let enumeration = rules.get("enum").and_then(Value::as_array).cloned().unwrap_or_default();
    let format = rules.get("format").and_then(Value::as_str).unwrap_or("").to_owned().into();
    Schema {
        type_,
        format,
        enumeration,
        presence: Presence::AsGiven,
        value_validation: Some(Box::new(rules)),
        ..Schema::default()
    }
}

/// The schema of `spec` that the recorded cases use, in part.
fn schemas() -> (Schemas, SchemaId) {
    let mut schemas = Schemas::new();
    let string = schemas.add(leaf(Type::String, json!({})));
    let integer = schemas.add(leaf(Type::Integer, json!({})));
    let entry = Schema {
        properties: [("k", string), ("v", integer)].into_iter().collect(),
        required: vec!["k".into()],
        ..leaf(Type::Object, json!({}))
    };
    let entry = schemas.add(entry);
    let list = |items, list_type, rules| Schema { items: Some(items), list_type, ..leaf(Type::Array, rules) };
    let one = json!({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
    let fields = [
        ("must", leaf(Type::String, json!({}))),
        ("n", leaf(Type::Integer, json!({"minimum": 1, "maximum": 10}))),
        ("s", leaf(Type::String, json!({"pattern": "^[a-z]+$", "maxLength": 5, "minLength": 2}))),
        ("e", leaf(Type::String, json!({"enum": ["a", "b"]}))),
        ("nul", Schema { nullable: true, ..leaf(Type::String, json!({})) }),
        ("list", list(string, ListType::Atomic, json!({"maxItems": 2}))),
        ("set", list(string, ListType::Set, json!({}))),
        ("map", list(entry, ListType::Map(vec!["k".to_owned()]), json!({}))),
        ("f", leaf(Type::Number, json!({"multipleOf": 0.5}))),
        ("date", leaf(Type::String, json!({"format": "date-time"}))),
        ("b64", leaf(Type::String, json!({"format": "byte"}))),
        ("one", Schema { properties: [("a", string), ("b", string)].into_iter().collect(), ..leaf(Type::Object, one) }),
        (
            "adds",
            Schema { additional: Some(integer), ..leaf(Type::Object, json!({"minProperties": 1, "maxProperties": 2})) },
        ),
    ];
    let fields: Vec<(&str, SchemaId)> = fields.into_iter().map(|(name, schema)| (name, schemas.add(schema))).collect();
    let spec = Schema {
        properties: fields.into_iter().collect(),
        required: vec!["must".into()],
        ..leaf(Type::Object, json!({}))
    };
    let id = schemas.add(spec);
    (schemas, id)
}

fn check(spec: Value, want: &[&str]) {
    let (schemas, id) = schemas();
    let errors = structural(&spec, schemas.at(id), &Path::new("spec"));
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts, want, "{spec}");
}

#[test]
fn what_is_fine_passes() {
    check(
        json!({"must": "x", "n": 3, "s": "abc", "e": "a", "nul": null, "list": ["a"], "set": ["a", "b"], "f": 1.5}),
        &[],
    );
    check(
        json!({"must": "x", "map": [{"k": "a"}, {"k": "b"}], "one": {"a": "1"}, "adds": {"x": 1}, "b64": "MQ=="}),
        &[],
    );
}

#[test]
fn what_is_wrong_is_told_in_the_references_words() {
    check(json!({}), &["spec.must: Required value"]);
    check(
        json!({"must": "x", "n": 0}),
        &["spec.n: Invalid value: 0: spec.n in body should be greater than or equal to 1"],
    );
    check(
        json!({"must": "x", "n": "3"}),
        &[r#"spec.n: Invalid value: "string": spec.n in body must be of type integer: "string""#],
    );
    check(
        json!({"must": "x", "s": "ABC"}),
        &[r#"spec.s: Invalid value: "ABC": spec.s in body should match '^[a-z]+$'"#],
    );
    check(json!({"must": "x", "s": "abcdef"}), &["spec.s: Too long: may not be more than 5 bytes"]);
    check(json!({"must": "x", "e": "c"}), &[r#"spec.e: Unsupported value: "c": supported values: "a", "b""#]);
    check(json!({"must": "x", "list": ["a", "b", "c"]}), &["spec.list: Too many: 3: must have at most 2 items"]);
    check(
        json!({"must": "x", "list": [1]}),
        &[r#"spec.list[0]: Invalid value: "integer": spec.list[0] in body must be of type string: "integer""#],
    );
    check(
        json!({"must": "x", "list": [null]}),
        &[r#"spec.list[0]: Invalid value: "null": spec.list[0] in body must be of type string: "null""#],
    );
    check(json!({"must": "x", "set": ["a", "a"]}), &[r#"spec.set[1]: Duplicate value: "a""#]);
    check(json!({"must": "x", "map": [{"k": "a"}, {"k": "a"}]}), &[r#"spec.map[1]: Duplicate value: {"k":"a"}"#]);
    check(json!({"must": "x", "f": 0.3}), &["spec.f: Invalid value: 0.3: spec.f in body should be a multiple of 0.5"]);
    check(
        json!({"must": "x", "date": "yesterday"}),
        &[r#"spec.date: Invalid value: "yesterday": spec.date in body must be of type date-time: "yesterday""#],
    );
    check(
        json!({"must": "x", "b64": "!"}),
        &[r#"spec.b64: Invalid value: "!": spec.b64 in body must be of type byte: "!""#],
    );
    check(
        json!({"must": "x", "adds": {}}),
        &["spec.adds: Invalid value: 0: spec.adds in body should have at least 1 properties"],
    );
}

#[test]
fn combinations_and_their_closest_failure_are_told() {
    let both = r#"<nil>: Invalid value: "": "spec.one" must validate one and only one schema (oneOf). Found 2 valid alternatives"#;
    check(json!({"must": "x", "one": {"a": "1", "b": "2"}}), &[both]);
    let none =
        r#"<nil>: Invalid value: "": "spec.one" must validate one and only one schema (oneOf). Found none valid"#;
    check(json!({"must": "x", "one": {}}), &[none, "spec.one.a: Required value"]);
}

#[test]
fn several_errors_come_by_field_and_missing_fields_last() {
    check(
        json!({"n": 0, "e": "z", "s": "A"}),
        &[
            r#"spec.e: Unsupported value: "z": supported values: "a", "b""#,
            "spec.n: Invalid value: 0: spec.n in body should be greater than or equal to 1",
            r#"spec.s: Invalid value: "A": spec.s in body should be at least 2 chars long"#,
            "spec.must: Required value",
        ],
    );
}

#[test]
fn a_fraction_where_an_integer_has_limits_is_refused_twice() {
    check(
        json!({"must": "x", "n": 1.5}),
        &[
            r#"spec.n: Invalid value: "number": spec.n in body must be of type integer: "number""#,
            r#"<nil>: Invalid value: "": Checked value must be of type integer (default format) in spec.n"#,
        ],
    );
}
