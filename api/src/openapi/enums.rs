//! The values of fields that have few: `kubectl explain` shows them. The published documents, of which all else here is
//! made, leave them out, and servers do not (feature OpenAPIEnums); the table follows the types that upstream marks
//! `+enum`.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde_json::{Map, Value};

/// A line for each type: its name and values. Indented below it the fields of that type, or of lists or maps of it.
const TABLE: &str = include_str!("../../data/enums.txt");

type Fields = HashMap<&'static str, &'static str>;

/// The values that a field of a built-in definition has, where they are few; none for other fields.
pub fn values_of(definition: &str, field: &str) -> Vec<String> {
    let values = fields().get(format!("{definition}.{field}").as_str());
    values.and_then(|values| serde_json::from_str(values).ok()).unwrap_or_default()
}

/// Adds the values of a field to its schema, or to that of its elements.
pub(super) fn add(definition: &str, field: &str, schema: &mut Map<String, Value>) {
    let values = values_of(definition, field);
    if values.is_empty() {
        return;
    }
    let values = Value::from(values);
    let inner = ["items", "additionalProperties"].into_iter().find(|name| schema.contains_key(*name));
    match inner.and_then(|name| schema.get_mut(name)) {
        Some(elements) => elements["enum"] = values,
        None => {
            schema.insert("enum".into(), values);
        }
    }
}

fn fields() -> &'static Fields {
    static FIELDS: OnceLock<Fields> = OnceLock::new();
    FIELDS.get_or_init(|| {
        let mut fields = HashMap::new();
        let mut values = "";
        for line in TABLE.lines() {
            match line.strip_prefix(' ') {
                Some(field) => {
                    fields.insert(field, values);
                }
                None => values = line.split_once(' ').map_or("", |(_, values)| values),
            }
        }
        fields
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Type;
    use crate::schema::builtin::builtin;

    #[test]
    fn every_field_of_the_table_is_a_string_or_holds_strings() {
        for field in fields().keys() {
            let (definition, name) = field.rsplit_once('.').expect("a definition and a field");
            let known = builtin().definition(definition).unwrap_or_else(|| panic!("{definition}"));
            let schema = builtin().schemas().at(known.id).field(name).unwrap_or_else(|| panic!("{field}"));
            let schema = schema.items().or(schema.values()).unwrap_or(schema);
            assert_eq!(schema.node().type_, Type::String, "{field}");
            let values: Vec<String> = serde_json::from_str(fields()[field]).expect("a list of strings");
            assert!(values.is_sorted() && values.len() > 1, "{field}: {values:?}");
        }
    }

    #[test]
    fn values_stand_at_the_field_or_at_the_elements_of_its_list() {
        let mut policy = Map::from_iter([("type".to_owned(), "string".into())]);
        add("io.k8s.api.core.v1.Container", "imagePullPolicy", &mut policy);
        assert_eq!(policy["enum"], serde_json::json!(["Always", "IfNotPresent", "Never"]));
        let items = serde_json::json!({"type": "string"});
        let mut modes = Map::from_iter([("items".to_owned(), items)]);
        add("io.k8s.api.core.v1.PersistentVolumeSpec", "accessModes", &mut modes);
        assert_eq!(modes["items"]["enum"].as_array().map(Vec::len), Some(4));
        assert!(modes.get("enum").is_none());
    }
}
