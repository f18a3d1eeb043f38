//! Tables against recordings of the reference server: every recorded table of an object that the recording also shows
//! must come out the same.
//!
//! `CORACLE_REFERENCE` names the directory of the recordings; without it the test says that it is skipped.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use api::catalog::Catalog;
use api::table::{Column, cells, columns, scale_cells, scale_columns};
use api::{Object, Resource};
use jiff::Timestamp;
use serde_json::Value;

fn cases_directory() -> Option<PathBuf> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let cases = std::env::var_os("CORACLE_REFERENCE").map_or_else(default, PathBuf::from).join("golden/cases");
    if cases.is_dir() {
        return Some(cases);
    }
    assert!(std::env::var_os("E2E_REQUIRED").is_none(), "no recordings at {}", cases.display());
    eprintln!("SKIP: no recordings at {} (set CORACLE_REFERENCE)", cases.display());
    None
}

/// The resource of a path, and whether the path is of its scale.
fn resource_of<'c>(catalog: &'c Catalog, path: &str) -> Option<(&'c Resource, bool)> {
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return None,
    };
    let rest = match rest {
        ["namespaces", _, rest @ ..] if !rest.is_empty() => rest,
        rest => rest,
    };
    let resource = catalog.resource(group, version, rest.first()?)?;
    Some((resource, rest.get(2) == Some(&"scale")))
}

/// A cell as the recording shows it: ages and times are placeholders there.
fn same_cell(got: &Value, want: &Value) -> bool {
    match want.as_str() {
        Some("<<age>>") => got.is_string(),
        Some("<<time>>") => got.is_string() || got.is_null(),
        _ => got == want,
    }
}

#[test]
fn tables_come_out_as_recorded() {
    let Some(directory) = cases_directory() else { return };
    let catalog = Catalog::builtin();
    let (mut same, mut rows, mut differ) = (0, 0, Vec::new());
    let mut files: Vec<PathBuf> = fs::read_dir(&directory).expect("a directory").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    for file in files {
        let recording: Value = serde_json::from_str(&fs::read_to_string(&file).expect("a recording")).expect("JSON");
        for case in recording["cases"].as_array().expect("cases") {
            let mut objects: HashMap<String, Value> = HashMap::new();
            let case = with_node_ports(case);
            for step in case["steps"].as_array().expect("steps") {
                let body = &step["expect"]["body"];
                remember(body, &mut objects);
                if body["kind"] != "Table" || step.get("select").is_some_and(|select| !select.is_null()) {
                    continue;
                }
                let Some((resource, scale)) = resource_of(&catalog, step["request"]["path"].as_str().unwrap_or("")) else { continue };
                let name = format!("{} {} {}", file.display(), case["name"], step["name"]);
                match compare(body, resource, scale, &objects) {
                    Ok(compared) => (same, rows) = (same + 1, rows + compared),
                    Err(why) => differ.push(format!("{name}: {why}")),
                }
            }
        }
    }
    eprintln!("{same} tables with {rows} rows as recorded, {} tables not", differ.len());
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

/// Keeps the newest state of every object that an answer shows.
fn remember(body: &Value, objects: &mut HashMap<String, Value>) {
    let keep = |object: &Value, objects: &mut HashMap<String, Value>| {
        let (uid, version) = (&object["metadata"]["uid"], &object["metadata"]["resourceVersion"]);
        let whole = object["kind"] != "PartialObjectMetadata" && object["kind"] != "Status";
        if let (Some(uid), Some(version), true) = (uid.as_str(), version.as_str(), whole) {
            objects.insert(format!("{}/{uid}/{version}", object["kind"].as_str().unwrap_or("")), object.clone());
        }
    };
    keep(body, objects);
    for item in body["items"].as_array().into_iter().flatten() {
        keep(item, objects);
    }
}

fn compare(table: &Value, resource: &Resource, scale: bool, objects: &HashMap<String, Value>) -> Result<usize, String> {
    let definitions = if scale { scale_columns() } else { columns(resource) };
    let got = Value::from(definitions.iter().map(Column::to_value).collect::<Vec<_>>());
    let want = &table["columnDefinitions"];
    if !want.is_null() && got != *want {
        return Err(format!("columns\n got {got}\nwant {want}"));
    }
    let mut compared = 0;
    let kind = if scale { "Scale" } else { resource.kind.as_ref() };
    for row in table["rows"].as_array().into_iter().flatten() {
        let metadata = &row["object"]["metadata"];
        let key = format!("{kind}/{}/{}", metadata["uid"].as_str().unwrap_or(""), metadata["resourceVersion"].as_str().unwrap_or(""));
        let Some(object) = objects.get(&key).cloned().and_then(Object::from_value) else { continue };
        let object = with_times(object);
        let now = Timestamp::from_second(1_000_000_000).expect("a time");
        let got = if scale { scale_cells(&object, now) } else { cells(resource, &object, now) };
        let want = row["cells"].as_array().cloned().unwrap_or_default();
        if got.len() != want.len() || !got.iter().zip(&want).all(|(got, want)| same_cell(got, want)) {
            return Err(format!("cells\n got {got:?}\nwant {want:?}"));
        }
        compared += 1;
    }
    Ok(compared)
}

/// The case with numbers for the placeholders of node ports: 30001 and so on.
fn with_node_ports(case: &Value) -> Value {
    let mut text = case.to_string();
    for port in 1..10 {
        let (placeholder, number) = (format!("<<nodePort:{port}>>"), format!("{}", 30_000 + port));
        text = text.replace(&format!("\"{placeholder}\""), &number).replace(&placeholder, &number);
    }
    serde_json::from_str(&text).expect("still JSON")
}

/// The object with a time where the recording has a placeholder.
fn with_times(object: Object) -> Object {
    let text = object.into_value().to_string();
    let text = text.replace("\"<<time>>\"", "\"2001-01-01T00:00:00Z\"").replace("\"<<microtime>>\"", "\"2001-01-01T00:00:00.000000Z\"");
    Object::from_value(serde_json::from_str(&text).expect("still JSON")).expect("still an object")
}
