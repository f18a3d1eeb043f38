//! Rules for cluster-wide kinds: priorities, runtime classes, versions of what is stored.

use std::collections::HashSet;

use crate::kinds::pods::{affinity, requirements};
use crate::kinds::rules::tree::{Errors, IMMUTABLE, Node};
use crate::kinds::rules::{labels, naming, shown};

/// The highest priority that users may give.
const MAX_USER_PRIORITY: i64 = 1_000_000_000;

/// A `PriorityClass`; only the two of the system may be higher than users' ones.
pub(crate) fn priority_class(class: &Node<'_, '_>, errors: &mut Errors) {
    let metadata = class.field("metadata");
    let (name, value) = (metadata.field("name"), class.field("value"));
    let system = match name.text() {
        "system-node-critical" => Some(2_000_001_000),
        "system-cluster-critical" => Some(2_000_000_000),
        _ => None,
    };
    if name.text().starts_with("system-") {
        let wrong = match system {
            None => Some(format!("{} is not a known system priority class", name.text())),
            Some(fixed) if fixed != value.number() => {
                Some(format!("value of {} PriorityClass must be {fixed}", name.text()))
            }
            Some(_) if class.field("globalDefault").is_true() => {
                Some(format!("globalDefault of {} PriorityClass must be false", name.text()))
            }
            Some(_) => None,
        };
        if let Some(wrong) = wrong {
            let why = "priority class names with 'system-' prefix are reserved for system use only. error: ";
            errors.forbidden(&name, &format!("{why}{wrong}"));
        }
    } else if value.number() > MAX_USER_PRIORITY {
        errors.forbidden(&value, "maximum allowed value of a user defined priority is 1000000000");
    }
    errors.none_or_one_of(&class.field("preemptionPolicy"), &["PreemptLowerPriority", "Never"]);
}

/// What may not change in a `PriorityClass`.
pub(crate) fn priority_class_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    for (key, why) in [("value", "may not be changed in an update."), ("preemptionPolicy", "")] {
        let (new, old) = (new.field(key), old.field(key));
        if new.value() == old.value() {
            continue;
        }
        if why.is_empty() {
            errors.invalid(&new, IMMUTABLE);
        } else {
            errors.forbidden(&new, why);
        }
    }
}

/// A `RuntimeClass`.
pub(crate) fn runtime_class(class: &Node<'_, '_>, errors: &mut Errors) {
    let handler = class.field("handler");
    if errors.require_text(&handler) {
        errors.invalid_all(&handler, naming::label(handler.text()));
    }
    let overhead = class.field("overhead");
    if overhead.is_set() {
        requirements::overhead_of(&overhead, &overhead.field("podFixed"), errors);
    }
    let scheduling = class.field("scheduling");
    labels::labels(&scheduling.field("nodeSelector"), errors);
    let tolerations = scheduling.field("tolerations");
    affinity::tolerations(&tolerations, errors);
    let mut seen = HashSet::new();
    for toleration in tolerations.items() {
        if !seen.insert(["key", "operator", "value", "effect"].map(|part| toleration.field(part).text())) {
            errors.duplicate_shown(&toleration, &shown::toleration(&toleration), "");
        }
    }
}

/// The handler of a `RuntimeClass` never changes.
pub(crate) fn runtime_class_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    errors.immutable(&new.field("handler"), &old.field("handler"));
}
