use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::catalog::Catalog;
use crate::object::Object;
use crate::resource::Resource;

fn object(value: Value) -> Object {
    Object::from_value(value).expect("an object")
}

fn resource(group: &str, kind: &str) -> Arc<Resource> {
    Catalog::builtin().kind(group, "v1", kind).cloned().expect("served")
}

/// Which of five objects a label selector selects.
fn selected(selector: &str) -> String {
    let objects = [
        ("a", json!({"app": "web", "tier": "front", "env": "prod"})),
        ("b", json!({"app": "web", "tier": "back"})),
        ("c", json!({"app": "db", "tier": "back", "env": "dev"})),
        ("d", json!({"app": "db", "n": "5"})),
        ("e", json!({"n": "10", "empty": ""})),
    ];
    let selector = LabelSelector::parse(selector).unwrap_or_else(|error| panic!("{selector}: {error}"));
    let matching =
        objects.into_iter().filter(|(_, labels)| selector.matches(&object(json!({"metadata": {"labels": labels}}))));
    matching.map(|(name, _)| name).collect()
}

#[test]
fn labels_are_selected_as_upstream_does() {
    let cases = [
        ("app=web", "ab"),
        ("app==web", "ab"),
        ("app!=web", "cde"),
        ("app in (web,db)", "abcd"),
        ("app in (web, db)", "abcd"),
        ("app notin (web)", "cde"),
        ("app", "abcd"),
        ("!app", "e"),
        ("app=web,tier=back", "b"),
        ("app in (web),!env", "b"),
        ("n>5", "e"),
        ("n<10", "d"),
        ("n>4,n<6", "d"),
        ("empty=", "e"),
        ("app=", ""),
        ("app in ()", ""),
        ("app notin ()", "abcde"),
        ("app!=", "abcde"),
        ("app = web", "ab"),
        ("  ", "abcde"),
        ("app,!app", ""),
        ("empty in (,x)", "e"),
    ];
    for (selector, want) in cases {
        assert_eq!(selected(selector), want, "{selector}");
    }
}

