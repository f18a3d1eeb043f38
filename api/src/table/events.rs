//! Events, of both API groups.

use jiff::Timestamp;
use serde_json::Value;

use super::text::{UNKNOWN, ago, or, text};
use crate::object::Object;

pub(super) fn print(event: &Object, now: Timestamp) -> Vec<Value> {
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
