//! Events, of the core group and of `events.k8s.io` (upstream: `pkg/registry/core/event`).

use jiff::Timestamp;
use serde_json::Value;

use crate::kinds::kind::{Kind, field};
use crate::kinds::rules::fill::{self, default_pointer, object_at};
use crate::kinds::rules::naming;
use crate::kinds::rules::shown::Shape::Text;
use crate::kinds::rules::shown::{Shown, Table};
use crate::kinds::rules::tree::{Errors, IMMUTABLE, Node};
use crate::object::Object;
use crate::table::cell::Cell::Row;
use crate::table::cell::{UNKNOWN, ago, or, text};

pub(crate) const KIND: Kind = Kind {
    short_names: &["ev"],
    fields: &[
        field("involvedObject.kind"),
        field("involvedObject.namespace"),
        field("involvedObject.name"),
        field("involvedObject.uid"),
        field("involvedObject.apiVersion"),
        field("involvedObject.resourceVersion"),
        field("involvedObject.fieldPath"),
        field("reason"),
        field("reportingComponent"),
        field("source").at("source.component.|.reportingComponent"),
        field("type"),
    ],
    cells: &[Row(cells)],
    default,
    validate,
    rechecks: (0, 0),
    create_on_update: true,
    expires: true,
    ..Kind::namespaced("events", "Event")
};

pub(crate) const REPORTED: Kind = Kind {
    short_names: &["ev"],
    storage_group: Some(""),
    fields: &[
        field("regarding.kind").at("involvedObject.kind"),
        field("regarding.namespace").at("involvedObject.namespace"),
        field("regarding.name").at("involvedObject.name"),
        field("regarding.uid").at("involvedObject.uid"),
        field("regarding.apiVersion").at("involvedObject.apiVersion"),
        field("regarding.resourceVersion").at("involvedObject.resourceVersion"),
        field("regarding.fieldPath").at("involvedObject.fieldPath"),
        field("reason"),
        field("reportingController").at("reportingComponent"),
        field("type"),
    ],
    cells: &[Row(cells)],
    default,
    validate: reported,
    validate_new: new_reported,
    validate_change: reported_change,
    create_on_update: true,
    expires: true,
    ..Kind::namespaced("events", "Event")
};

/// Defaults of an `Event` of the core group.
fn default(object: &mut Object) {
    let root = object.root_mut();
    fill::object(root, "involvedObject");
    fill::object(root, "source");
    for time in ["firstTimestamp", "lastTimestamp", "eventTime"] {
        default_pointer(root, time, Value::Null);
    }
    default_pointer(root, "reportingComponent", "");
    default_pointer(root, "reportingInstance", "");
    object_at(root, "series");
}

/// An object that another one is about.
fn shown_reference(at: &Node<'_, '_>) -> Shown {
    const REFERENCE: Table = &[
        ("Kind", "kind", Text),
        ("Namespace", "namespace", Text),
        ("Name", "name", Text),
        ("UID", "uid", Text),
        ("APIVersion", "apiVersion", Text),
        ("ResourceVersion", "resourceVersion", Text),
        ("FieldPath", "fieldPath", Text),
    ];
    Shown::of(at.value(), REFERENCE)
}

/// Where an event was seen.
fn shown_source(at: &Node<'_, '_>) -> Shown {
    Shown::of(at.value(), &[("Component", "component", Text), ("Host", "host", Text)])
}

/// The most characters of who reports, what was done and why.
const SHORT: usize = 128;
/// The most characters of the message.
const LONG: usize = 1024;

/// An `Event` of the core group.
fn validate(event: &Node<'_, '_>, errors: &mut Errors) {
    common(event, "reportingComponent", errors);
}

/// An `Event` of `events.k8s.io`.
fn reported(event: &Node<'_, '_>, errors: &mut Errors) {
    common(event, "reportingController", errors);
}

