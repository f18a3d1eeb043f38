//! Ownership against recordings of the reference server: every recorded write to a built-in object is repeated on the
//! objects that the recording shows, and `managedFields` (or the conflict) must come out as recorded.
//!
//! `CORACLE_REFERENCE` names the directory of the recordings; without it the test says that it is skipped.

mod reference;

use std::collections::HashMap;

use api::apply::{Writer, apply, track_update};
use api::catalog::Catalog;
use api::{ApiError, Object, Resource};
use jiff::Timestamp;
use serde_json::Value;

/// One recorded request for an object of a built-in kind.
struct Request<'a> {
    method: &'a str,
    path: &'a str,
    query: &'a str,
    media: &'a str,
    body: &'a Value,
}

impl<'a> Request<'a> {
    fn of(step: &'a Value) -> Self {
        let request = &step["request"];
        let path = request["path"].as_str().unwrap_or("");
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let media = request["headers"]["Content-Type"].as_str().unwrap_or("");
        Self { method: request["method"].as_str().unwrap_or(""), path, query, media, body: &request["body"] }
    }

    fn parameter(&self, name: &str) -> Option<&'a str> {
        self.query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// The resource, the path of the object and the subresource.
    fn target<'c>(&self, catalog: &'c Catalog, name: &str) -> Option<(&'c Resource, String, &'a str)> {
        let parts: Vec<&str> = self.path.trim_start_matches('/').split('/').collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let rest = match rest {
            ["namespaces", _, rest @ ..] if rest.len() > 1 || (rest.len() == 1 && self.method == "POST") => rest,
            rest => rest,
        };
        let (plural, subresource) = match rest {
            [plural] | [plural, _] => (*plural, ""),
            [plural, _, subresource] => (*plural, *subresource),
            _ => return None,
        };
        let resource = catalog.resource(group, version, plural)?;
        let path = self.path.strip_suffix(subresource).unwrap_or(self.path).trim_end_matches('/');
        let path = if self.method == "POST" { format!("{path}/{name}") } else { path.to_owned() };
        Some((resource, path, subresource))
    }
}

/// Steps whose recorded outcome other parts of the server decide: why, and where.
const DECIDED_ELSEWHERE: [(&str, &str); 6] = [
    ("the server wrote status between the steps", "alt-apiservices/merge patch of the fields"),
    ("the server wrote status between the steps", "flowschemas/"),
    ("the server wrote status between the steps", "customresourcedefinitions/"),
    ("conversion adds an annotation that counts template changes", "daemonsets/create"),
    ("conversion adds an annotation that counts template changes", "def-ds-rich/create"),
    ("a default of the old type is dropped after tracking", "def-svc-nodeport/change 1"),
];

/// Entries without their times, in an order of their own: the recordings order neither.
fn comparable(entries: Option<&Value>) -> Vec<String> {
    let list = entries.and_then(Value::as_array).cloned().unwrap_or_default();
    let strip = |mut entry: Value| {
        entry.as_object_mut().expect("an entry").remove("time");
        entry.to_string()
    };
    let mut entries: Vec<String> = list.into_iter().map(strip).collect();
    entries.sort();
    entries
}

/// Repeats one step; what differs, if anything, or `None` when the step is not of a kind that can be repeated.
fn repeat(step: &Value, objects: &mut HashMap<String, Value>, catalog: &Catalog) -> Option<Result<(), String>> {
    let request = Request::of(step);
    let expected = &step["expect"]["body"];
    let shown = expected["metadata"]["name"].as_str().unwrap_or("");
    let (resource, path, subresource) = request.target(catalog, shown)?;
    let live = objects.get(&path).cloned();
    let is_object = expected["kind"] == resource.kind.as_ref() && expected["metadata"].get("uid").is_some();
    if is_object && request.parameter("dryRun").is_none() && step.get("select").is_none_or(Value::is_null) {
        objects.insert(path, expected.clone());
    }
    let writer = Writer {
        manager: request.parameter("fieldManager").unwrap_or("golden"),
        api_version: &resource.api_version(),
        kind: &resource.kind,
        subresource,
        status_apart: resource.has_subresource("status"),
        spec_apart: !resource.strategy.tracks_spec(),
        now: Timestamp::UNIX_EPOCH,
    };
    let live = live.and_then(Object::from_value).filter(|_| request.method != "POST");
    let tracked = match (request.method, request.media) {
        ("PATCH", media) if media.starts_with("application/apply-patch") => {
            request.parameter("fieldManager")?;
            let patch = Object::from_value(request.body.clone())?;
            let force = request.parameter("force") == Some("true");
            match apply(live.as_ref(), &patch, resource.schema(), &writer, force) {
                Ok(applied) => applied.object,
                Err(error) => return Some(compare_errors(&ApiError::from(error).to_value(), expected)),
            }
        }
        // Strategies know objects in the version that is stored.
        ("POST" | "PUT", _) if resource.version != resource.storage_version || resource.group == "events.k8s.io" => {
            return None;
        }
        ("POST", _) | ("PUT", _) if is_object && subresource.is_empty() && live.is_none() => {
            let mut new = Object::from_value(request.body.clone())?;
            resource.strategy.default(&mut new);
            track_update(None, &mut new, resource.schema(), &writer);
            new
        }
        ("PUT" | "PATCH", _) if is_object && subresource != "scale" => {
            let mut new = Object::from_value(expected.clone())?;
            new.metadata_mut().remove("managedFields");
            if let Some(sent) = request.body.pointer("/metadata/managedFields") {
                new.set_metadata("managedFields", sent.clone());
            }
            track_update(live.as_ref(), &mut new, resource.schema(), &writer);
            new
        }
        _ => return None,
    };
    if !is_object || step.get("select").is_some_and(|select| !select.is_null()) {
        return None;
    }
    let got = comparable(tracked.get(&["metadata", "managedFields"]));
    let want = comparable(expected.pointer("/metadata/managedFields"));
    Some(if got == want { Ok(()) } else { Err(format!("got  {got:#?}\nwant {want:#?}")) })
}

fn compare_errors(got: &Value, want: &Value) -> Result<(), String> {
    let same = ["message", "code", "reason", "details"].iter().all(|field| got.get(field) == want.get(field));
    if same { Ok(()) } else { Err(format!("got  {got}\nwant {want}")) }
}

#[test]
fn ownership_comes_out_as_recorded() {
    let wanted = |name: &str| name == "patching" || name == "defaulting" || name.starts_with("lifecycle");
    let Some(cases) = reference::cases(wanted) else { return };
    let catalog = Catalog::builtin();
    let (mut same, mut differ) = (0, Vec::new());
    for case in &cases {
        let mut objects = HashMap::new();
        for step in case["steps"].as_array().expect("steps") {
            let name = format!("{}/{}", case["name"].as_str().unwrap_or(""), step["name"].as_str().unwrap_or(""));
            let elsewhere = DECIDED_ELSEWHERE.iter().any(|(_, part)| name.contains(part));
            match repeat(step, &mut objects, &catalog) {
                None => {}
                Some(Ok(())) => same += 1,
                Some(Err(_)) if elsewhere => {}
                Some(Err(why)) => differ.push(format!("{name}\n{why}")),
            }
        }
    }
    eprintln!("{same} as recorded, {} not", differ.len());
    assert!(differ.is_empty(), "{}", differ.join("\n\n"));
}
