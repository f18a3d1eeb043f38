//! Maps and objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Text, Value};
use crate::Name;
use crate::decl::{Decl, Kind};
use crate::error::Error;
use crate::escape::escape;

/// A map or an object.
#[derive(Clone, Debug)]
pub enum Map<'a> {
    /// An object of JSON, and what its schema says of it.
    Json(&'a serde_json::Map<String, serde_json::Value>, &'a Decl),
    Own(Arc<Entries<'a>>),
    /// Values by name, some of which could not be worked out.
    Fields(Arc<BTreeMap<String, Result<Value<'a>, Error>>>),
    /// An object of a type that expressions can build.
    Struct(Name, Arc<BTreeMap<String, Value<'a>>>),
}

/// The entries of a map in the order in which they were put there.
#[derive(Clone, Debug, Default)]
pub struct Entries<'a> {
    entries: Vec<(Value<'a>, Value<'a>)>,
    index: BTreeMap<Key, usize>,
}

/// A key of a map; numbers are keys by what they count.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Bool(bool),
    Number(i128),
    String(String),
}

impl Key {
    /// The key that a value is; `None` when it cannot be one.
    pub(crate) fn of(value: &Value<'_>) -> Option<Self> {
        match value {
            Value::Bool(it) => Some(Self::Bool(*it)),
            Value::Int(it) => Some(Self::Number(i128::from(*it))),
            Value::Uint(it) => Some(Self::Number(i128::from(*it))),
            Value::Double(it) if it.fract() == 0.0 && it.abs() < 2e19 => Some(Self::Number(*it as i128)),
            Value::String(it) => Some(Self::String(it.to_string())),
            _ => None,
        }
    }
}

impl<'a> Entries<'a> {
    /// Adds an entry; `false` when the key is there already, an error when it cannot be one.
    pub(crate) fn insert(&mut self, key: Value<'a>, value: Value<'a>) -> Result<bool, Error> {
        let found = Key::of(&key).filter(|_| !matches!(key, Value::Double(_)));
        let Some(found) = found else {
            return Err(Error::new(format!("unsupported key type: {}", key.type_())));
        };
        if self.index.contains_key(&found) {
            return Ok(false);
        }
        self.index.insert(found, self.entries.len());
        self.entries.push((key, value));
        Ok(true)
    }
}

impl<'a> Map<'a> {
    /// Values by name, each worked out or not.
    pub fn fields(fields: impl IntoIterator<Item = (String, Result<Value<'a>, Error>)>) -> Self {
        Self::Fields(Arc::new(fields.into_iter().collect()))
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Json(fields, decl) if matches!(decl.kind, Kind::Object(_)) => {
                fields.keys().filter(|name| visible(name, decl).is_some()).count()
            }
            Self::Json(fields, _) => fields.len(),
            Self::Own(map) => map.entries.len(),
            Self::Fields(fields) => fields.len(),
            Self::Struct(_, fields) => fields.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name of the type that the object was built as.
    pub(crate) fn struct_name(&self) -> Option<&str> {
        match self {
            Self::Struct(name, _) => Some(name),
            _ => None,
        }
    }

    /// The entry under a key.
    pub fn get(&self, key: &Value<'_>) -> Option<Result<Value<'a>, Error>> {
        match self {
            Self::Own(map) => {
                let at = map.index.get(&Key::of(key)?)?;
                map.entries.get(*at).map(|(_, value)| Ok(value.clone()))
            }
            _ => self.field(key.as_str()?),
        }
    }

    /// The entry or field of that name, as expressions name it.
    pub fn field(&self, name: &str) -> Option<Result<Value<'a>, Error>> {
        match self {
            Self::Json(fields, decl) => match &decl.kind {
                Kind::Object(object) => {
                    let field = object.field(name)?;
                    let value = fields.get(&field.name)?;
                    // An absent value and a null that the schema does not know are the same.
                    (!value.is_null() || field.decl.nullable).then(|| Value::read(value, &field.decl))
                }
                Kind::Map(values) => fields.get(name).map(|value| Value::read(value, values)),
                _ => fields.get(name).map(|value| Value::read(value, Decl::any())),
            },
            Self::Own(_) => self.get(&Value::String(Text::Shared(name.into()))),
            Self::Fields(fields) => fields.get(name).cloned(),
            Self::Struct(_, fields) => fields.get(name).cloned().map(Ok),
        }
    }

    /// All keys.
    pub fn keys(&self) -> Vec<Value<'a>> {
        match self {
            Self::Json(fields, decl) => {
                let fields: &'a serde_json::Map<_, _> = fields;
                match &decl.kind {
                    Kind::Object(_) => {
                        let names = fields.keys().filter_map(|name| visible(name, decl));
                        names.map(|name| Value::text(name.into_owned())).collect()
                    }
                    _ => fields.keys().map(|name| Value::String(Text::Borrowed(name))).collect(),
                }
            }
            Self::Own(map) => map.entries.iter().map(|(key, _)| key.clone()).collect(),
            Self::Fields(fields) => fields.keys().map(Value::text).collect(),
            Self::Struct(_, fields) => fields.keys().map(Value::text).collect(),
        }
    }

    /// With one more entry; nothing is copied when nobody else holds the map.
    pub(crate) fn with(self, key: Value<'a>, value: Value<'a>) -> Result<Self, Error> {
        let mut entries = match self {
            Self::Own(entries) => entries,
            other => {
                let mut entries = Entries::default();
                for key in other.keys() {
                    if let Some(value) = other.get(&key) {
                        entries.insert(key, value?)?;
                    }
                }
                Arc::new(entries)
            }
        };
        let shown = Key::of(&key);
        if Arc::make_mut(&mut entries).insert(key, value)? {
            return Ok(Self::Own(entries));
        }
        let shown = match shown {
            Some(Key::String(text)) => text,
            Some(Key::Number(number)) => number.to_string(),
            Some(Key::Bool(it)) => it.to_string(),
            None => String::new(),
        };
        Err(Error::new(format!("insert failed: key {shown} already exists")))
    }

    pub(super) fn to_json(&self) -> Result<serde_json::Map<String, serde_json::Value>, Error> {
        let mut out = serde_json::Map::new();
        for key in self.keys() {
            let name = key.as_str().ok_or_else(|| Error::new("keys of JSON objects must be strings"))?;
            if let Some(value) = self.get(&key) {
                out.insert(name.to_owned(), value?.to_json()?);
            }
        }
        Ok(out)
    }
}

/// The name by which expressions see the property, if they do.
fn visible<'n>(name: &'n str, decl: &Decl) -> Option<std::borrow::Cow<'n, str>> {
    let Kind::Object(object) = &decl.kind else { return None };
    escape(name).filter(|name| object.fields.contains_key(name.as_ref()))
}
