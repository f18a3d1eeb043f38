//! Patches against recordings of the reference server: every recorded patch of a built-in object, in all four formats,
//! is applied to the object that the recording showed before, and must give the object that it showed after.
//!
//! `CORACLE_REFERENCE` names the directory of the recordings; without it the test says that it is skipped.

mod reference;

use std::collections::HashMap;

use api::apply::{Writer, apply};
use api::catalog::Catalog;
use api::codec::{FieldValidation, Target, canonicalize, decode_value};
use api::patch::{json_patch, merge_patch, strategic_merge};
use api::{ApiError, Object, Resource};
use jiff::Timestamp;
use serde_json::Value;

/// The resource of a path, the path of the object, and the subresource.
fn target<'c>(catalog: &'c Catalog, path: &str) -> Option<(&'c Resource, String, String)> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return None,
    };
    let rest = match rest {
        ["namespaces", _, rest @ ..] if rest.len() > 1 => rest,
        rest => rest,
    };
    let [plural, _, subresource @ ..] = rest else { return None };
    let subresource = subresource.join("/");
    let object = path.strip_suffix(&subresource).unwrap_or(path).trim_end_matches('/').to_owned();
    Some((catalog.resource(group, version, plural)?, object, subresource))
}

/// What the patch makes of the live object.
fn patched(step: &Value, live: &Value, resource: &Resource, subresource: &str) -> Option<Result<Value, ApiError>> {
    let request = &step["request"];
    let query = request["path"].as_str()?.split_once('?').map_or("", |(_, query)| query);
    let parameter = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let raw = request["raw"].as_str().map(str::to_owned).unwrap_or_else(|| request["body"].to_string());
    let strict = parameter("fieldValidation").is_some();
    match request["headers"]["Content-Type"].as_str()? {
        "application/json-patch+json" if !strict => {
            Some(json_patch(live.clone(), raw.as_bytes()).map_err(ApiError::from))
        }
        "application/merge-patch+json" if !strict => {
            Some(merge_patch(live.clone(), raw.as_bytes()).map_err(ApiError::from))
        }
        "application/strategic-merge-patch+json" if !strict => {
            Some(strategic_merge(live.clone(), raw.as_bytes(), resource.schema()).map_err(ApiError::from))
        }
        media if media.starts_with("application/apply-patch") => {
            let writer = Writer {
                manager: parameter("fieldManager")?,
                api_version: &resource.api_version(),
                kind: &resource.kind,
                subresource,
                status_apart: resource.has_subresource("status"),
                spec_apart: !resource.strategy.tracks_spec(),
                now: Timestamp::UNIX_EPOCH,
            };
            let patch = Object::from_value(request["body"].clone())?;
            let live = Object::from_value(live.clone())?;
            let applied = apply(Some(&live), &patch, resource.schema(), &writer, parameter("force") == Some("true"));
            Some(applied.map(|applied| applied.object.into_value()).map_err(ApiError::from))
        }
        _ => None,
    }
}

/// The part of an object that a patch decides: the rest is the server's.
fn decided(value: Value, resource: &Resource, subresource: &str) -> Result<Value, String> {
    let decoded = decode_value(value, &Target::of(resource), FieldValidation::Ignore);
    let mut object = decoded.map_err(|why| format!("{resource:?}: {why}"))?.object;
    if resource.version == resource.storage_version && resource.group != "events.k8s.io" {
        resource.strategy.default(&mut object);
    }
    for field in
        ["managedFields", "resourceVersion", "generation", "uid", "deletionTimestamp", "deletionGracePeriodSeconds"]
    {
        object.remove(&["metadata", field]);
    }
    if resource.has_subresource("status") && subresource != "status" {
        object.remove(&["status"]);
    }
    if subresource == "status" {
        object.remove(&["spec"]);
        object.remove(&["metadata"]);
    }
    object.set(&["apiVersion"], resource.api_version());
    object.set(&["kind"], resource.kind.as_ref());
    canonicalize(&mut object, resource.schema());
    Ok(object.into_value())
}

/// Repeats one step; `None` when it is not a patch that can be repeated.
fn repeat(step: &Value, objects: &mut HashMap<String, Value>, catalog: &Catalog) -> Option<Result<(), String>> {
    let (request, expected) = (&step["request"], &step["expect"]["body"]);
    let path = request["path"].as_str()?;
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let whole = step.get("select").is_none_or(Value::is_null) && expected["metadata"].get("uid").is_some();
    let name = expected["metadata"]["name"].as_str().unwrap_or("");
    let path = if request["method"] == "POST" { format!("{path}/{name}") } else { path.to_owned() };
    let (resource, object, subresource) = target(catalog, &path)?;
    let whole = whole && expected["kind"] == resource.kind.as_ref();
    let live = objects.get(&object).cloned();
    if whole && !query.contains("dryRun") {
        objects.insert(object, expected.clone());
    }
    if request["method"] != "PATCH" || !matches!(subresource.as_str(), "" | "status") {
        return None;
    }
    let outcome = patched(step, &live?, resource, &subresource)?;
    let code = step["expect"]["status"].as_u64()?;
    match outcome {
        Ok(value) if whole && code == 200 => {
            let got = decided(value, resource, &subresource);
            let want = decided(expected.clone(), resource, &subresource);
            Some(if got == want { Ok(()) } else { Err(format!("got  {got:?}\nwant {want:?}")) })
        }
        // Refusals that come after patching are not made here.
        Ok(_) => None,
        Err(error) => {
            let got = error.to_value();
            let same =
                ["message", "code", "reason", "details"].iter().all(|field| got.get(field) == expected.get(field));
            Some(if same { Ok(()) } else { Err(format!("got  {got}\nwant {expected}")) })
        }
    }
}

/// Steps after which the server changed the object further: why, and where.
const CHANGED_FURTHER: [(&str, &str); 8] = [
    ("a webhook", "adm-map-apply/on update"),
    ("status without its subresource's resets", "crd-names/stored versions by status"),
    ("conversion adds an annotation", "def-ds-rich/change 1"),
    ("node ports are allocated", "def-svc-nodeport/change 1"),
    ("the spec is kept", "certificates/spec may not change"),
    ("times are filled in", "certificates/failed condition by status"),
    ("addresses are allocated", "upd-services/"),
    ("finalizers are kept", "upd-namespaces/finalizers in spec"),
];

#[test]
fn patches_come_out_as_recorded() {
    let Some(cases) = reference::cases(|_| true) else { return };
    let catalog = Catalog::builtin();
    let (mut same, mut differ) = (0, Vec::new());
    for case in &cases {
        let mut objects = HashMap::new();
        for step in case["steps"].as_array().expect("steps") {
            let name = format!("{}/{}", case["name"].as_str().unwrap_or(""), step["name"].as_str().unwrap_or(""));
            let further = CHANGED_FURTHER.iter().any(|(_, part)| name.contains(part));
            match repeat(step, &mut objects, &catalog) {
                None => {}
                Some(Ok(())) => same += 1,
                Some(Err(_)) if further => {}
                Some(Err(why)) => differ.push(format!("{name}\n{why}")),
            }
        }
    }
    eprintln!("{same} patches as recorded, {} not", differ.len());
    assert!(differ.is_empty(), "{}", differ.join("\n\n"));
}
