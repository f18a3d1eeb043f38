//! IPAddresses (upstream: `pkg/registry/networking/ipaddress`; KEP-1880).

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::kind::Kind;
use crate::kinds::rules::shown::Shape::Text;
use crate::kinds::rules::shown::Shown;
use crate::kinds::rules::tree::{Errors, IMMUTABLE, Node};
use crate::kinds::rules::{fill, naming};
use crate::object::Object;
use crate::table::cell::Cell::Row;
use crate::table::cell::{NONE, age, text};

pub(crate) const KIND: Kind = Kind {
    short_names: &["ip"],
    cells: &[Row(cells)],
    default: fill::with_spec,
    validate,
    validate_change,
    validate_name: naming::ip_name,
    rechecks: (1, 1),
    ..Kind::cluster("ipaddresses", "IPAddress")
};

/// An `IPAddress`, whose name is the address.
fn validate(object: &Node<'_, '_>, errors: &mut Errors) {
    let spec = object.field("spec");
    let parent = spec.field("parentRef");
    if parent.is_unset() {
        errors.required(&parent, "");
        return;
    }
    let group = parent.field("group");
    if !group.text().is_empty() {
        errors.invalid_all(&group, naming::subdomain(group.text()));
    }
    for key in ["resource", "name", "namespace"] {
        let field = parent.field(key);
        if key == "namespace" && field.text().is_empty() {
            continue;
        }
        if errors.require_text(&field) {
            errors.invalid_all(&field, naming::path_segment_name(field.text(), false));
        }
    }
}

/// The parent of an address never changes.
fn validate_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    let (spec, before) = (new.field("spec"), old.field("spec"));
    let parent = spec.field("parentRef");
    if !parent.is_same(&before.field("parentRef")) {
        errors.invalid_shown(&parent, &shown_parent(&parent), IMMUTABLE);
    }
}

/// What an address was given to.
fn shown_parent(at: &Node<'_, '_>) -> Shown {
    Shown::or_null(
        at.value(),
        &[
            ("Group", "group", Text),
            ("Resource", "resource", Text),
            ("Namespace", "namespace", Text),
            ("Name", "name", Text),
        ],
    )
}

fn cells(address: &Object, now: Timestamp) -> Vec<Value> {
    let parent = address.get(&["spec", "parentRef"]).filter(|parent| !parent.is_null());
    let parent = parent.map_or_else(
        || NONE.to_owned(),
        |parent| {
            let group = text(parent, "group");
            let dot = if group.is_empty() { "" } else { "." };
            let path = [text(parent, "namespace"), text(parent, "name")].into_iter().filter(|part| !part.is_empty());
            format!("{}{dot}{group}/{}", text(parent, "resource"), path.collect::<Vec<_>>().join("/"))
        },
    );
    vec![address.name().into(), parent.into(), age(address, now).into()]
}