/// What holds in both groups. Events that say when they were seen also say who saw what.
fn common(event: &Node<'_, '_>, controller: &str, errors: &mut Errors) {
    const ELSEWHERE: &str = "does not match event.namespace";
    let (metadata, about) = (event.field("metadata"), event.field("involvedObject"));
    let namespace = metadata.field("namespace").text();
    let about_namespace = about.field("namespace");
    if event.field("eventTime").is_set() {
        if about_namespace.text().is_empty() && !matches!(namespace, "default" | "kube-system") {
            errors.invalid_value(&about_namespace, "", ELSEWHERE);
        }
        who_saw_what(event, controller, errors);
    } else if about_namespace.text().is_empty() {
        if !matches!(namespace, "" | "default") {
            errors.invalid_value(&about_namespace, "", ELSEWHERE);
        }
    } else if about_namespace.text() != namespace {
        errors.invalid(&about_namespace, ELSEWHERE);
    }
    for why in naming::subdomain(namespace) {
        errors.invalid_value(&event.field("namespace"), namespace, &why);
    }
}

fn who_saw_what(event: &Node<'_, '_>, controller: &str, errors: &mut Errors) {
    let who = event.field("reportingComponent").text();
    let shown = event.field(controller);
    if who.is_empty() {
        errors.required(&shown, "");
    }
    for why in naming::qualified_name(who) {
        errors.invalid_value(&shown, who, &why);
    }
    for key in ["reportingInstance", "action", "reason"] {
        let field = event.field(key);
        errors.require_text(&field);
        at_most(&field, SHORT, errors);
    }
    at_most(&event.field("message"), LONG, errors);
}

fn at_most(at: &Node<'_, '_>, most: usize, errors: &mut Errors) {
    if at.text().len() > most {
        errors.invalid_value(at, "", &format!("can have at most {most} characters"));
    }
}

/// A new `Event` of `events.k8s.io` uses none of the fields that it has for the sake of the core group.
fn new_reported(event: &Node<'_, '_>, errors: &mut Errors) {
    const UNSET: &str = "needs to be unset";
    series(event, errors);
    if event.field("eventTime").is_unset() {
        errors.required(&event.field("eventTime"), "");
    }
    let kind = event.field("type");
    if !matches!(kind.text(), "Normal" | "Warning") {
        errors.invalid_value(&kind, "", &format!("has invalid value: {}", kind.text()));
    }
    for key in ["firstTimestamp", "lastTimestamp"] {
        if event.field(key).is_set() {
            errors.invalid_value(&event.field(key), "", UNSET);
        }
    }
    if event.field("count").number() != 0 {
        errors.invalid_value(&event.field("count"), "", UNSET);
    }
    let source = event.field("source");
    if !source.field("component").text().is_empty() || !source.field("host").text().is_empty() {
        errors.invalid_value(&source, "", UNSET);
    }
}

fn series(event: &Node<'_, '_>, errors: &mut Errors) {
    let series = event.field("series");
    if series.is_unset() {
        return;
    }
    if series.field("count").number() < 2 {
        errors.invalid_value(&series.field("count"), "", "should be at least 2");
    }
    if series.field("lastObservedTime").is_unset() {
        errors.required(&series.field("lastObservedTime"), "");
    }
}

/// Only the series of an `Event` of `events.k8s.io` goes on.
fn reported_change(new: &Node<'_, '_>, old: &Node<'_, '_>, errors: &mut Errors) {
    if new.field("series").value() != old.field("series").value() {
        series(new, errors);
    }
    // Upstream looks at the reason twice.
    for key in [
        "involvedObject",
        "reason",
        "message",
        "source",
        "firstTimestamp",
        "lastTimestamp",
        "count",
        "reason",
        "type",
        "eventTime",
        "action",
        "related",
        "reportingInstance",
    ] {
        kept(key, &new.field(key), &old.field(key), errors);
    }
    let (now, then) = (new.field("reportingComponent"), old.field("reportingComponent"));
    if now.value() != then.value() {
        errors.invalid_value(&new.field("reportingController"), now.shown(), IMMUTABLE);
    }
}

