//! Tables against recordings of the reference server: every recorded table of an object that the recording also shows
//! must come out the same.
//!
//! `CORACLE_REFERENCE` names the directory of the recordings; without it the test says that it is skipped.

mod reference;

use std::collections::HashMap;
use std::sync::Arc;

use api::catalog::Catalog;
use api::resource::Columns;
use api::table::{Column, cells, columns, scale_cells, scale_columns};
use api::{Object, Resource};
use jiff::Timestamp;
use serde_json::Value;

/// The resource of a path, and whether the path is of its scale. Resources of the case's own CRDs are made up from a
/// built-in one: tables only ask for names and columns.
fn resource_of(catalog: &Catalog, path: &str, case: &Value) -> Option<(Resource, bool)> {
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
    let (plural, scale) = (*rest.first()?, rest.get(2) == Some(&"scale"));
    if let Some(resource) = catalog.resource(group, version, plural) {
        return Some((resource.as_ref().clone(), scale));
    }
    let bodies = case["setup"].as_array().into_iter().chain(case["steps"].as_array()).flatten();
    let mut definitions = bodies.map(|step| &step["request"]["body"]["spec"]);
    let spec = definitions.find(|spec| spec["group"] == group && spec["names"]["plural"] == plural)?;
    let version = spec["versions"].as_array()?.iter().find(|known| known["name"] == version)?;
    let mut resource = catalog.resource("", "v1", "configmaps")?.as_ref().clone();
    resource.kind = spec["names"]["kind"].as_str()?.to_owned().into();
    resource.columns = Columns::Custom(Arc::new(version["additionalPrinterColumns"].clone()));
    Some((resource, scale))
}

/// A cell as the recording shows it: ages are placeholders there.
fn same_cell(got: &Value, want: &Value) -> bool {
    match want.as_str() {
        Some("<<age>>") => got.is_string(),
        _ => got == want,
    }
}

#[test]
fn tables_come_out_as_recorded() {
    let Some(cases) = reference::cases(|_| true) else { return };
    let catalog = Catalog::builtin();
    let (mut same, mut rows, mut differ) = (0, 0, Vec::new());
    for case in &cases {
        let mut objects: HashMap<String, Value> = HashMap::new();
        for step in case["steps"].as_array().expect("steps") {
            let body = &step["expect"]["body"];
            remember(body, &mut objects);
            if body["kind"] != "Table" || step.get("select").is_some_and(|select| !select.is_null()) {
                continue;
            }
            let path = step["request"]["path"].as_str().unwrap_or("");
            let Some((resource, scale)) = resource_of(&catalog, path, case) else { continue };
            match compare(body, &resource, scale, &objects) {
                Ok(compared) => (same, rows) = (same + 1, rows + compared),
                Err(why) => differ.push(format!("{}/{}: {why}", case["name"], step["name"])),
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
        let key = format!(
            "{kind}/{}/{}",
            metadata["uid"].as_str().unwrap_or(""),
            metadata["resourceVersion"].as_str().unwrap_or("")
        );
        let Some(object) = objects.get(&key).cloned().and_then(Object::from_value) else { continue };
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
