use serde_json::{Value, json};

use super::*;

/// The schema of the recorded case.
fn widget() -> Value {
    json!({"type": "object", "properties": {"spec": {
        "type": "object",
        "properties": {
            "min": {"type": "integer"},
            "max": {"type": "integer"},
            "name": {"type": "string", "maxLength": 20, "x-kubernetes-validations": [
                {"rule": "self.startsWith('g')", "message": "must start with g"},
            ]},
            "once": {"type": "string", "maxLength": 10, "x-kubernetes-validations": [
                {"rule": "self == oldSelf", "message": "once is forever"},
            ]},
            "items": {
                "type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 5},
                "x-kubernetes-validations": [
                    {"rule": "self.all(x, size(x) > 1)", "messageExpression": "'short items, the first is ' + self[0]"},
                ],
            },
            "when": {"type": "string", "format": "date-time", "x-kubernetes-validations": [
                {"rule": "self > timestamp('2019-01-01T00:00:00Z')"},
            ]},
            "qty": {"x-kubernetes-int-or-string": true, "maxLength": 20, "x-kubernetes-validations": [
                {"rule": "type(self) == int ? self < 100 : isQuantity(self)", "reason": "FieldValueForbidden"},
            ]},
            "grow": {"type": "integer", "x-kubernetes-validations": [
                {"rule": "!oldSelf.hasValue() || self >= oldSelf.value()", "optionalOldSelf": true, "message": "may not shrink"},
            ]},
            "ports": {
                "type": "array", "maxItems": 10,
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {
                    "type": "object", "required": ["name"],
                    "properties": {"name": {"type": "string", "maxLength": 10}, "port": {"type": "integer"}},
                    "x-kubernetes-validations": [{"rule": "self.port >= oldSelf.port", "message": "ports only grow"}],
                },
            },
        },
        "x-kubernetes-validations": [
            {
                "rule": "!has(self.min) || !has(self.max) || self.min <= self.max",
                "messageExpression": "has(self.name) ? 'the limits of ' + self.name + ' are crossed' : 'crossed'",
                "fieldPath": ".max", "reason": "FieldValueInvalid",
            },
            {"rule": "!has(oldSelf.once) || has(self.once)", "message": "once may not vanish"},
        ],
    }}})
}

fn check(old: Option<Value>, new: Value, want: &[&str]) {
    let rules = RuleSet::compile(&widget());
    let (new, old) = (json!({"spec": new}), old.map(|old| json!({"spec": old})));
    let findings = rules.validate(&new, old.as_ref(), &Path::default());
    let texts: Vec<String> = findings.errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts, want, "{old:?} -> {new}");
}

#[test]
fn the_schema_of_the_recorded_case_is_accepted() {
    assert_eq!(check_rules(&widget(), &Path::new("schema")), []);
}

