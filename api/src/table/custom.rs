//! Tables of custom resources: `additionalPrinterColumns`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::cell::{ago, plain, text};
use super::{Column, known_columns};
use crate::jsonpath::JsonPath;
use crate::object::Object;
use crate::resource::Text;

const AGE: &str = ".metadata.creationTimestamp";

/// The columns of a CRD as its author wrote them, after the name. None at all means the age.
pub(crate) fn columns(written: &Value) -> Vec<Column> {
    let standard = known_columns("apps/deployments").unwrap_or_default();
    let description = |name: &str| {
        let column = standard.iter().find(|column| column.name == name);
        column.map_or(Text::Borrowed(""), |column| column.description.clone())
    };
    let name = Column {
        name: "Name".into(),
        type_: "string".into(),
        format: "name".into(),
        description: description("Name"),
        priority: 0,
    };
    let own = written.as_array().map(Vec::as_slice).unwrap_or_default();
    if own.is_empty() {
        let age = Column {
            name: "Age".into(),
            type_: "date".into(),
            format: "".into(),
            description: description("Age"),
            priority: 0,
        };
        return vec![name, age];
    }
    let own = own.iter().map(|column| {
        let described = match text(column, "description") {
            "" => format!("Custom resource definition column (in JSONPath format): {}", text(column, "jsonPath")),
            given => given.to_owned(),
        };
        Column {
            name: text(column, "name").to_owned().into(),
            type_: text(column, "type").to_owned().into(),
            format: text(column, "format").to_owned().into(),
            description: described.into(),
            priority: column.get("priority").and_then(Value::as_i64).unwrap_or(0),
        }
    });
    std::iter::once(name).chain(own).collect()
}

/// The cells of a custom object. What is not there, or is of another type than its column, is null.
pub(crate) fn cells(written: &Value, object: &Object, now: Timestamp) -> Vec<Value> {
    let name = std::iter::once(Value::from(object.name()));
    let own = written.as_array().map(Vec::as_slice).unwrap_or_default();
    if own.is_empty() {
        return name.chain([cell("date", AGE, object, now)]).collect();
    }
    name.chain(own.iter().map(|column| cell(text(column, "type"), text(column, "jsonPath"), object, now))).collect()
}

fn cell(type_: &str, path: &str, object: &Object, now: Timestamp) -> Value {
    let Ok(path) = JsonPath::parse(path) else { return Value::Null };
    // Most paths name a field, which needs no copy of the object.
    let found = match path.fields() {
        Some(fields) => object.get(&fields).cloned(),
        None => path.find(object.as_value()).first().map(|found| (*found).clone()),
    };
    let Some(found) = found.filter(|found| !found.is_null()) else { return Value::Null };
    match (type_, &found) {
        ("string", _) => plain(Some(&found)).into(),
        ("integer", Value::Number(number)) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => integer.into(),
            #[expect(clippy::cast_possible_truncation, reason = "the reference truncates, too")]
            (None, Some(float)) => (float as i64).into(),
            _ => Value::Null,
        },
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => found,
        ("date", Value::String(_)) => ago(Some(&found), now).map_or(json!("<invalid>"), Value::from),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_follow_the_types_of_their_columns() {
        let written = json!([
            {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
            {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
            {"name": "List", "type": "string", "jsonPath": ".spec.list"},
            {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
            {"name": "Wrong", "type": "integer", "jsonPath": ".spec.list"},
            {"name": "When", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ]);
        let object = Object::from_value(json!({
            "metadata": {"name": "a", "creationTimestamp": "1970-01-01T00:00:00Z"},
            "spec": {"size": 5, "list": ["x"]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .unwrap();
        let now = Timestamp::from_second(90).unwrap();
        assert_eq!(Value::from(cells(&written, &object, now)), json!(["a", 5, null, "[\"x\"]", "True", null, "90s"]));
        assert_eq!(columns(&written).len(), 7);
        assert_eq!(columns(&json!([])).iter().map(|column| column.name.as_ref()).collect::<Vec<_>>(), ["Name", "Age"]);
    }
}
