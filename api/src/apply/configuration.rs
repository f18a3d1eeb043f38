//! Configurations that the server itself merges into an object, without owners: those of admission policies.

use serde_json::Value;

use super::merge::merge;
use super::shape::{Shape, elements, field_schema};
use super::validate::check;
use crate::field::Path;
use crate::object::Object;
use crate::schema::SchemaRef;

/// What nobody may change on the way to the store.
const IDENTITY: [&str; 3] = ["name", "namespace", "uid"];

/// Merges a configuration into an object as server-side apply does; it is taken for one of the object's kind. Values that
/// are owned as a whole cannot be merged, and are refused: what they held would be lost.
pub fn merge_configuration(live: &Object, mut configuration: Value, schema: SchemaRef<'_>) -> Result<Object, String> {
    let Value::Object(fields) = &mut configuration else { return Err(invalid("must be an object")) };
    for (name, value) in [("apiVersion", live.api_version()), ("kind", live.kind())] {
        fields.insert(name.to_owned(), value.into());
    }
    if let Some(why) = check(&configuration, schema) {
        return Err(format!("failed to convert patch object to typed object: {why}"));
    }
    let mut atomic = Vec::new();
    find_atomic(&configuration, Some(schema), &Path::default(), &mut atomic);
    if !atomic.is_empty() {
        return Err(invalid(&format!("may not mutate atomic arrays, maps or structs: {}", atomic.join(", "))));
    }
    let merged = merge(live.as_value(), &configuration, schema);
    let merged = Object::from_value(merged).ok_or_else(|| invalid("must be an object"))?;
    match IDENTITY.into_iter().find(|name| merged.text(&["metadata", name]) != live.text(&["metadata", name])) {
        Some(name) => Err(invalid(&format!("may not change metadata.{name}"))),
        None => Ok(merged),
    }
}

fn invalid(why: &str) -> String {
    format!("invalid ApplyConfiguration: {why}")
}

/// Where lists, maps and structs are that are owned as a whole.
fn find_atomic(value: &Value, schema: Option<SchemaRef<'_>>, path: &Path, found: &mut Vec<String>) {
    match (Shape::of(schema, value), value) {
        (Shape::Leaf, Value::Object(_) | Value::Array(_)) => found.push(format!(".{path}")),
        (Shape::Fields(schema), Value::Object(fields)) => {
            for (name, value) in fields {
                find_atomic(value, field_schema(schema, name), &path.child(name), found);
            }
        }
        (Shape::Elements { items, keys }, value) => {
            for (at, (_, all)) in elements(Some(value), items, keys).into_iter().enumerate() {
                all.into_iter().for_each(|one| find_atomic(one, items, &path.index(at), found));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::catalog::Catalog;

    fn merged(configuration: Value) -> Result<Value, String> {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "labels": {"a": "1"}},
            "spec": {"containers": [{"name": "c", "image": "one", "args": ["x"]}]},
        });
        let catalog = Catalog::builtin();
        let row = catalog.resource("", "v1", "pods").expect("a built-in resource");
        let live = Object::from_value(pod).expect("an object");
        merge_configuration(&live, configuration, row.schema()).map(Object::into_value)
    }

    #[test]
    fn maps_and_keyed_lists_merge() {
        let configuration = json!({
            "metadata": {"labels": {"b": "2"}},
            "spec": {"containers": [{"name": "c", "image": "two"}, {"name": "d", "image": "three"}]},
        });
        let merged = merged(configuration).expect("merges");
        assert_eq!(merged["metadata"]["labels"], json!({"a": "1", "b": "2"}));
        let containers = json!([{"name": "c", "image": "two", "args": ["x"]}, {"name": "d", "image": "three"}]);
        assert_eq!(merged["spec"]["containers"], containers);
    }

    #[test]
    fn what_is_owned_as_a_whole_and_who_the_object_is_stay() {
        let args = json!({"spec": {"containers": [{"name": "c", "args": ["y"]}]}});
        let why = "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.containers[0].args";
        assert_eq!(merged(args), Err(why.to_owned()));
        let why = "invalid ApplyConfiguration: may not change metadata.name";
        assert_eq!(merged(json!({"metadata": {"name": "other"}})), Err(why.to_owned()));
        assert_eq!(merged(json!({"kind": "Node"})).map(|it| it["kind"].clone()), Ok(json!("Pod")));
    }

    #[test]
    fn what_does_not_fit_the_kind_is_refused() {
        let why = "failed to convert patch object to typed object: .spec.none: field not declared in schema";
        assert_eq!(merged(json!({"spec": {"none": "x"}})), Err(why.to_owned()));
    }
}
