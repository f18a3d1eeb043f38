//! An event as bytes: as JSON, as one line for people, and cut down to what there is room for.

use bytes::Bytes;
use facts::quoted::quoted;
use serde_json::{Map, Value};

use super::config::{Format, Truncate};
use super::policy::Level;

/// Says of an event that it was cut down.
const TRUNCATED: &str = "audit.k8s.io/truncated";

/// An event at one stage.
pub(super) struct Event {
    pub(super) level: Level,
    /// All of it, as JSON.
    pub(super) json: Bytes,
    /// Without the objects of request and response.
    pub(super) outline: Map<String, Value>,
}

impl Event {
    /// The event in a form, no longer than allowed; `None` if that is not possible.
    pub(super) fn text(&self, format: Format, most: Option<Truncate>) -> Option<Bytes> {
        let most = most.map_or(usize::MAX, |most| most.max_event_size);
        if self.json.len() <= most {
            return Some(self.shown(format, &self.outline, || self.json.clone()));
        }
        if self.level < Level::Request {
            return None;
        }
        let mut outline = self.outline.clone();
        let annotations = outline.entry("annotations").or_insert_with(|| Value::Object(Map::new()));
        annotations.as_object_mut()?.insert(TRUNCATED.to_owned(), "true".into());
        let json = to_json(&outline);
        (json.len() <= most).then(|| self.shown(format, &outline, || json))
    }

    fn shown(&self, format: Format, outline: &Map<String, Value>, json: impl FnOnce() -> Bytes) -> Bytes {
        match format {
            Format::Json => json(),
            Format::Legacy => Bytes::from(legacy(outline)),
        }
    }
}

/// JSON of a tree, which is never refused.
pub(super) fn to_json(tree: &Map<String, Value>) -> Bytes {
    Bytes::from(serde_json::to_vec(tree).unwrap_or_default())
}

/// An `EventList` of events in JSON.
pub(super) fn list(events: &[Bytes]) -> Bytes {
    const HEAD: &[u8] = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#;
    let size = HEAD.len() + 2 + events.iter().map(|event| event.len() + 1).sum::<usize>();
    let mut out = Vec::with_capacity(size);
    out.extend_from_slice(HEAD);
    for (at, event) in events.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(event);
    }
    out.extend_from_slice(b"]}");
    Bytes::from(out)
}

/// The line that upstream's format `legacy` has for an event.
fn legacy(event: &Map<String, Value>) -> String {
    let part = |path: &[&str]| {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(event.get(*first)?, |value, field| value.get(*field))
    };
    let text = |path: &[&str]| part(path).and_then(Value::as_str).unwrap_or("").to_owned();
    let or = |text: String, without: &str| if text.is_empty() { without.to_owned() } else { text };
    let groups = |of: &str| part(&[of, "groups"]).and_then(Value::as_array).map(|groups| all_quoted(groups));
    let user = text(&["user", "username"]);
    let user_groups = groups("user").filter(|groups| !user.is_empty() && !groups.is_empty());
    let (acting, acting_groups) = match part(&["impersonatedUser"]) {
        Some(_) => (text(&["impersonatedUser", "username"]), groups("impersonatedUser")),
        None => ("<self>".to_owned(), None),
    };
    let fields = [
        ("id", text(&["auditID"])),
        ("stage", text(&["stage"])),
        ("ip", or(first(event), "<unknown>")),
        ("method", text(&["verb"])),
        ("user", or(user, "<none>")),
        ("groups", user_groups.unwrap_or_else(|| "<none>".to_owned())),
        ("as", acting),
        ("asgroups", acting_groups.unwrap_or_else(|| "<lookup>".to_owned())),
        ("user-agent", text(&["userAgent"])),
        ("namespace", or(text(&["objectRef", "namespace"]), "<none>")),
        ("uri", text(&["requestURI"])),
    ];
    let code = part(&["responseStatus"]).map(|status| status.get("code").and_then(Value::as_u64).unwrap_or(0));
    let code = code.map_or_else(|| "<deferred>".to_owned(), |code| code.to_string());
    let fields = fields.map(|(name, value)| format!("{name}={}", quoted(&value))).join(" ");
    format!("{} AUDIT: {fields} response=\"{code}\"", nanos(&text(&["requestReceivedTimestamp"])))
}

