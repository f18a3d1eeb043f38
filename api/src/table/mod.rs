//! Tables: what `kubectl get` prints, one row per object.
//!
//! Built-in kinds make cells of their own ([`crate::kinds`]) for the columns in `columns.txt`, CRDs have
//! `additionalPrinterColumns`, everything else shows its name and age.

pub(crate) mod cell;
pub(crate) mod custom;
pub(crate) mod duration;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::object::Object;
use crate::resource::{Columns, Resource, Text};

pub use duration::human_duration;

/// A column of a table (`metav1.TableColumnDefinition`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: Text,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub type_: Text,
    /// `name` for the column of names.
    pub format: Text,
    pub description: Text,
    /// Columns above 0 are only shown by `-o wide`.
    pub priority: i64,
}

impl Column {
    /// As `columnDefinitions` shows it.
    pub fn to_value(&self) -> Value {
        json!({
            "name": self.name, "type": self.type_, "format": self.format, "description": self.description,
            "priority": self.priority,
        })
    }
}

/// Columns by `group/plural`, `scale`, and `default`.
static COLUMNS: LazyLock<BTreeMap<&'static str, Vec<Column>>> =
    LazyLock::new(|| read_columns(include_str!("columns.txt")));

fn read_columns(text: &'static str) -> BTreeMap<&'static str, Vec<Column>> {
    let mut descriptions: BTreeMap<&str, Text> = BTreeMap::new();
    let mut columns: BTreeMap<&str, Vec<Column>> = BTreeMap::new();
    let mut kind = "";
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            kind = name;
            continue;
        }
        match line.split('\t').collect::<Vec<_>>().as_slice() {
            [shared, description] => {
                descriptions.insert(shared, unescape(description));
            }
            [name, type_, format, priority, description] => columns.entry(kind).or_default().push(Column {
                name: Text::Borrowed(name),
                type_: Text::Borrowed(type_),
                format: Text::Borrowed(format),
                description: descriptions.get(description).cloned().unwrap_or_else(|| unescape(description)),
                priority: priority.parse().unwrap_or(0),
            }),
            _ => {}
        }
    }
    columns
}

fn unescape(description: &'static str) -> Text {
    if description.contains("\\n") {
        Text::Owned(description.replace("\\n", "\n"))
    } else {
        Text::Borrowed(description)
    }
}

fn key_of(resource: &Resource) -> String {
    format!("{}/{}", resource.group, resource.plural)
}

pub(crate) fn known_columns(key: &str) -> Option<Vec<Column>> {
    COLUMNS.get(key).cloned()
}

/// Name and age: the columns of kinds that have no printer.
fn default_columns() -> Vec<Column> {
    // Roles have the default columns.
    known_columns("rbac.authorization.k8s.io/roles").unwrap_or_default()
}

/// The columns of a resource.
pub fn columns(resource: &Resource) -> Vec<Column> {
    match &resource.columns {
        Columns::Custom(columns) => custom::columns(columns),
        Columns::Default => default_columns(),
        Columns::BuiltIn(_) => known_columns(&key_of(resource)).unwrap_or_else(default_columns),
    }
}

/// The cells of an object, one per column.
pub fn cells(resource: &Resource, object: &Object, now: Timestamp) -> Vec<Value> {
    match &resource.columns {
        Columns::Custom(columns) => custom::cells(columns, object, now),
        Columns::Default => default_cells(object),
        Columns::BuiltIn(cells) => {
            let mut row = Vec::new();
            cells.iter().for_each(|cell| cell.print(object, now, &mut row));
            row
        }
    }
}

/// The columns of a `Scale`.
pub fn scale_columns() -> Vec<Column> {
    known_columns("scale").unwrap_or_default()
}

/// The cells of a `Scale`.
pub fn scale_cells(scale: &Object, now: Timestamp) -> Vec<Value> {
    let number = |path: &[&str]| scale.integer(path).unwrap_or(0);
    vec![
        scale.name().into(),
        number(&["spec", "replicas"]).into(),
        number(&["status", "replicas"]).into(),
        cell::age(scale, now).into(),
    ]
}

fn default_cells(object: &Object) -> Vec<Value> {
    vec![object.name().into(), object.get(&["metadata", "creationTimestamp"]).cloned().unwrap_or(Value::Null)]
}

/// The object with nothing but its metadata (`PartialObjectMetadata`).
pub fn partial_metadata(object: &Object) -> Value {
    let metadata = object.get(&["metadata"]).cloned().unwrap_or_else(|| json!({}));
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_printer_has_as_many_cells_as_columns() {
        for resource in crate::catalog::Catalog::builtin().iter() {
            let (columns, cells) = (columns(resource), cells(resource, &Object::default(), Timestamp::UNIX_EPOCH));
            // The reference prints an age for IP addresses, and has no column for it.
            let extra = usize::from(resource.plural == "ipaddresses");
            assert_eq!(cells.len(), columns.len() + extra, "{resource:?}");
        }
    }

    #[test]
    fn every_kind_with_columns_has_a_printer() {
        let catalog = crate::catalog::Catalog::builtin();
        for resource in catalog.iter() {
            let named = COLUMNS
                .get(key_of(resource).as_str())
                .is_some_and(|columns| columns.len() != 2 || columns[1].name != "Created At");
            assert_eq!(named, matches!(resource.columns, Columns::BuiltIn(_)), "{resource:?}");
        }
    }

    /// Any JSON made of the names that printers read.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            "True|x|-1|1970-01-01T00:00:00Z|9999-12-31T23:59:59Z|-009999-01-02T01:59:59Z|é".prop_map(Value::from),
        ];
        let name = "conditions|type|status|reason|addresses|ports|port|metrics|spec|template|containers|restartCount|\
                    initContainerStatuses|containerStatuses|state|terminated|exitCode|lastState|finishedAt|startTime|hard|used|\
                    loadBalancer|ingress|rules|subsets|eventTime|series|selector|matchExpressions|values|resource|target";
        leaf.prop_recursive(5, 40, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((name, inner), 0..5).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_object_makes_a_printer_panic(metadata in any_json(), spec in any_json(), status in any_json(), now in any::<i32>()) {
            let object = json!({"metadata": metadata, "spec": spec, "status": status, "template": spec, "subsets": status, "rules": spec});
            let object = Object::from_value(object).unwrap();
            let now = Timestamp::from_second(i64::from(now)).unwrap();
            for resource in crate::catalog::Catalog::builtin().iter() {
                prop_assert!(!cells(resource, &object, now).is_empty());
            }
        }
    }
}
