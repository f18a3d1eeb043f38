//! Values (cel-go: `ref.Val`). Those of JSON are read where they lie, when they are looked at.

mod equal;
mod json;
mod map;

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use crate::ast::Literal;
use crate::decl::{Decl, Kind};
use crate::error::Error;
use crate::types::Type;

pub(crate) use equal::{compare, equal, same_keys};
pub use map::Map;
pub(crate) use map::{Entries, Key};

/// A value. `'a` is how long the JSON lives that it may lie in.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'a>),
    Bytes(Arc<[u8]>),
    Timestamp(Timestamp),
    /// Nanoseconds.
    Duration(i64),
    List(List<'a>),
    Map(Map<'a>),
    Type(Arc<Type>),
    Optional(Option<Box<Value<'a>>>),
    /// A value of a type that a library brings along.
    Opaque(Arc<dyn Opaque>),
}

/// A value of a type that a library brings along.
pub trait Opaque: Any + fmt::Debug + Send + Sync {
    /// The name of its type.
    fn type_name(&self) -> &str;

    /// Whether it equals another value of a library.
    fn equals(&self, other: &dyn Opaque) -> bool;

    /// What its `size` is for the cost of functions.
    fn size(&self) -> u64 {
        1
    }
}

impl dyn Opaque {
    /// The value as what it is.
    pub fn downcast<T: Opaque>(&self) -> Option<&T> {
        let any: &dyn Any = self;
        any.downcast_ref()
    }
}

/// A text, borrowed or shared.
#[derive(Clone, Debug)]
pub enum Text<'a> {
    Borrowed(&'a str),
    Shared(Arc<str>),
}

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl From<String> for Text<'_> {
    fn from(text: String) -> Self {
        Self::Shared(text.into())
    }
}

/// A list.
#[derive(Clone, Debug)]
pub enum List<'a> {
    /// A list of JSON, and what its schema says of it.
    Json(&'a [serde_json::Value], &'a Decl),
    Own(Arc<Vec<Value<'a>>>),
}

impl<'a> List<'a> {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Json(items, _) => items.len(),
            Self::Own(items) => items.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element at `index`, if the list is that long.
    pub fn get(&self, index: usize) -> Option<Result<Value<'a>, Error>> {
        match self {
            Self::Json(items, decl) => items.get(index).map(|item| Value::read(item, items_of(decl))),
            Self::Own(items) => items.get(index).cloned().map(Ok),
        }
    }

    /// All elements.
    pub fn iter(&self) -> impl Iterator<Item = Result<Value<'a>, Error>> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// All elements, or the first that cannot be read.
    pub fn to_vec(&self) -> Result<Vec<Value<'a>>, Error> {
        self.iter().collect()
    }

    /// One list after the other; `self` is not copied when nobody else holds it.
    pub(crate) fn concat(self, other: &Self) -> Result<Self, Error> {
        let mut items = match self {
            Self::Own(items) => items,
            json @ Self::Json(..) => Arc::new(json.to_vec()?),
        };
        Arc::make_mut(&mut items).extend(other.to_vec()?);
        Ok(Self::Own(items))
    }
}

fn items_of(decl: &Decl) -> &Decl {
    match &decl.kind {
        Kind::List { items, .. } => items,
        _ => Decl::any(),
    }
}

impl<'a> Value<'a> {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::String(Text::from(text.into()))
    }

    /// A list.
    pub fn list(items: Vec<Self>) -> Self {
        Self::List(List::Own(Arc::new(items)))
    }

    /// A value of a library's type.
    pub fn opaque(value: impl Opaque) -> Self {
        Self::Opaque(Arc::new(value))
    }

    /// A value that is there.
    pub fn some(value: Self) -> Self {
        Self::Optional(Some(Box::new(value)))
    }

    /// JSON as it stands.
    pub fn json(value: &'a serde_json::Value) -> Self {
        Self::read(value, Decl::any()).unwrap_or(Self::Null)
    }

    pub(crate) fn literal(literal: &Literal) -> Self {
        match literal {
            Literal::Null => Self::Null,
            Literal::Bool(it) => Self::Bool(*it),
            Literal::Int(it) => Self::Int(*it),
            Literal::Uint(it) => Self::Uint(*it),
            Literal::Double(it) => Self::Double(*it),
            Literal::String(it) => Self::String(Text::Shared(it.clone())),
            Literal::Bytes(it) => Self::Bytes(it.clone()),
        }
    }

    /// The text, when it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// What `type()` answers.
    pub fn type_(&self) -> Type {
        match self {
            Self::Null => Type::Null,
            Self::Bool(_) => Type::Bool,
            Self::Int(_) => Type::Int,
            Self::Uint(_) => Type::Uint,
            Self::Double(_) => Type::Double,
            Self::String(_) => Type::String,
            Self::Bytes(_) => Type::Bytes,
            Self::Timestamp(_) => Type::Timestamp,
            Self::Duration(_) => Type::Duration,
            Self::List(_) => Type::list(Type::Dyn),
            Self::Map(map) => map.struct_name().map_or_else(|| Type::map(Type::Dyn, Type::Dyn), Type::opaque),
            Self::Type(_) => Type::of_type(Type::Dyn),
            Self::Optional(_) => Type::optional(Type::Dyn),
            Self::Opaque(value) => Type::opaque(value.type_name()),
        }
    }

    /// Whether the value may be passed where a function wants `wanted`.
    pub(crate) fn is_a(&self, wanted: &Type) -> bool {
        match (wanted, self) {
            (Type::Dyn | Type::Error | Type::Param(_) | Type::Var(_), _) => true,
            (Type::Object(_), Self::Map(_)) => true,
            (Type::Opaque(name), Self::Opaque(value)) => &**name == value.type_name(),
            (Type::Opaque(name), Self::Map(map)) => map.struct_name() == Some(name),
            (Type::Type(_), Self::Type(_)) | (Type::Map(..), Self::Map(_)) => true,
            (wanted, value) => std::mem::discriminant(wanted) == std::mem::discriminant(&value.type_()),
        }
    }

    /// Its size: characters, bytes, elements or entries; 1 for what has none.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::String(text) => text.chars().count() as u64,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::List(list) => list.len() as u64,
            Self::Map(map) => map.len() as u64,
            Self::Opaque(value) => value.size(),
            _ => 1,
        }
    }
}

impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        equal::equal(self, other).unwrap_or(false)
    }
}
