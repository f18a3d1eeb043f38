//! Objects in the form in which they compare: as their typed form would print them. In it "absent" and "empty" are what
//! they are in the reference, where an empty object already has its plain structs, and these are never "added".

use serde_json::Value;

use crate::codec::canonicalize;
use crate::object::Object;
use crate::schema::{Presence, SchemaRef};

/// The value in canonical form. Values of CRDs stay as they are.
pub(super) fn typed(value: Value, schema: SchemaRef<'_>) -> Value {
    let mut object = Object::from_value(value).unwrap_or_default();
    canonicalize(&mut object, schema);
    object.into_value()
}

/// The value without fields of null, which are the same as absent unless a CRD says that they are not.
pub(super) fn without_nulls(value: Value, schema: Option<SchemaRef<'_>>) -> Value {
    match (schema, value) {
        (Some(schema), Value::Object(fields)) => {
            let kept = fields.into_iter().filter_map(|(name, value)| {
                let field = schema.field(&name);
                let drops =
                    field.is_some_and(|field| field.node().presence != Presence::AsGiven || !field.node().nullable);
                (!(value.is_null() && drops)).then(|| (name, without_nulls(value, field)))
            });
            Value::Object(kept.collect())
        }
        (Some(schema), Value::Array(list)) => {
            list.into_iter().map(|item| without_nulls(item, schema.items())).collect::<Vec<_>>().into()
        }
        (_, value) => value,
    }
}
