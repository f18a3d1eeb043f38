//! Values that may be missing (cel-go: `OptionalTypes`).

use crate::error::Error;
use crate::function::Library;
use crate::types::Type;
use crate::value::Value;

pub(super) fn library() -> Library {
    Library::new()
        .type_("optional_type", Type::optional(Type::Dyn))
        .operator("_[?_]", "optional_list_optindex_optional_int: (list(A), int): optional(A)")
        .operator("_[?_]", "optional_map_optindex_optional_value: (map(A, B), A): optional(B)")
        .operator("_[?_]", "list_optindex_optional_int: (optional(list(A)), int): optional(A)")
        .operator("_[?_]", "map_optindex_optional_value: (optional(map(A, B)), A): optional(B)")
        .operator("_[_]", "optional_list_index_int: (optional(list(A)), int): optional(A)")
        .operator("_[_]", "optional_map_index_value: (optional(map(A, B)), A): optional(B)")
        .function("optional_of: optional.of(A): optional(A)", |args| match args {
            [value] => Ok(Value::some(value.clone())),
            _ => Err(Error::no_overload()),
        })
        .function("optional_none: optional.none(): optional(A)", |_| Ok(Value::Optional(None)))
        .function("optional_ofNonZeroValue: optional.ofNonZeroValue(A): optional(A)", |args| match args {
            [value] if is_zero(value) => Ok(Value::Optional(None)),
            [value] => Ok(Value::some(value.clone())),
            _ => Err(Error::no_overload()),
        })
        .function("optional_hasValue: optional(A).hasValue(): bool", |args| match args {
            [Value::Optional(inner)] => Ok(Value::Bool(inner.is_some())),
            _ => Err(Error::no_overload()),
        })
        .function("optional_value: optional(A).value(): A", |args| match args {
            [Value::Optional(Some(inner))] => Ok((**inner).clone()),
            [Value::Optional(None)] => Err(Error::new("optional.none() dereference")),
            _ => Err(Error::no_overload()),
        })
        // The evaluator looks at the other value only when it is needed.
        .function("optional_or_optional: optional(A).or(optional(A)): optional(A)", |_| Err(Error::no_overload()))
        .function("optional_orValue_value: optional(A).orValue(A): A", |_| Err(Error::no_overload()))
        .function("optional_unwrap: list(optional(A)).unwrapOpt(): list(A)", unwrap)
        .function("optional_unwrapOpt: optional.unwrap(list(optional(A))): list(A)", unwrap)
}

fn unwrap<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let [Value::List(list)] = args else { return Err(Error::no_overload()) };
    let mut out = Vec::new();
    for item in list.iter() {
        match item? {
            Value::Optional(inner) => out.extend(inner.map(|inner| *inner)),
            _ => return Err(Error::no_overload()),
        }
    }
    Ok(Value::list(out))
}

fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null | Value::Optional(None) => true,
        Value::Bool(it) => !it,
        Value::Int(it) | Value::Duration(it) => *it == 0,
        Value::Uint(it) => *it == 0,
        Value::Double(it) => *it == 0.0,
        Value::String(it) => it.is_empty(),
        Value::Bytes(it) => it.is_empty(),
        Value::List(it) => it.is_empty(),
        Value::Map(it) => it.is_empty(),
        Value::Timestamp(_) | Value::Type(_) | Value::Optional(Some(_)) | Value::Opaque(_) => false,
    }
}
