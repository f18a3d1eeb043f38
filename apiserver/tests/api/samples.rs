//! A small valid object of every resource, read from `minimal_objects.yaml`.

use api::Resource;
use api::codec::yaml;
use serde_json::Value;

const OBJECTS: &str = include_str!("minimal_objects.yaml");

/// A valid object of the resource, without a namespace; its name is made of `name`. It may carry a `status`.
///
/// # Panics
/// When the file has none for the row: a new resource needs a sample.
pub(crate) fn sample(row: &Resource, name: &str) -> Value {
    // Small, and different for different names of a test.
    let number = name.bytes().fold(7_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
    let text = OBJECTS.replace("$NAME", name).replace("$NUMBER", &number.to_string());
    let documents = text.split("\n---\n").map(|document| yaml::parse(document.as_bytes()).unwrap().0.into_value());
    let mut wanted =
        documents.filter(|object| object["apiVersion"] == row.api_version() && object["kind"] == *row.kind);
    let mut object = wanted.next().unwrap_or_else(|| panic!("minimal_objects.yaml has no {row:?}"));
    assert!(wanted.next().is_none(), "minimal_objects.yaml has two of {row:?}");
    object["metadata"]["labels"] = serde_json::json!({"contract": "1"});
    object
}
