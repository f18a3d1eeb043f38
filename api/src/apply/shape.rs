//! How a value is owned: as a whole, field by field, or element by element. The schema says so; where it says nothing,
//! maps are owned by field and lists as a whole.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::set::{Step, scalar};
use crate::schema::builtin::builtin;
use crate::schema::{ListType, Presence, SchemaRef, Type};

/// How a value is owned.
#[derive(Clone, Copy)]
pub(super) enum Shape<'a> {
    /// Scalars, atomic lists and atomic maps.
    Leaf,
    /// Structs and maps.
    Fields(Option<SchemaRef<'a>>),
    /// Lists whose elements are told apart by keys, or by themselves when there are none.
    Elements { items: Option<SchemaRef<'a>>, keys: &'a [String] },
}

impl<'a> Shape<'a> {
    /// The shape of a value of this schema.
    pub(super) fn of(schema: Option<SchemaRef<'a>>, value: &Value) -> Self {
        match value {
            Value::Object(_) => Self::of_object(schema),
            Value::Array(_) => Self::of_list(schema),
            Value::Null => match schema.map(|schema| schema.node().type_) {
                Some(Type::Object) => Self::of_object(schema),
                Some(Type::Array) => Self::of_list(schema),
                _ => Self::Leaf,
            },
            _ => Self::Leaf,
        }
    }

    /// The shape of two values that are compared or merged.
    pub(super) fn of_both(schema: Option<SchemaRef<'a>>, left: Option<&Value>, right: Option<&Value>) -> Self {
        let (left, right) = (left.unwrap_or(&Value::Null), right.unwrap_or(&Value::Null));
        let differ =
            !left.is_null() && !right.is_null() && std::mem::discriminant(left) != std::mem::discriminant(right);
        if differ || (is_hollow(left) && is_hollow(right)) {
            return Self::Leaf;
        }
        Self::of(schema, if right.is_null() { left } else { right })
    }

    fn of_object(schema: Option<SchemaRef<'a>>) -> Self {
        match schema {
            Some(schema) if schema.node().atomic_map || is_opaque(schema) => Self::Leaf,
            Some(schema) if matches!(schema.node().type_, Type::Object) => Self::Fields(Some(schema)),
            _ => Self::Fields(None),
        }
    }

    fn of_list(schema: Option<SchemaRef<'a>>) -> Self {
        let Some(schema) = schema else { return Self::Leaf };
        let items = schema.items();
        match &schema.node().list_type {
            ListType::Atomic => Self::Leaf,
            ListType::Set => Self::Elements { items, keys: &[] },
            ListType::Map(keys) => Self::Elements { items, keys },
        }
    }
}

/// Whether a built-in schema does not say what is in an object (`RawExtension`).
fn is_opaque(schema: SchemaRef<'_>) -> bool {
    let node = schema.node();
    node.presence != Presence::AsGiven && node.properties.is_empty() && node.additional.is_none()
}

/// Whether there is nothing in the value that could be owned apart from it.
fn is_hollow(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// The step to an element. A key that it lacks has its default, or is no part of the step; an error when no key is left.
pub(super) fn element_step(element: &Value, items: Option<SchemaRef<'_>>, keys: &[String]) -> Result<Step, String> {
    if keys.is_empty() {
        return Ok(Step::Value(scalar(element)));
    }
    let Value::Object(fields) = element else {
        return Err("associative list with keys may not have non-map elements".to_owned());
    };
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let default = || items?.field(key).and_then(default_of);
        let given = fields.get(key).filter(|value| !value.is_null()).map(Cow::Borrowed);
        if let Some(value) = given.or_else(default) {
            found.push((key.clone(), scalar(&value)));
        }
    }
    if found.is_empty() {
        let keys: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for \
             any key fields)",
            keys.join(" ")
        ));
    }
    Ok(Step::key(found))
}

/// The default of a key: the declared one, or the zero of a built-in field that is always printed, which Go cannot tell
/// from an absent one.
fn default_of(schema: SchemaRef<'_>) -> Option<Cow<'_, Value>> {
    let node = schema.node();
    match (&node.default, node.presence, node.type_) {
        (Some(default), ..) => Some(Cow::Borrowed(default)),
        (None, Presence::Always, Type::String) => Some(Cow::Owned("".into())),
        (None, Presence::Always, Type::Integer) => Some(Cow::Owned(0.into())),
        (None, Presence::Always, Type::Boolean) => Some(Cow::Owned(false.into())),
        _ => None,
    }
}

/// The elements of a list by their steps, in the order of the steps. Elements without their keys are left out: they were
/// refused where that matters.
pub(super) fn sorted_elements<'v>(
    list: Option<&'v Value>,
    items: Option<SchemaRef<'_>>,
    keys: &[String],
) -> Vec<(Step, Vec<&'v Value>)> {
    let list = list.and_then(Value::as_array).into_iter().flatten();
    let mut found: Vec<(Step, Vec<&Value>)> =
        list.filter_map(|element| Some((element_step(element, items, keys).ok()?, vec![element]))).collect();
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    found.dedup_by(|(later, theirs), (step, ours)| {
        later == step && {
            ours.append(theirs);
            true
        }
    });
    found
}

/// The elements of a list by their steps, in order of first occurrence.
pub(super) fn elements<'v>(
    list: Option<&'v Value>,
    items: Option<SchemaRef<'_>>,
    keys: &[String],
) -> Vec<(Step, Vec<&'v Value>)> {
    let mut found = sorted_elements(list, items, keys);
    // Where an element lies in memory is where it stands in the list.
    found.sort_by_key(|(_, elements)| std::ptr::from_ref(elements[0]));
    found
}

/// The step to a field, and its schema; `None` where fields are free.
pub(super) fn field_step<'a>(schema: Option<SchemaRef<'a>>, name: &str) -> (Step, Option<SchemaRef<'a>>) {
    let declared = schema.and_then(|schema| schema.node().properties.name(name));
    let step = Step::Field(declared.cloned().unwrap_or_else(|| name.to_owned().into()));
    (step, field_schema(schema, name))
}

/// The schema of a field; `None` where fields are free.
pub(super) fn field_schema<'a>(schema: Option<SchemaRef<'a>>, name: &str) -> Option<SchemaRef<'a>> {
    let schema = schema?;
    let field = schema.field(name);
    let bare = field.is_none_or(|field| field.node().properties.is_empty());
    if name == "metadata" && bare && is_custom_object(schema) { object_meta() } else { field }
}

/// Whether this is the schema of a whole custom object. What its author says of `metadata` is not all there is to it.
fn is_custom_object(schema: SchemaRef<'_>) -> bool {
    let node = schema.node();
    let typed = node.properties.contains_key("apiVersion") && node.properties.contains_key("kind");
    node.presence == Presence::AsGiven && (node.embedded_resource || typed)
}

fn object_meta() -> Option<SchemaRef<'static>> {
    let definition = builtin().definition("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")?;
    Some(builtin().schemas().at(definition.id))
}

/// Whether the field is declared by name, not just as any entry of a map.
pub(super) fn is_declared(schema: Option<SchemaRef<'_>>, name: &str) -> bool {
    schema.is_some_and(|schema| schema.node().properties.contains_key(name))
}

/// The fields of a map, none for other values.
pub(super) fn fields_of(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}