/// A field that never changes, shown as Go shows its type.
fn kept(key: &str, now: &Node<'_, '_>, then: &Node<'_, '_>, errors: &mut Errors) {
    if now.is_same(then) {
        return;
    }
    match key {
        "involvedObject" => errors.invalid_shown(now, &shown_reference(now), IMMUTABLE),
        "related" if now.is_set() => errors.invalid_shown(now, &shown_reference(now), IMMUTABLE),
        "source" => errors.invalid_shown(now, &shown_source(now), IMMUTABLE),
        "count" => errors.invalid_value(now, now.number(), IMMUTABLE),
        "firstTimestamp" | "lastTimestamp" | "eventTime" | "related" => errors.invalid(now, IMMUTABLE),
        _ => errors.invalid_value(now, now.text(), IMMUTABLE),
    }
}

fn cells(event: &Object, now: Timestamp) -> Vec<Value> {
    // The newer group has other names for the same fields.
    let either = |core: &str, newer: &str| event.get(&[core]).or_else(|| event.get(&[newer]));
    let happened = ago(event.get(&["eventTime"]), now).unwrap_or_else(|| UNKNOWN.to_owned());
    let first = ago(either("firstTimestamp", "deprecatedFirstTimestamp"), now).unwrap_or(happened);
    let mut last = ago(either("lastTimestamp", "deprecatedLastTimestamp"), now).unwrap_or_else(|| first.clone());
    let mut count = either("count", "deprecatedCount").and_then(Value::as_i64).unwrap_or(0).max(1);
    if let Some(series) = event.get(&["series"]).filter(|series| !series.is_null()) {
        last = ago(series.get("lastObservedTime"), now).unwrap_or_else(|| UNKNOWN.to_owned());
        count = series.get("count").and_then(Value::as_i64).unwrap_or(0);
    }
    let about = either("involvedObject", "regarding").unwrap_or(&Value::Null);
    let source = either("source", "deprecatedSource").unwrap_or(&Value::Null);
    let message = either("message", "note").and_then(Value::as_str).unwrap_or("");
    vec![
        last.into(),
        event.text(&["type"]).into(),
        event.text(&["reason"]).into(),
        target(about).into(),
        text(about, "fieldPath").into(),
        reporter(event, source).into(),
        message.trim().into(),
        first.into(),
        count.into(),
        event.name().into(),
    ]
}

fn target(about: &Value) -> String {
    let kind = text(about, "kind").to_lowercase();
    match text(about, "name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

fn reporter(event: &Object, source: &Value) -> String {
    let controller = or(event.text(&["reportingComponent"]), event.text(&["reportingController"]));
    let component = or(text(source, "component"), controller);
    match or(text(source, "host"), event.text(&["reportingInstance"])) {
        "" => component.to_owned(),
        instance => format!("{component}, {instance}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::rules::checks::check_rule;
    use serde_json::json;

    #[test]
    fn the_group_decides_what_the_reporter_is_called() {
        let mut event = json!({
            "metadata": {"namespace": "n"}, "involvedObject": {"namespace": "n"}, "eventTime": "2020-01-01T00:00:00.000000Z",
            "reportingInstance": "i", "action": "a", "reason": "r", "reportingComponent": "c",
        });
        check_rule(event_rule, &event, &[]);
        event["reportingComponent"] = json!("a b");
        let mut errors = Errors::default();
        reported(&Node::root(event.as_object().expect("an object")), &mut errors);
        assert_eq!(errors.0[0].path.to_string(), "reportingController");
        let mut errors = Errors::default();
        super::validate(&Node::root(event.as_object().expect("an object")), &mut errors);
        assert_eq!(errors.0[0].path.to_string(), "reportingComponent");
    }

    fn event_rule(at: &Node<'_, '_>, errors: &mut Errors) {
        super::validate(at, errors);
    }

    #[test]
    fn a_new_event_has_no_field_of_the_old_api() {
        let event =
            json!({"eventTime": null, "count": 1, "source": {"host": "h"}, "series": {"count": 1}, "type": "Odd"});
        let want = [
            "series.count: Invalid value: \"\": should be at least 2",
            "series.lastObservedTime: Required value",
            "eventTime: Required value",
            "type: Invalid value: \"\": has invalid value: Odd",
            "count: Invalid value: \"\": needs to be unset",
            "source: Invalid value: \"\": needs to be unset",
        ];
        check_rule(new_reported, &event, &want);
    }
}
