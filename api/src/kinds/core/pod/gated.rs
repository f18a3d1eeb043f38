//! What may change in a pod that has not been let through to the scheduler: where it may run can be narrowed.

use serde_json::{Value, json};

use crate::kinds::rules::node_selector;
use crate::kinds::rules::tree::{Errors, Node, restore};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";

/// The directives of a gated pod are only added to.
pub(crate) fn directives(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (now, then) = (new.field("nodeSelector"), old.field("nodeSelector"));
    let kept = then.entries().all(|(key, value)| now.map().and_then(|map| map.get(key)) == value.value());
    if !kept {
        errors.invalid(&now, "only additions to spec.nodeSelector are allowed (no mutations or deletions)");
    }
    let (now, then) = (new.field("affinity"), old.field("affinity"));
    let (now, then) = (now.field("nodeAffinity"), then.field("nodeAffinity"));
    if !now.is_same(&then) {
        let (now, then) = (now.field(REQUIRED), then.field(REQUIRED));
        terms(&now.field("nodeSelectorTerms"), &then.field("nodeSelectorTerms"), errors);
    }
}

fn terms(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    if old.is_empty() {
        return;
    }
    if new.list().len() != old.list().len() {
        errors.invalid_shown(
            new,
            &node_selector::shown_terms(new),
            "no additions/deletions to non-empty NodeSelectorTerms list are allowed",
        );
        return;
    }
    for (now, then) in new.items().zip(old.items()) {
        if !only_adds(&now, &then) {
            errors.invalid_shown(
                &now,
                &node_selector::shown_term(&now),
                "only additions are allowed (no mutations or deletions)",
            );
        }
    }
}

fn only_adds(new: &Node<'_, '_>, old: &Node<'_, '_>) -> bool {
    const LISTS: [&str; 2] = ["matchExpressions", "matchFields"];
    if LISTS.iter().all(|list| old.field(list).is_empty()) {
        return LISTS.iter().all(|list| new.field(list).is_empty());
    }
    LISTS.iter().all(|list| new.field(list).list().starts_with(old.field(list).list()))
}

/// Puts the old directives back, for the comparison of all the rest.
pub(crate) fn restore_directives(spec: &mut Value, old: &Value) {
    restore(spec, "nodeSelector", old.get("nodeSelector"));
    let had = old.pointer("/affinity/nodeAffinity");
    if spec.get("affinity").is_none() && had.is_some() {
        spec["affinity"] = json!({});
    }
    if let Some(affinity) = spec.get_mut("affinity") {
        restore(affinity, "nodeAffinity", had);
    }
    if old.get("affinity").is_none() && spec.get("affinity") == Some(&json!({})) {
        restore(spec, "affinity", None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(new: Value, old: Value, want: &[&str]) {
        let mut errors = Errors::default();
        let (new, old) = (new.as_object().expect("an object"), old.as_object().expect("an object"));
        directives(&Node::root(new), &Node::root(old), &mut errors);
        assert_eq!(errors.0.iter().map(|error| error.path.to_string()).collect::<Vec<_>>(), want);
    }

    #[test]
    fn directives_are_only_added_to() {
        check(json!({"nodeSelector": {"a": "b", "c": "d"}}), json!({"nodeSelector": {"a": "b"}}), &[]);
        check(json!({"nodeSelector": {"a": "c"}}), json!({"nodeSelector": {"a": "b"}}), &["nodeSelector"]);
        let affinity = |terms: Value| json!({"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": terms}}}});
        let one = json!({"matchExpressions": [{"key": "a"}]});
        let two = json!({"matchExpressions": [{"key": "a"}, {"key": "b"}]});
        check(affinity(json!([two])), affinity(json!([one])), &[]);
        let at = format!("affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms");
        check(affinity(json!([one])), affinity(json!([two])), &[&format!("{at}[0]")]);
        check(affinity(json!([one, two])), affinity(json!([one])), &[&at]);
    }

    #[test]
    fn what_may_change_is_put_back() {
        let old = json!({"nodeSelector": {"a": "b"}});
        let mut new = json!({"nodeSelector": {"a": "b", "c": "d"}, "affinity": {"nodeAffinity": {}}});
        restore_directives(&mut new, &old);
        assert_eq!(new, old);
    }
}
