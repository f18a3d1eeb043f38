//! JSON as values: by its schema where one is known, else as it stands.

use std::sync::Arc;

use super::{List, Map, Text, Value};
use crate::decl::{Decl, Kind};
use crate::error::Error;
use crate::{base64, time};

impl<'a> Value<'a> {
    /// A value that lies in JSON, of the type that `decl` gives it.
    pub fn read(value: &'a serde_json::Value, decl: &'a Decl) -> Result<Self, Error> {
        use serde_json::Value as Json;
        match (&decl.kind, value) {
            (Kind::Any, _) => Ok(untyped(value)),
            (_, Json::Null) if decl.nullable => Ok(Self::Null),
            (_, Json::Null) => Err(Error::new("invalid data, got null for schema with nullable=false")),
            (Kind::Bool, Json::Bool(it)) => Ok(Self::Bool(*it)),
            (Kind::Int, Json::Number(_)) => integer(value).map(Self::Int).ok_or_else(|| mismatch("int", value)),
            (Kind::Double, Json::Number(it)) => it.as_f64().map(Self::Double).ok_or_else(|| mismatch("float", value)),
            (Kind::IntOrString, Json::Number(_)) if integer(value).is_some() => Ok(untyped(value)),
            (Kind::IntOrString | Kind::String, Json::String(it)) => Ok(Self::String(Text::Borrowed(it))),
            (Kind::Bytes | Kind::Timestamp | Kind::Date | Kind::Duration, Json::String(it)) => {
                formatted(it, &decl.kind)
            }
            (Kind::List { .. }, Json::Array(it)) => Ok(Self::List(List::Json(it, decl))),
            (Kind::Map(_) | Kind::Object(_), Json::Object(it)) => Ok(Self::Map(Map::Json(it, decl))),
            (Kind::IntOrString, _) => {
                Err(Error::new("invalid data, expected XIntOrString value to be either a string or integer"))
            }
            (Kind::Bool, _) => Err(mismatch("bool", value)),
            (Kind::Int, _) => Err(mismatch("int", value)),
            (Kind::Double, _) => Err(mismatch("float", value)),
            (Kind::List { .. }, _) => {
                Err(Error::new("invalid data, expected an array for the provided schema with type=array"))
            }
            (Kind::Map(_) | Kind::Object(_), _) => {
                Err(Error::new("invalid data, expected a map for the provided schema with type=object"))
            }
            _ => Err(mismatch("string", value)),
        }
    }

    /// The value as JSON; fails for what JSON cannot hold.
    pub fn to_json(&self) -> Result<serde_json::Value, Error> {
        use serde_json::Value as Json;
        Ok(match self {
            Self::Null => Json::Null,
            Self::Bool(it) => Json::from(*it),
            Self::Int(it) => Json::from(*it),
            Self::Uint(it) => Json::from(*it),
            Self::Double(it) => Json::from(*it),
            Self::String(it) => Json::from(&**it),
            Self::Bytes(it) => Json::from(base64::encode(it)),
            Self::Timestamp(it) => Json::from(time::show_timestamp(*it)),
            Self::Duration(it) => Json::from(time::show_duration(*it)),
            Self::List(it) => it.iter().map(|item| item?.to_json()).collect::<Result<Vec<_>, _>>().map(Json::Array)?,
            Self::Map(it) => Json::Object(it.to_json()?),
            Self::Optional(Some(it)) => it.to_json()?,
            Self::Optional(None) => Json::Null,
            Self::Type(_) | Self::Opaque(_) => {
                return Err(Error::new(format!("unsupported conversion of {} to JSON", self.type_())));
            }
        })
    }
}

fn untyped(value: &serde_json::Value) -> Value<'_> {
    use serde_json::Value as Json;
    match value {
        Json::Null => Value::Null,
        Json::Bool(it) => Value::Bool(*it),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(it), _) => Value::Int(it),
            (None, Some(it)) => Value::Uint(it),
            (None, None) => Value::Double(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(it) => Value::String(Text::Borrowed(it)),
        Json::Array(it) => Value::List(List::Json(it, Decl::any())),
        Json::Object(it) => Value::Map(Map::Json(it, Decl::any())),
    }
}

fn integer(value: &serde_json::Value) -> Option<i64> {
    // Fractions of zero are whole: `1.0` is what YAML makes of some integers.
    let whole = |number: f64| (number.fract() == 0.0 && number.abs() < 9.2e18).then_some(number as i64);
    value.as_i64().or_else(|| value.as_f64().and_then(whole))
}

fn formatted<'a>(text: &str, kind: &Kind) -> Result<Value<'a>, Error> {
    match kind {
        Kind::Bytes => base64::decode(text)
            .map(|bytes| Value::Bytes(Arc::from(bytes)))
            .map_err(|err| Error::new(format!("Invalid byte formatted string {text}: {err}"))),
        Kind::Date => time::parse_date(text)
            .map(Value::Timestamp)
            .ok_or_else(|| Error::new(format!("Invalid date formatted string {text}"))),
        Kind::Timestamp => time::parse_timestamp(text)
            .map(Value::Timestamp)
            .ok_or_else(|| Error::new(format!("Invalid date-time formatted string {text}"))),
        _ => time::parse_duration(text)
            .map(Value::Duration)
            .ok_or_else(|| Error::new(format!("Invalid duration {text}"))),
    }
}

fn mismatch(wanted: &str, value: &serde_json::Value) -> Error {
    let found = match value {
        serde_json::Value::Null => "<nil>",
        serde_json::Value::Bool(_) => "bool",
        serde_json::Value::Number(number) if number.is_f64() => "float64",
        serde_json::Value::Number(_) => "int64",
        serde_json::Value::String(_) => "string",
        serde_json::Value::Array(_) => "[]interface {}",
        serde_json::Value::Object(_) => "map[string]interface {}",
    };
    Error::new(format!("invalid data, expected {wanted}, got {found}"))
}
