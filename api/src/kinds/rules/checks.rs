//! What tests of kinds ask of rules and warnings.

use std::borrow::Borrow;

use serde_json::{Value, json};

use super::tree::{Errors, Node, Warn};

type Rule = fn(&Node<'_, '_>, &mut Errors);
type Change = fn(&Node<'_, '_>, &Node<'_, '_>, &mut Errors);

/// Asserts what `warn` says of an object that takes the place of another.
pub(crate) fn check_warnings(warn: Warn, new: &Value, old: Option<&Value>, want: &[&str]) {
    let mut texts = Vec::new();
    let old = old.map(|old| Node::root(old.as_object().expect("an object")));
    warn(&Node::root(new.as_object().expect("an object")), old.as_ref(), &mut texts);
    assert_eq!(texts, want);
}

/// What `rule` refuses of an object.
pub(crate) fn found(rule: Rule, object: &Value) -> Vec<String> {
    let mut errors = Errors::default();
    rule(&Node::root(object.as_object().expect("an object")), &mut errors);
    errors.0.iter().map(ToString::to_string).collect()
}

/// Asserts what `rule` refuses of an object.
pub(crate) fn check_rule(rule: Rule, object: impl Borrow<Value>, want: &[&str]) {
    assert_eq!(found(rule, object.borrow()), want);
}

/// Asserts what `rule` refuses of an object with this `spec`.
pub(crate) fn check_spec(rule: Rule, spec: impl Borrow<Value>, want: &[&str]) {
    check_rule(rule, json!({"spec": spec.borrow()}), want);
}

/// Asserts what `rule` refuses of an object with this name and `spec`.
pub(crate) fn check_named_spec(rule: Rule, name: &str, spec: impl Borrow<Value>, want: &[&str]) {
    check_rule(rule, json!({"metadata": {"name": name}, "spec": spec.borrow()}), want);
}

/// Asserts what `rule` refuses of an object that takes the place of another.
pub(crate) fn check_change(rule: Change, new: impl Borrow<Value>, old: impl Borrow<Value>, want: &[&str]) {
    let mut errors = Errors::default();
    let root = |tree: &Value| tree.as_object().expect("an object").clone();
    rule(&Node::root(&root(new.borrow())), &Node::root(&root(old.borrow())), &mut errors);
    assert_eq!(errors.0.iter().map(ToString::to_string).collect::<Vec<_>>(), want);
}
