//! PriorityClasses (upstream: `pkg/registry/scheduling/priorityclass`).

use crate::kinds::kind::Kind;
use crate::kinds::rules::fill::default_pointer;
use crate::kinds::rules::tree::{Errors, IMMUTABLE, Node};
use crate::object::Object;
use crate::table::cell::Cell::{Age, Flag, Name, Number, Text};

pub(crate) const KIND: Kind = Kind {
    short_names: &["pc"],
    has_generation: true,
    cells: &[Name, Number(&["value"]), Flag(&["globalDefault"], false), Age, Text(&["preemptionPolicy"])],
    default,
    validate,
    validate_change,
    update_skips_rules: true,
    is_new_generation: |_, _| false,
    ..Kind::cluster("priorityclasses", "PriorityClass")
};

fn default(object: &mut Object) {
    let root = object.root_mut();
    default_pointer(root, "preemptionPolicy", "PreemptLowerPriority");
    default_pointer(root, "value", 0);
}

/// The highest priority that users may give.
const MAX_USER_PRIORITY: i64 = 1_000_000_000;

/// A `PriorityClass`; only the two of the system may be higher than users' ones.
fn validate(class: &Node<'_, '_>, errors: &mut Errors) {
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
fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
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
