//! ComponentStatuses, which are looked up when somebody asks (upstream: `pkg/registry/core/componentstatus`).

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::kind::Kind;
use crate::object::Object;
use crate::resource::Verb;
use crate::table::cell::Cell::Row;
use crate::table::cell::{UNKNOWN, list, text};

pub(crate) const KIND: Kind = Kind {
    verbs: &[Verb::Get, Verb::List],
    short_names: &["cs"],
    deprecation: Some("v1 ComponentStatus is deprecated in v1.19+"),
    cells: &[Row(cells)],
    ..Kind::cluster("componentstatuses", "ComponentStatus")
};

fn cells(component: &Object, _now: Timestamp) -> Vec<Value> {
    let (mut status, mut message, mut error) = (UNKNOWN, "", "");
    for condition in list(component, &["conditions"]) {
        status = match text(condition, "status") {
            "True" => "Healthy",
            "False" => "Unhealthy",
            _ => UNKNOWN,
        };
        (message, error) = (text(condition, "message"), text(condition, "error"));
    }
    vec![component.name().into(), status.into(), message.into(), error.into()]
}
