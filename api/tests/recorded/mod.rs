//! Reading recorded steps, and doing to their bodies what the server does around a kind's strategy.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use api::catalog::Catalog;
use api::codec::{self, FieldValidation, Target};
use api::strategy::{Strategy, User, WriteContext};
use api::{Object, Resource};
use serde_json::{Value, json};

/// The time of every request, here and in the place of recorded times.
const NOW: &str = "2026-01-02T03:04:05Z";

/// One recorded write, with the object it changes where it is a change.
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) namespace: Option<String>,
    pub(crate) change: Change,
    pub(crate) expected: Outcome,
}

/// What is written.
pub(crate) enum Change {
    Create(Value),
    Replace { body: Value, old: Value, subresource: String },
}

impl Change {
    fn body(&self) -> &Value {
        match self {
            Self::Create(body) | Self::Replace { body, .. } => body,
        }
    }
}

/// How a write ends. Errors are `field: message (reason)`.
#[derive(Debug)]
pub(crate) enum Outcome {
    Stored(Value),
    Refused(BTreeSet<String>),
}

/// The recordings, or `None` after saying that there are none.
pub(crate) fn cases_directory() -> Option<PathBuf> {
    let root = std::env::var_os("CORACLE_REFERENCE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let cases = root.join("golden/cases");
    if cases.is_dir() {
        return Some(cases);
    }
    eprintln!("SKIP: no recordings at {} (set CORACLE_REFERENCE)", cases.display());
    None
}

/// The writes of one file that a kind's strategy alone decides.
pub(crate) fn steps(cases: &Path, file: &str) -> Vec<Step> {
    let text = fs::read_to_string(cases.join(format!("{file}.json"))).expect("a recording");
    let recording: Value = serde_json::from_str(&text).expect("a recording is JSON");
    let mut steps = Vec::new();
    for case in recording["cases"].as_array().expect("cases") {
        let case = fill_in(case);
        let mut objects = HashMap::new();
        for step in case["steps"].as_array().expect("steps") {
            let name =
                format!("{file}/{}/{}", case["name"].as_str().unwrap_or(""), step["name"].as_str().unwrap_or(""));
            steps.extend(read(name, step, &objects));
            remember(step, &mut objects);
        }
    }
    steps
}

/// Puts values in the place of a case's variables and placeholders.
fn fill_in(case: &Value) -> Value {
    let mut text = case.to_string();
    for (name, value) in case["vars"].as_object().into_iter().flatten() {
        text = text.replace(&format!("${{{name}}}"), value.as_str().unwrap_or(""));
    }
    text = text.replace("${run}", "r7k2m");
    for number in 1..10 {
        text = text.replace(&format!("<<uid:{number}>>"), &uid(number));
    }
    for number in 1..10 {
        text = text
            .replace(&format!("<<gen:{number}>>"), "abcde")
            .replace(&format!("<<ip:{number}>>"), &format!("10.96.1.{number}"));
    }
    text = text.replace("<<time>>", NOW).replace("<<microtime>>", "2026-01-02T03:04:05.000000Z");
    serde_json::from_str(&text).expect("filling in keeps it JSON")
}

fn uid(number: u32) -> String {
    format!("00000000-0000-4000-8000-00000000000{number}")
}

fn path_of(step: &Value) -> (&str, bool) {
    let path = step["request"]["path"].as_str().unwrap_or("");
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    (path, query.contains("dryRun"))
}

/// The path of the object, and the subresource of it.
fn split_subresource(path: &str) -> (&str, &str) {
    match path.rsplit_once('/') {
        Some((object, name @ ("status" | "ephemeralcontainers" | "resize" | "scale" | "finalize" | "approval"))) => {
            (object, name)
        }
        _ => (path, ""),
    }
}

/// Keeps the newest state of every object that an answer shows.
fn remember(step: &Value, objects: &mut HashMap<String, Value>) {
    let body = &step["expect"]["body"];
    let (path, dry) = path_of(step);
    let name = body["metadata"]["name"].as_str().unwrap_or("");
    let partial = ["select", "ignore"].iter().any(|key| step.get(*key).is_some_and(|v| !v.is_null()));
    if dry || partial || name.is_empty() || body["kind"] == "Status" || body["metadata"].get("uid").is_none() {
        return;
    }
    let path = match step["request"]["method"].as_str() {
        Some("POST") => format!("{path}/{name}"),
        _ => split_subresource(path).0.to_owned(),
    };
    objects.insert(path, body.clone());
}

fn read(name: String, step: &Value, objects: &HashMap<String, Value>) -> Option<Step> {
    let request = &step["request"];
    let expect = &step["expect"];
    let body = request.get("body").filter(|body| body.is_object() && body.get("$use").is_none())?;
    let code = expect["status"].as_u64()?;
    let partial = ["select", "ignore"].iter().any(|key| step.get(*key).is_some_and(|v| !v.is_null()));
    if partial && code < 300 {
        return None;
    }
    let expected = match code {
        200 | 201 => Outcome::Stored(expect["body"].clone()),
        422 => {
            Outcome::Refused(causes(&expect["body"]).filter(|causes| !causes.iter().all(|cause| is_registrys(cause)))?)
        }
        _ => return None,
    };
    let (path, _) = path_of(step);
    let media = request["headers"]["Content-Type"].as_str().unwrap_or("");
    let change = match request["method"].as_str()? {
        "POST" if body.get("kind").is_some() && body["kind"].as_str() != Some("Binding") => {
            Change::Create(body.clone())
        }
        "PATCH" if media == "application/merge-patch+json" => {
            let (object, subresource) = split_subresource(path);
            let old = objects.get(object)?.clone();
            let mut new = old.clone();
            merge(&mut new, body);
            Change::Replace { body: new, old, subresource: subresource.to_owned() }
        }
        _ => return None,
    };
    let of_a_built_in = row_of(&catalog(), &Object::from_value(change.body().clone())?).is_some();
    if !of_a_built_in || matches!(&expected, Outcome::Stored(stored) if stored["kind"] != change.body()["kind"]) {
        return None;
    }
    let namespace = path.split_once("/namespaces/").and_then(|(_, rest)| Some(rest.split_once('/')?.0.to_owned()));
    Some(Step { name, namespace, change, expected })
}

fn causes(status: &Value) -> Option<BTreeSet<String>> {
    let causes = status.pointer("/details/causes")?.as_array()?;
    let text = |cause: &Value, key: &str| cause[key].as_str().unwrap_or("").to_owned();
    Some(
        causes
            .iter()
            .map(|c| format!("{}: {} ({})", text(c, "field"), text(c, "message"), text(c, "reason")))
            .collect(),
    )
}

/// Labels and finalizers are the registry's to check, for all kinds alike.
fn is_registrys(cause: &str) -> bool {
    cause.starts_with("metadata.labels:") || cause.starts_with("metadata.finalizers:")
}

fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    let Value::Object(into) = into else { return };
    for (key, value) in patch {
        if value.is_null() {
            into.remove(key);
        } else {
            merge(into.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Does to the body what the server does: decode, default, prepare, validate.
pub(crate) fn replay(step: &Step) -> Outcome {
    let user = User {
        name: "admin".to_owned(),
        groups: vec!["system:masters".to_owned(), "system:authenticated".to_owned()],
        ..User::default()
    };
    let now = NOW.parse().expect("a time");
    let context = |subresource| WriteContext { now, user: &user, subresource };
    match &step.change {
        Change::Create(body) => {
            let mut new = decode(body);
            let strategy = strategy(&new);
            strategy.default(&mut new);
            if let Outcome::Stored(stored) = &step.expected {
                complete(&mut new, stored);
            } else {
                new.set_metadata("uid", uid(2));
                if let Some(namespace) = &step.namespace {
                    new.set_metadata("namespace", namespace.as_str());
                }
            }
            if !strategy.keeps_status_on_create() && has_status(&step.expected, &new) {
                new.remove(&["status"]);
            }
            strategy.prepare_create(&context(""), &mut new);
            let asked = asked_strategy(body);
            let mut errors = asked.validate_create(&context(""), &new);
            let metadata = api::field::Path::new("metadata").child("name");
            errors.extend(
                strategy
                    .validate_name(new.name(), false)
                    .iter()
                    .map(|why| api::FieldError::invalid(&metadata, new.name(), why)),
            );
            finish(errors, new, body)
        }
        Change::Replace { body, old, subresource } => {
            let asked = asked_strategy(body);
            let (mut new, old) = (decode(body), decode(old));
            let strategy = strategy(&new);
            strategy.default(&mut new);
            let errors = if subresource == "status" {
                let written = new.remove(&["status"]);
                let mut kept = old.clone();
                if strategy.status_metadata().contains(&"labels") {
                    let metadata = new.get(&["metadata"]).cloned();
                    kept.set(&["metadata"], metadata.unwrap_or_else(|| json!({})));
                }
                kept.set(&["status"], written.unwrap_or_else(|| json!({})));
                new = kept;
                strategy.prepare_status_update(&context("status"), &mut new, &old);
                asked.validate_status_update(&context("status"), &new, &old)
            } else {
                match old.get(&["status"]).cloned() {
                    Some(status) => new.set(&["status"], status),
                    None => drop(new.remove(&["status"])),
                }
                strategy.prepare_update(&context(subresource), &mut new, &old);
                asked.validate_update(&context(subresource), &new, &old)
            };
            finish(errors, new, body)
        }
    }
}

fn has_status(expected: &Outcome, new: &Object) -> bool {
    match expected {
        Outcome::Stored(stored) => stored.get("status").is_some(),
        Outcome::Refused(_) => new.root().contains_key("status"),
    }
}

fn finish(errors: Vec<api::FieldError>, new: Object, asked: &Value) -> Outcome {
    if errors.is_empty() {
        return Outcome::Stored(encode(new, asked).into_value());
    }
    Outcome::Refused(errors.iter().map(|e| format!("{}: {} ({})", e.path, e.message, e.kind.reason())).collect())
}

/// The strategy of an object's kind, which is the same in all versions.
fn strategy(object: &Object) -> Arc<dyn Strategy> {
    let group = object.api_version().split_once('/').map_or("", |(group, _)| group);
    let catalog = catalog();
    let row = catalog.iter().find(|row| row.group == group && row.kind == object.kind()).expect("a built-in kind");
    row.strategy.clone()
}

/// The strategy of the version that was asked for: it validates.
fn asked_strategy(body: &Value) -> Arc<dyn Strategy> {
    let asked = Object::from_value(body.clone()).expect("an object");
    strategy(&asked)
}

/// Reads a body as the server does, into the storage version; what cannot be read is taken as it is.
fn decode(body: &Value) -> Object {
    let given = Object::from_value(body.clone()).expect("an object");
    let catalog = catalog();
    let Some(row) = row_of(&catalog, &given).cloned() else { return given };
    let Ok(decoded) = codec::decode_value(body.clone(), &Target::of(&row), FieldValidation::Ignore) else {
        return given;
    };
    let stored = catalog.storage_row(&row).clone();
    let mut object = catalog.convert(&row, &stored, decoded.object).expect("a stored object can be converted");
    object.set(&["apiVersion"], stored.api_version());
    object
}

/// The form in which the object is answered, in the version that was asked for.
fn encode(mut object: Object, asked: &Value) -> Object {
    let catalog = catalog();
    let Some(stored) = row_of(&catalog, &object).cloned() else { return object };
    codec::canonicalize(&mut object, stored.schema());
    let asked = Object::from_value(asked.clone()).expect("an object");
    let Some(row) = row_of(&catalog, &asked).cloned() else { return object };
    let mut object = catalog.convert(&stored, &row, object).expect("a stored object can be converted");
    object.set(&["apiVersion"], row.api_version());
    codec::canonicalize(&mut object, row.schema());
    object
}

fn catalog() -> Catalog {
    static CATALOG: LazyLock<Catalog> = LazyLock::new(Catalog::everything);
    CATALOG.clone()
}

fn row_of<'a>(catalog: &'a Catalog, object: &Object) -> Option<&'a Arc<Resource>> {
    let (group, version) = object.api_version().split_once('/').unwrap_or(("", object.api_version()));
    catalog.kind(group, version, object.kind())
}

/// What registry and admission add before a kind sees the object.
fn complete(new: &mut Object, stored: &Value) {
    let metadata = &stored["metadata"];
    for key in ["uid", "namespace", "generateName", "finalizers"] {
        if let Some(value) = metadata.get(key) {
            new.set_metadata(key, value.clone());
        }
    }
    new.set_metadata("name", metadata["name"].clone());
    if let ("Pod", Some(account)) = (new.kind(), stored["spec"].get("serviceAccountName")) {
        new.set(&["spec", "serviceAccountName"], account.clone());
    }
}

/// Compares what is stored, leaving out what the registry, allocation and admission decide.
pub(crate) fn compare(want: &Value, got: &Value) -> Result<(), String> {
    let (want, got) = (comparable(want), comparable(got));
    let mut differences = Vec::new();
    differ("", &want, &got, &mut differences);
    if differences.is_empty() { Ok(()) } else { Err(differences.join("\n")) }
}

fn comparable(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for key in ["managedFields", "resourceVersion", "generation", "creationTimestamp", "uid", "selfLink"] {
            metadata.remove(key);
        }
    }
    match object["kind"].as_str().unwrap_or("") {
        "Pod" => without_pod_admission(&mut object),
        "Service" => without_allocation(&mut object),
        "Node" => {
            let taints = object.pointer_mut("/spec/taints").and_then(Value::as_array_mut);
            if let Some(taints) = taints {
                taints.retain(|taint| taint["key"] != "node.kubernetes.io/not-ready");
                if taints.is_empty() {
                    remove(&mut object, "/spec", "taints");
                }
            }
        }
        _ => {}
    }
    object
}

fn remove(object: &mut Value, at: &str, key: &str) {
    if let Some(map) = object.pointer_mut(at).and_then(Value::as_object_mut) {
        map.remove(key);
    }
}

fn without_pod_admission(pod: &mut Value) {
    for key in ["priority", "preemptionPolicy", "serviceAccount", "serviceAccountName", "tolerations"] {
        remove(pod, "/spec", key);
    }
    let access = |item: &Value| item["name"].as_str().is_some_and(|name| name.starts_with("kube-api-access"));
    let mut lists = vec!["/spec".to_owned()];
    for list in ["containers", "initContainers"] {
        let count = pod["spec"][list].as_array().map_or(0, Vec::len);
        lists.extend((0..count).map(|index| format!("/spec/{list}/{index}")));
    }
    for at in lists {
        for key in ["volumes", "volumeMounts"] {
            let Some(list) = pod.pointer_mut(&format!("{at}/{key}")).and_then(Value::as_array_mut) else { continue };
            list.retain(|item| !access(item));
            if list.is_empty() {
                remove(pod, &at, key);
            }
        }
    }
}

fn without_allocation(service: &mut Value) {
    for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort"] {
        remove(service, "/spec", key);
    }
    for port in service.pointer_mut("/spec/ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(port) = port.as_object_mut() {
            port.remove("nodePort");
        }
    }
}

fn differ(path: &str, want: &Value, got: &Value, differences: &mut Vec<String>) {
    match (want, got) {
        (Value::Object(want), Value::Object(got)) => {
            let keys: BTreeSet<&String> = want.keys().chain(got.keys()).collect();
            for key in keys {
                let at = format!("{path}/{key}");
                match (want.get(key), got.get(key)) {
                    (Some(want), Some(got)) => differ(&at, want, got, differences),
                    (Some(want), None) => differences.push(format!("{at}: want {want}, got nothing")),
                    (None, Some(got)) => differences.push(format!("{at}: want nothing, got {got}")),
                    (None, None) => {}
                }
            }
        }
        (Value::Array(want), Value::Array(got)) if want.len() == got.len() => {
            for (index, (want, got)) in want.iter().zip(got).enumerate() {
                differ(&format!("{path}/{index}"), want, got, differences);
            }
        }
        (want, got) if want == got => {}
        (want, got) => differences.push(format!("{path}: want {want}, got {got}")),
    }
}