/// The address that a request came from first.
fn first(event: &Map<String, Value>) -> String {
    let first = event.get("sourceIPs").and_then(|all| all.get(0)).and_then(Value::as_str);
    first.unwrap_or("").to_owned()
}

fn all_quoted(groups: &[Value]) -> String {
    groups.iter().map(|group| quoted(group.as_str().unwrap_or(""))).collect::<Vec<_>>().join(",")
}

/// A time as Go's RFC3339Nano has it: without zeros at the end of its fraction.
fn nanos(time: &str) -> String {
    let Some(time) = time.strip_suffix('Z').filter(|time| time.contains('.')) else { return time.to_owned() };
    format!("{}Z", time.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(level: Level, tree: Value) -> Event {
        let Value::Object(tree) = tree else { panic!("an object") };
        let mut outline = tree.clone();
        outline.remove("requestObject");
        outline.remove("responseObject");
        Event { level, json: to_json(&tree), outline }
    }

    #[test]
    fn what_is_too_large_goes_without_its_objects_or_not_at_all() {
        let tree = json!({"auditID": "a", "requestObject": {"data": "x".repeat(200)}, "annotations": {"k": "v"}});
        let text = |level, most| {
            let truncate = Truncate { max_batch_size: most, max_event_size: most };
            event(level, tree.clone()).text(Format::Json, Some(truncate))
        };
        assert_eq!(serde_json::from_slice::<Value>(&text(Level::Request, 1000).unwrap()).unwrap(), tree);
        let cut = json!({"auditID": "a", "annotations": {"k": "v", TRUNCATED: "true"}});
        assert_eq!(serde_json::from_slice::<Value>(&text(Level::Request, 100).unwrap()).unwrap(), cut);
        assert!(text(Level::Metadata, 100).is_none());
        assert!(text(Level::RequestResponse, 20).is_none());
        assert!(event(Level::Request, tree).text(Format::Json, None).is_some());
    }

    #[test]
    fn the_old_format_is_one_line() {
        let tree = json!({
            "auditID": "7", "stage": "ResponseComplete", "verb": "get", "userAgent": "k \"x\"\n",
            "requestReceivedTimestamp": "2026-01-02T03:04:05.120000Z", "sourceIPs": ["10.0.0.1", "10.0.0.2"],
            "user": {"username": "jane", "groups": ["a", "b"]}, "requestURI": "/api/v1/namespaces/n/pods",
            "objectRef": {"namespace": "n"}, "responseStatus": {"code": 200}, "requestObject": {"a": 1},
        });
        let line = event(Level::Request, tree).text(Format::Legacy, None).unwrap();
        let want = r#"2026-01-02T03:04:05.12Z AUDIT: id="7" stage="ResponseComplete" ip="10.0.0.1" method="get" user="jane" groups="\"a\",\"b\"" as="<self>" asgroups="<lookup>" user-agent="k \"x\"\n" namespace="n" uri="/api/v1/namespaces/n/pods" response="200""#;
        assert_eq!(line, want.as_bytes());
        let tree =
            json!({"requestReceivedTimestamp": "2026-01-02T03:04:05.000000Z", "impersonatedUser": {"username": "jim"}});
        let line = event(Level::Metadata, tree).text(Format::Legacy, None).unwrap();
        let want = r#"2026-01-02T03:04:05Z AUDIT: id="" stage="" ip="<unknown>" method="" user="<none>" groups="<none>" as="jim" asgroups="<lookup>" user-agent="" namespace="<none>" uri="" response="<deferred>""#;
        assert_eq!(line, want.as_bytes());
    }

    #[test]
    fn events_are_sent_as_a_list() {
        let list: Value =
            serde_json::from_slice(&list(&[Bytes::from_static(b"{\"a\":1}"), Bytes::from_static(b"{}")])).unwrap();
        let want =
            json!({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": [{"a": 1}, {}]});
        assert_eq!(list, want);
    }
}
