//! What a tree of JSON means in expressions: types as a schema declares them, with the sizes that it allows (upstream:
//! `apiserver/pkg/cel.DeclType`).

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use crate::Name;
use crate::escape::is_word;

/// The largest request that is counted on, in bytes.
pub const MAX_REQUEST_BYTES: u64 = 3 * 1024 * 1024;

/// A node of a schema, as expressions see it.
#[derive(Clone, Debug)]
pub struct Decl {
    pub kind: Kind,
    /// The most characters, elements or entries a value can have; 0 for what has none.
    pub max_elements: u64,
    /// The fewest bytes a value takes in JSON.
    pub min_size: u64,
    pub nullable: bool,
}

/// What kind of value a node holds.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Whatever is there, read as it stands.
    Any,
    Bool,
    Int,
    Double,
    String,
    /// Base64.
    Bytes,
    /// RFC 3339 with a time.
    Timestamp,
    /// RFC 3339 without a time.
    Date,
    Duration,
    IntOrString,
    List {
        items: Arc<Decl>,
        kind: ListKind,
    },
    Map(Arc<Decl>),
    Object(Arc<Object>),
}

/// How the elements of a list are told apart.
#[derive(Clone, Debug, Default)]
pub enum ListKind {
    /// By position.
    #[default]
    Atomic,
    /// Equal whatever the order.
    Set,
    /// By these keys.
    Map(Vec<String>),
}

/// An object with declared fields.
#[derive(Clone, Debug)]
pub struct Object {
    pub name: Name,
    /// By the name that expressions use.
    pub fields: BTreeMap<String, Field>,
}

/// A declared field.
#[derive(Clone, Debug)]
pub struct Field {
    /// The name in JSON.
    pub name: String,
    pub decl: Arc<Decl>,
}

impl Object {
    /// The field that an expression names. A word of the language may be named as it is or escaped.
    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.get(name).or_else(|| is_word(name).then(|| self.fields.get(&format!("__{name}__")))?)
    }
}

static ANY: LazyLock<Decl> = LazyLock::new(|| Decl::of(Kind::Any));

impl Decl {
    /// A node of the sizes that its kind has when nothing else is known.
    pub fn of(kind: Kind) -> Self {
        let text = MAX_REQUEST_BYTES - 2;
        let (max_elements, min_size) = match &kind {
            Kind::Any | Kind::IntOrString => (text, 1),
            Kind::Bool => (0, 4),
            Kind::Int | Kind::Double => (0, 1),
            Kind::String | Kind::Bytes => (text, 2),
            Kind::Timestamp => (32, 21),
            Kind::Date => (12, 12),
            Kind::Duration => (32, 3),
            Kind::List { items, .. } => ((MAX_REQUEST_BYTES - 2) / (items.min_size + 1), 2),
            Kind::Map(values) => ((MAX_REQUEST_BYTES - 2) / (values.min_size + 6), 2),
            Kind::Object(_) => (0, 2),
        };
        Self { kind, max_elements, min_size, nullable: false }
    }

    /// JSON of which nothing is known.
    pub fn any() -> &'static Self {
        &ANY
    }

    /// The node below, by one step of a path: a field, `@items`, `@values`, `@keys` or `@indices`.
    pub(crate) fn step(&self, step: &str) -> Option<&Self> {
        // The reference does not say how long a key may be, and so counts with nothing.
        static KEY: LazyLock<Decl> = LazyLock::new(|| Decl { max_elements: 0, ..Decl::of(Kind::String) });
        match (&self.kind, step) {
            (Kind::List { items, .. }, "@items" | "@values") => Some(items),
            (Kind::Map(values), "@items" | "@values") => Some(values),
            (Kind::Map(_), "@keys") => Some(&KEY),
            (Kind::Object(object), field) => object.fields.get(field).map(|field| field.decl.as_ref()),
            _ => None,
        }
    }
}
