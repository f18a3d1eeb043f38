//! APIServices (upstream: `kube-aggregator/pkg/registry/apiservice`).

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kinds::kind::{Kind, Sub};
use crate::kinds::rules::fill::{self, default_pointer, object_at};
use crate::kinds::rules::naming;
use crate::kinds::rules::tree::{Errors, Node};
use crate::object::Object;
use crate::strategy::WriteContext;
use crate::table::cell::Cell::Row;
use crate::table::cell::{age, text};

pub(crate) const KIND: Kind = Kind {
    categories: &["api-extensions"],
    subresources: &[Sub::STATUS],
    prefix: Some("apiregistration.k8s.io/apiservices"),
    cells: &[Row(cells)],
    default,
    prepare_create,
    validate,
    validate_status,
    validate_name: naming::path_segment_name,
    status_metadata: &[],
    rechecks: (1, 1),
    unconditional_update: false,
    ..Kind::cluster("apiservices", "APIService")
};

fn default(object: &mut Object) {
    let spec = fill::object(object.root_mut(), "spec");
    if let Some(service) = object_at(spec, "service") {
        default_pointer(service, "port", 443);
    }
    fill::object(object.root_mut(), "status");
}

/// An APIService that this server serves itself is available at once.
fn prepare_create(ctx: &WriteContext<'_>, new: &mut Object) {
    let is_local = new.get(&["spec", "service"]).is_none_or(Value::is_null);
    let status = if is_local {
        json!({"conditions": [{
            "type": "Available", "status": "True", "lastTransitionTime": naming::time(ctx.now),
            "reason": "Local", "message": "Local APIServices are always available",
        }]})
    } else {
        json!({})
    };
    new.set(&["status"], status);
}

/// An `APIService`, whose name follows from version and group.
fn validate(object: &Node<'_, '_>, errors: &mut Errors) {
    let (metadata, spec) = (object.field("metadata"), object.field("spec"));
    let (group, version) = (spec.field("group"), spec.field("version"));
    let required = format!("{}.{}", version.text(), group.text());
    // That there must be a name is said elsewhere.
    let name = metadata.field("name");
    if !name.text().is_empty() && name.text() != required {
        errors.invalid(&name, &format!("must be `spec.version+\".\"+spec.group`: {required:?}"));
    }
    if !group.text().is_empty() {
        errors.invalid_all(&group, naming::subdomain(group.text()));
    } else if version.text() != "v1" {
        errors.required(&group, "only v1 may have an empty group and it better be legacy kube");
    }
    errors.invalid_all(&version, naming::dns1035_label(version.text()));
    for (key, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let priority = spec.field(key);
        if priority.number() <= 0 || priority.number() > most {
            errors.invalid_value(&priority, priority.number(), &format!("must be positive and less than {most}"));
        }
    }
    let service = spec.field("service");
    if service.is_unset() {
        if !spec.field("caBundle").text().is_empty() {
            let bytes = spec.field("caBundle").text().trim_end_matches('=').len() * 3 / 4;
            let why = "local APIServices may not have a caBundle";
            errors.invalid_value(&spec.field("caBundle"), format!("{bytes} bytes"), why);
        }
        if spec.field("insecureSkipTLSVerify").is_true() {
            errors
                .invalid(&spec.field("insecureSkipTLSVerify"), "local APIServices may not have insecureSkipTLSVerify");
        }
        return;
    }
    for key in ["namespace", "name"] {
        errors.require_text(&service.field(key));
    }
    let port = service.field("port");
    if port.is_set() && !(1..=65535).contains(&port.number()) {
        errors.invalid(&port, "port is not valid: must be between 1 and 65535, inclusive");
    }
    if spec.field("insecureSkipTLSVerify").is_true() && !spec.field("caBundle").text().is_empty() {
        errors.invalid(&spec.field("insecureSkipTLSVerify"), "may not be true if caBundle is present");
    }
}

fn validate_status(new: &Node<'_, '_>, _old: &Node<'_, '_>, errors: &mut Errors) {
    let status = new.field("status");
    for condition in status.field("conditions").items() {
        errors.one_of(&condition.field("status"), &["True", "False", "Unknown"]);
    }
}

fn cells(service: &Object, now: Timestamp) -> Vec<Value> {
    let target = match service.get(&["spec", "service"]).filter(|target| !target.is_null()) {
        Some(target) => format!("{}/{}", text(target, "namespace"), text(target, "name")),
        None => "Local".to_owned(),
    };
    let available = service.condition("Available");
    let available = match available {
        Some(condition) if text(condition, "status") == "True" => "True".to_owned(),
        Some(condition) => format!("{} ({})", text(condition, "status"), text(condition, "reason")),
        None => "Unknown".to_owned(),
    };
    vec![service.name().into(), target.into(), available.into(), age(service, now).into()]
}
