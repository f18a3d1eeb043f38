//! RuntimeClasses (upstream: `pkg/registry/node/runtimeclass`).

use std::collections::HashSet;

use crate::kinds::kind::Kind;
use crate::kinds::pods::{affinity, requirements, shown};
use crate::kinds::rules::fill::is_unset;
use crate::kinds::rules::tree::{Errors, Node};
use crate::kinds::rules::{labels, naming};
use crate::object::Object;
use crate::table::cell::Cell::{Age, Name, Text};

pub(crate) const KIND: Kind = Kind {
    cells: &[Name, Text(&["handler"]), Age],
    default,
    validate,
    validate_change,
    rechecks: (1, 1),
    create_on_update: true,
    unconditional_update: false,
    ..Kind::cluster("runtimeclasses", "RuntimeClass")
};

/// Defaults of a `RuntimeClass`, whose handler is always shown.
fn default(object: &mut Object) {
    if is_unset(object.root(), "handler") {
        object.root_mut().insert("handler".to_owned(), "".into());
    }
}

fn validate(class: &Node<'_, '_>, errors: &mut Errors) {
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
fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    errors.immutable(&new.field("handler"), &old.field("handler"));
}