#[test]
fn wrong_label_selectors_are_refused_with_upstreams_words() {
    let cases = [
        ("app in (web", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("app=web,", "found '', expected: identifier after ','"),
        (",app=web", "found ',', expected: !, identifier, or 'end of string'"),
        ("app=a b", "found 'b', expected: ',' or 'end of string'"),
        ("app in", "unable to parse requirement: found '' expected: '('"),
        ("in (a)", "unable to parse requirement: found '(', expected: in, notin, =, ==, !=, gt, lt"),
        ("=web", "found '=', expected: !, identifier, or 'end of string'"),
        ("app===web", "unable to parse requirement: found '=', expected: identifier"),
        ("app=web=x", "found '=', expected: ',' or 'end of string'"),
        (
            "n>x",
            r#"unable to parse requirement: values[0]: Invalid value: "x": for 'Gt', 'Lt' operators, the value must be an integer"#,
        ),
        ("!app=web", "found '=', expected: ',' or 'end of string'"),
        ("(app)", "found '(', expected: !, identifier, or 'end of string'"),
    ];
    for (selector, want) in cases {
        assert_eq!(LabelSelector::parse(selector).expect_err(selector).to_string(), want, "{selector}");
    }
    let error = LabelSelector::parse("app=-x").expect_err("no label value").to_string();
    assert!(
        error.starts_with(r#"unable to parse requirement: values[0][app]: Invalid value: "-x": a valid label must be"#),
        "{error}"
    );
    let error = LabelSelector::parse("-x=y").expect_err("no label key").to_string();
    assert!(
        error.starts_with(r#"unable to parse requirement: <nil>: Invalid value: "-x": name part must consist"#),
        "{error}"
    );
}

#[test]
fn selectors_of_objects_are_read() {
    let value = json!({"matchLabels": {"app": "db"}, "matchExpressions": [{"key": "env", "operator": "DoesNotExist"}]});
    let selector = LabelSelector::of_value(Some(&value)).expect("fine");
    assert_eq!(selector.to_string(), "app=db,!env");
    assert!(LabelSelector::of_value(Some(&json!({}))).expect("fine").is_everything());
    assert!(!LabelSelector::of_value(None).expect("fine").matches(&Object::default()));
    let wrong = json!({"matchExpressions": [{"key": "env", "operator": "Near"}]});
    let error = LabelSelector::of_value(Some(&wrong)).expect_err("no operator");
    assert_eq!(error.to_string(), r#""Near" is not a valid label selector operator"#);
}

#[test]
fn exact_labels_can_be_looked_up() {
    let selector = LabelSelector::parse("a=b,c in (d),e!=f,g in (h,i)").expect("fine");
    assert_eq!(selector.exact().collect::<Vec<_>>(), [("a", "b"), ("c", "d")]);
}

#[test]
fn fields_are_selected_by_name_and_by_kind() {
    let pod = object(
        json!({"metadata": {"name": "a", "namespace": "x"}, "spec": {"nodeName": "n1"}, "status": {"phase": "Pending"}}),
    );
    let cases = [
        ("metadata.name=a", true),
        ("metadata.name!=a", false),
        ("spec.nodeName=n1,status.phase=Pending", true),
        ("spec.nodeName=", false),
        ("spec.hostNetwork=false", true),
        ("status.podIP=", true),
        (",", true),
        (r"metadata.name=a\,b", false),
    ];
    for (text, want) in cases {
        let selector =
            FieldSelector::parse(text, &resource("", "Pod")).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(selector.matches(&pod), want, "{text}");
    }
    let selector = FieldSelector::parse("spec.nodeName=n1", &resource("", "Pod")).expect("fine");
    assert_eq!((selector.exact("spec.nodeName"), selector.name()), (Some("n1"), None));
}

#[test]
fn zero_counts_as_an_absent_number() {
    let selector = FieldSelector::parse("status.successful=0", &resource("batch", "Job")).expect("fine");
    assert!(selector.matches(&object(json!({"status": {}}))));
    assert!(!selector.matches(&object(json!({"status": {"succeeded": 1}}))));
}

#[test]
fn wrong_field_selectors_are_refused_with_upstreams_words() {
    let known = r#"is not a known field selector: only "metadata.name", "metadata.namespace""#;
    let cases = [
        ("ConfigMap", "data.n=a", format!(r#""data.n" {known}"#)),
        ("ConfigMap", "=a", format!(r#""" {known}"#)),
        (
            "ConfigMap",
            "metadata.name",
            "invalid selector: 'metadata.name'; can't understand 'metadata.name'".to_owned(),
        ),
        ("ConfigMap", "metadata.name=a=b", "invalid field selector: unescaped character in value: 61".to_owned()),
        (
            "ConfigMap",
            "metadata.name in (a,b)",
            "invalid selector: 'metadata.name in (a,b)'; can't understand 'b)'".to_owned(),
        ),
        ("Pod", "spec.golden=1", "field label not supported: spec.golden".to_owned()),
    ];
    for (kind, text, want) in cases {
        assert_eq!(FieldSelector::parse(text, &resource("", kind)).expect_err(text).to_string(), want);
    }
}

#[test]
fn a_kind_with_fields_of_its_own_has_its_own_words() {
    let cases = [
        ("", "Node", "metadata.namespace=a", "field label not supported: metadata.namespace"),
        ("", "Namespace", "name=a", "field label not supported: name"),
        ("batch", "Job", "spec.x=1", r#"field label "spec.x" not supported for batchv1.Job"#),
        (
            "resource.k8s.io",
            "ResourceSlice",
            "spec.x=1",
            "field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: spec.x",
        ),
    ];
    for (group, kind, text, want) in cases {
        assert_eq!(FieldSelector::parse(text, &resource(group, kind)).expect_err(text).to_string(), want);
    }
    assert!(FieldSelector::parse("metadata.namespace=a", &resource("", "PersistentVolume")).is_ok());
}

proptest! {
    #[test]
    fn what_a_selector_prints_is_the_same_selector(
        keys in prop::collection::vec("[a-z]{1,3}", 1..4),
        values in prop::collection::vec("[a-z0-9]{1,3}", 1..3),
        operator in 0..6_usize,
    ) {
        let list = values.join(",");
        let text: Vec<String> = keys.iter().map(|key| match operator {
            0 => format!("{key}={}", values[0]),
            1 => format!("{key}!={}", values[0]),
            2 => format!("{key} in ({list})"),
            3 => format!("{key} notin ({list})"),
            4 => key.clone(),
            _ => format!("!{key}"),
        }).collect();
        let selector = LabelSelector::parse(&text.join(",")).expect("generated selectors are fine");
        prop_assert_eq!(LabelSelector::parse(&selector.to_string()), Ok(selector));
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,30}|[a-c=!(),<> in\\\\]{0,20}") {
        let _ = (LabelSelector::parse(&text), FieldSelector::parse(&text, &resource("", "Pod")));
    }
}
