//! What tests of kinds ask of rules and warnings.

use serde_json::{Value, json};

use super::tree::{Errors, Node, Warn};

/// Asserts what `warn` says of an object that takes the place of another.
pub(crate) fn check_warnings(warn: Warn, new: &Value, old: Option<&Value>, want: &[&str]) {
    let mut texts = Vec::new();
    let old = old.map(|old| Node::root(old.as_object().expect("an object")));
    warn(&Node::root(new.as_object().expect("an object")), old.as_ref(), &mut texts);
    assert_eq!(texts, want);
}

/// Asserts what `rule` refuses of an object with this `spec`.
pub(crate) fn check_spec(rule: fn(&Node<'_, '_>, &mut Errors), spec: &Value, want: &[&str]) {
    let object = json!({"spec": spec});
    let mut errors = Errors::default();
    rule(&Node::root(object.as_object().expect("an object")), &mut errors);
    assert_eq!(errors.0.iter().map(ToString::to_string).collect::<Vec<_>>(), want);
}
