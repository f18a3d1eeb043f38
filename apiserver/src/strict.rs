//! Fields that a configuration file must not have, named as upstream's strict decoder names them, and how all that is
//! wrong with a file is told.

use api::field::FieldError;
use serde_json::Value;

/// What a part of a file may look like.
pub(crate) enum Shape {
    /// Anything: what is wrong with it is found when it is read.
    Any,
    List(&'static Shape),
    /// An object with these fields.
    Fields(&'static [(&'static str, Shape)]),
}

/// Refuses a tree with fields that the shape does not have; the error names all of them.
pub(crate) fn check(tree: &Value, shape: &Shape) -> Result<(), String> {
    let mut unknown = Vec::new();
    walk(tree, shape, "", &mut unknown);
    if unknown.is_empty() {
        return Ok(());
    }
    let named: Vec<String> = unknown.iter().map(|path| format!("unknown field {path:?}")).collect();
    Err(format!("strict decoding error: {}", named.join(", ")))
}

/// All that is wrong with a file, as upstream tells it.
pub(crate) fn together(errors: &[FieldError]) -> String {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    if let [one] = texts.as_slice() { one.clone() } else { format!("[{}]", texts.join(", ")) }
}

fn walk(tree: &Value, shape: &Shape, path: &str, unknown: &mut Vec<String>) {
    match (shape, tree) {
        (Shape::List(item), Value::Array(list)) => {
            for (at, value) in list.iter().enumerate() {
                walk(value, item, &format!("{path}[{at}]"), unknown);
            }
        }
        (Shape::Fields(fields), Value::Object(map)) => {
            for (name, value) in map {
                let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match fields.iter().find(|(known, _)| known == name) {
                    Some((_, shape)) => walk(value, shape, &below, unknown),
                    None => unknown.push(below),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_unknown_field_is_named_with_its_path() {
        const SHAPE: Shape = Shape::Fields(&[("a", Shape::List(&Shape::Fields(&[("b", Shape::Any)])))]);
        assert_eq!(check(&json!({"a": [{"b": {"anything": 1}}]}), &SHAPE), Ok(()));
        let err = check(&json!({"a": [{}, {"c": 1}], "A": 2}), &SHAPE).unwrap_err();
        assert_eq!(err, r#"strict decoding error: unknown field "A", unknown field "a[1].c""#);
    }
}