#[test]
fn new_objects_are_told_which_rules_they_break() {
    check(None, json!({"min": 1, "max": 2, "name": "gold", "once": "x", "items": ["aa"]}), &[]);
    check(None, json!({"min": 3, "max": 2}), &["spec.max: Invalid value: crossed"]);
    check(
        None,
        json!({"min": 3, "max": 2, "name": "silver"}),
        &[
            "spec.max: Invalid value: the limits of silver are crossed",
            r#"spec.name: Invalid value: "silver": must start with g"#,
        ],
    );
    check(None, json!({"items": ["a", "bb"]}), &["spec.items: Invalid value: short items, the first is a"]);
    check(
        None,
        json!({"when": "2018-01-01T00:00:00Z"}),
        &[r#"spec.when: Invalid value: "2018-01-01T00:00:00Z": failed rule: self > timestamp('2019-01-01T00:00:00Z')"#],
    );
    check(None, json!({"qty": 5}), &[]);
    check(None, json!({"qty": "5Gi"}), &[]);
    let failed = "spec.qty: Forbidden: failed rule: type(self) == int ? self < 100 : isQuantity(self)";
    check(None, json!({"qty": 500}), &[failed]);
    check(None, json!({"qty": "five"}), &[failed]);
}

#[test]
fn transition_rules_see_what_was_there() {
    check(Some(json!({"once": "x"})), json!({"once": "x"}), &[]);
    check(Some(json!({"once": "x"})), json!({"once": "y"}), &[r#"spec.once: Invalid value: "y": once is forever"#]);
    check(Some(json!({"once": "x"})), json!({}), &["spec: Invalid value: once may not vanish"]);
    check(Some(json!({})), json!({"once": "y"}), &[]);
    check(None, json!({"grow": 3}), &[]);
    check(Some(json!({})), json!({"grow": 3}), &[]);
    check(Some(json!({"grow": 5})), json!({"grow": 3}), &["spec.grow: Invalid value: 3: may not shrink"]);
    // Elements of lists are found by their keys, wherever they stand.
    let ports = |a: i64, b: i64| json!({"ports": [{"name": "a", "port": a}, {"name": "b", "port": b}]});
    check(
        Some(ports(1, 5)),
        json!({"ports": [{"name": "new", "port": 0}, {"name": "b", "port": 4}, {"name": "a", "port": 1}]}),
        &["spec.ports[1]: Invalid value: ports only grow"],
    );
}

#[test]
fn what_was_wrong_before_may_stay() {
    check(Some(json!({"name": "silver"})), json!({"name": "silver", "min": 1}), &[]);
    check(
        Some(json!({"name": "silver"})),
        json!({"name": "steel"}),
        &[r#"spec.name: Invalid value: "steel": must start with g"#],
    );
    let rules = RuleSet::compile(&widget());
    let object = json!({"spec": {"name": "silver"}});
    let findings = rules.validate(&object, Some(&object), &Path::default());
    assert_eq!(findings.errors, []);
    assert_eq!(findings.tolerated.len(), 1);
}

fn refused(schema: Value, want: &[&str]) {
    let texts: Vec<String> = check_rules(&schema, &Path::new("schema")).iter().map(ToString::to_string).collect();
    assert_eq!(texts, want);
}

fn with_rule(mut schema: Value, rule: Value) -> Value {
    schema["x-kubernetes-validations"] = json!([rule]);
    json!({"type": "object", "properties": {"a": schema}})
}

#[test]
fn rules_that_are_wrong_are_refused_with_the_compilers_words() {
    refused(
        with_rule(json!({"type": "object", "properties": {"b": {"type": "string"}}}), json!({"rule": "self.c == 1"})),
        &[
            "schema.properties[a].x-kubernetes-validations[0].rule: Invalid value: {\"Rule\":\"self.c == 1\",\"Message\":\"\",\
              \"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}: compilation failed: \
              ERROR: <input>:1:5: undefined field 'c'\n | self.c == 1\n | ....^",
        ],
    );
    let at = "schema.properties[a].x-kubernetes-validations[0]";
    let cases = [
        (json!({"rule": " "}), format!("{at}.rule: Required value: rule is not specified")),
        (
            json!({"rule": "true", "message": " "}),
            format!("{at}.message: Invalid value: \" \": must be non-empty if specified"),
        ),
        (
            json!({"rule": "true", "reason": "Nope"}),
            format!(
                "{at}.reason: Unsupported value: \"Nope\": supported values: \"FieldValueDuplicate\", \
                 \"FieldValueForbidden\", \"FieldValueInvalid\", \"FieldValueRequired\""
            ),
        ),
        (
            json!({"rule": "true", "fieldPath": ".x"}),
            format!("{at}.fieldPath: Invalid value: \".x\": must be a valid path"),
        ),
        (
            json!({"rule": "true", "optionalOldSelf": true}),
            format!("{at}.optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule"),
        ),
    ];
    for (rule, want) in cases {
        refused(with_rule(json!({"type": "string"}), rule), &[&want]);
    }
}

#[test]
fn rules_that_may_cost_too_much_are_refused() {
    let schema = with_rule(
        json!({"type": "array", "items": {"type": "string"}}),
        json!({"rule": "self.all(x, self.exists(y, x == y))"}),
    );
    let at = "schema.properties[a].x-kubernetes-validations[0].rule: Forbidden";
    let hint = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings \
                are declared)";
    refused(
        schema,
        &[
            &format!("{at}: estimated rule cost exceeds budget by factor of more than 100x {hint}"),
            &format!("{at}: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"),
            &format!(
                "schema: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds \
                 budget by factor of more than 100x {hint}"
            ),
        ],
    );
    let bounded = with_rule(
        json!({"type": "array", "maxItems": 10, "items": {"type": "string", "maxLength": 10}}),
        json!({"rule": "self.all(x, self.exists(y, x == y))"}),
    );
    refused(bounded, &[]);
}

#[test]
fn old_values_are_out_of_reach_where_elements_cannot_be_followed() {
    let schema = json!({"type": "object", "properties": {"a": {
        "type": "array", "maxItems": 5,
        "items": {"type": "string", "maxLength": 5, "x-kubernetes-validations": [{"rule": "self == oldSelf"}]},
    }}});
    refused(
        schema,
        &[
            "schema.properties[a].items.x-kubernetes-validations[0].rule: Invalid value: \"self == oldSelf\": oldSelf cannot \
           be used on the uncorrelatable portion of the schema within schema.properties[a]",
        ],
    );
}

#[test]
fn resources_have_names_even_when_their_schema_does_not_say_so() {
    let schema = json!({"type": "object", "x-kubernetes-validations": [
        {"rule": "self.metadata.name.startsWith('a') && self.kind == 'Widget'", "message": "name"},
    ]});
    assert_eq!(check_rules(&schema, &Path::new("schema")), []);
    let rules = RuleSet::compile(&schema);
    let object = |name: &str| json!({"kind": "Widget", "apiVersion": "v1", "metadata": {"name": name}});
    assert_eq!(rules.validate(&object("abc"), None, &Path::default()).errors, []);
    assert_eq!(rules.validate(&object("xyz"), None, &Path::default()).errors.len(), 1);
}

#[test]
fn work_on_one_object_is_limited() {
    let schema = json!({"type": "object", "properties": {"list": {
        "type": "array", "items": {"type": "integer"},
        "x-kubernetes-validations": [{"rule": "self.all(a, self.all(b, a + b >= 0))", "message": "sum"}],
    }}});
    let rules = RuleSet::compile(&schema);
    let object = json!({"list": vec![1; 2000]});
    let errors = rules.validate(&object, None, &Path::default()).errors;
    let want = "list: Invalid value: 'operation cancelled: actual cost limit exceeded': no further validation rules will be \
                run due to call cost exceeds limit for rule: sum";
    assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), [want]);
}

#[test]
fn words_of_the_language_can_be_names_of_fields() {
    let written = json!({"type": "object", "properties": {"namespace": {"type": "string", "maxLength": 9}},
        "x-kubernetes-validations": [{"rule": "!has(self.namespace) || self.namespace == self.__namespace__ && self.namespace != 'b'"}]});
    assert!(check_rules(&written, &Path::new("s")).is_empty());
    let rules = RuleSet::compile(&written);
    let broken = |value: Value| rules.validate(&value, None, &Path::default()).errors.len();
    assert_eq!((broken(json!({"namespace": "a"})), broken(json!({})), broken(json!({"namespace": "b"}))), (0, 0, 1));
}
