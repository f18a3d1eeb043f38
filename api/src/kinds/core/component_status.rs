//! ComponentStatuses, which are looked up when somebody asks (upstream: `pkg/registry/core/componentstatus`).

use jiff::Timestamp;
use serde_json::Value;

use crate::object::Object;
use crate::table::cell::{UNKNOWN, list, text};

pub(crate) fn cells(component: &Object, _now: Timestamp) -> Vec<Value> {
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
