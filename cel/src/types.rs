//! Static types of expressions, and how messages show them (cel-go: `types.Type`).

use std::fmt;
use std::sync::Arc;

use crate::Name;
use crate::decl::{Decl, Kind, Object};

/// The type of an expression as far as it is known before evaluation.
#[derive(Clone, Debug)]
pub enum Type {
    /// Anything; checked when evaluated.
    Dyn,
    /// The type of what could not be checked; goes with everything, so that one mistake is told once.
    Error,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    List(Arc<Type>),
    Map(Arc<Type>, Arc<Type>),
    Optional(Arc<Type>),
    /// A type as a value: `int` is of type `type(int)`.
    Type(Arc<Type>),
    /// An object with declared fields.
    Object(Arc<Object>),
    /// A type that a library brings along, known by its name only.
    Opaque(Name),
    /// A placeholder in the signature of a function.
    Param(Name),
    /// A type that is being found out.
    Var(u32),
}

impl Type {
    /// A list of `items`.
    pub fn list(items: Self) -> Self {
        Self::List(Arc::new(items))
    }

    /// A map.
    pub fn map(keys: Self, values: Self) -> Self {
        Self::Map(Arc::new(keys), Arc::new(values))
    }

    /// A value that may be missing.
    pub fn optional(inner: Self) -> Self {
        Self::Optional(Arc::new(inner))
    }

    /// The type whose values are `of`.
    pub fn of_type(of: Self) -> Self {
        Self::Type(Arc::new(of))
    }

    /// A type of a library.
    pub fn opaque(name: &str) -> Self {
        Self::Opaque(name.into())
    }

    /// Whether it goes with everything.
    pub fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn | Self::Error)
    }

    /// Whether it is a boolean, or only known when evaluated.
    pub fn is_bool(&self) -> bool {
        matches!(self, Self::Bool)
    }

    /// Whether values of the type have the size 1 for certain.
    pub(crate) fn is_scalar(&self) -> bool {
        match self {
            Self::Bool | Self::Int | Self::Uint | Self::Double | Self::Timestamp | Self::Duration | Self::Type(_) => {
                true
            }
            Self::Optional(inner) => inner.is_scalar(),
            _ => false,
        }
    }

    /// Whether both are the same type, parameters included.
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::List(one), Self::List(two)) | (Self::Optional(one), Self::Optional(two)) => one.same(two),
            (Self::Type(one), Self::Type(two)) => one.same(two),
            (Self::Map(key, value), Self::Map(other_key, other_value)) => {
                key.same(other_key) && value.same(other_value)
            }
            (Self::Object(one), Self::Object(two)) => one.name == two.name,
            (Self::Opaque(one), Self::Opaque(two)) | (Self::Param(one), Self::Param(two)) => one == two,
            (Self::Var(one), Self::Var(two)) => one == two,
            (one, two) => std::mem::discriminant(one) == std::mem::discriminant(two),
        }
    }

    /// The type's name without parameters, as values of type `type` are told apart.
    pub(crate) fn runtime_name(&self) -> &str {
        match self {
            Self::Dyn | Self::Param(_) | Self::Var(_) => "dyn",
            Self::Error => "!error!",
            Self::Null => "null_type",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Timestamp => "google.protobuf.Timestamp",
            Self::Duration => "google.protobuf.Duration",
            Self::List(_) => "list",
            Self::Map(..) => "map",
            Self::Optional(_) => "optional_type",
            Self::Type(_) => "type",
            Self::Object(object) => &object.name,
            Self::Opaque(name) => name,
        }
    }
}

impl Decl {
    /// The type in expressions.
    pub fn type_(&self) -> Type {
        match &self.kind {
            Kind::Any | Kind::IntOrString => Type::Dyn,
            Kind::Bool => Type::Bool,
            Kind::Int => Type::Int,
            Kind::Double => Type::Double,
            Kind::String => Type::String,
            Kind::Bytes => Type::Bytes,
            Kind::Timestamp | Kind::Date => Type::Timestamp,
            Kind::Duration => Type::Duration,
            Kind::List { items, .. } => Type::list(items.type_()),
            Kind::Map(values) => Type::map(Type::String, values.type_()),
            Kind::Object(object) => Type::Object(Arc::clone(object)),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Duration => f.write_str("duration"),
            Self::List(items) => write!(f, "list({items})"),
            Self::Map(keys, values) => write!(f, "map({keys}, {values})"),
            Self::Optional(inner) => write!(f, "optional_type({inner})"),
            Self::Type(of) => write!(f, "type({of})"),
            Self::Param(name) => f.write_str(name),
            other => f.write_str(other.runtime_name()),
        }
    }
}

/// Knows the objects that expressions may build: `Object.spec{replicas: 1}`.
pub trait StructProvider: Send + Sync {
    /// The type called `name`.
    fn find(&self, name: &str) -> Option<Type>;

    /// The type of a field of the type called `name`.
    fn field(&self, name: &str, field: &str) -> Option<Type>;
}
