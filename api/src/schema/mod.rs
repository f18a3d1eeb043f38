//! Structural schemas: what the server knows of a resource's fields, for built-in kinds and CRDs alike.
//!
//! Schemas live in an arena ([`Schemas`]) and refer to each other by index, so that recursive definitions
//! (`JSONSchemaProps`) need no reference counting and all built-in schemas are one allocation. The built-in arena is
//! read from `data/schemas.txt` once, on first use ([`builtin`]).

pub mod builtin;
mod pattern;
mod whole;

use std::sync::Arc;

use serde_json::Value;

use crate::text::Text;

pub use pattern::Pattern;
pub use whole::Whole;

/// The position of a [`Schema`] in its [`Schemas`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SchemaId(pub u32);

/// An arena of schemas.
#[derive(Clone, Debug, Default)]
pub struct Schemas {
    nodes: Vec<Schema>,
}

/// What a value must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Type {
    /// Anything: `RawExtension`, `JSON`, fields of unknown type.
    #[default]
    Any,
    Object,
    Array,
    String,
    Boolean,
    Integer,
    Number,
    /// An integer or a string (`x-kubernetes-int-or-string`).
    IntOrString,
}

/// Scalars that the API reads and prints in a form of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scalar {
    /// As it stands.
    #[default]
    Plain,
    /// An integer of 32 bits.
    Int32,
    /// Base64.
    Bytes,
    /// RFC 3339, whole seconds.
    Time,
    /// RFC 3339, six decimals.
    MicroTime,
    /// A `resource.Quantity`: a string or a number, printed in canonical form.
    Quantity,
}

/// How an absent or empty value of a built-in field prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// Absent and empty are the same and are left out.
    #[default]
    OmitEmpty,
    /// Absent is left out; an empty value that was given is kept.
    KeepEmpty,
    /// Always printed: absent prints as the empty value of its type.
    Always,
    /// Always printed: absent and empty print as `null`.
    Null,
    /// Nothing is known or done: CRDs.
    AsGiven,
}

/// How a list merges in server-side apply (`x-kubernetes-list-type`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    #[default]
    Atomic,
    Set,
    /// A list of objects that are told apart by these fields.
    Map(Vec<String>),
}

/// How a field merges in a strategic merge patch (`x-kubernetes-patch-strategy`, `-patch-merge-key`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    pub merge: bool,
    pub replace: bool,
    pub retain_keys: bool,
    /// Set for lists of objects that merge by this key.
    pub merge_key: Option<String>,
}

/// The declared fields of a struct, sorted by name; cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(Arc<[Property]>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Property {
    /// Orders most names without looking at their text.
    head: u64,
    name: Text,
    id: SchemaId,
}

/// The first bytes of a name: of two names, the one with the smaller head is the smaller.
fn head(name: &str) -> u64 {
    let mut bytes = [0; 8];
    let length = name.len().min(bytes.len());
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    u64::from_be_bytes(bytes)
}

impl Properties {
    /// The schema of the field `name`.
    pub fn get(&self, name: &str) -> Option<&SchemaId> {
        self.property(name).map(|property| &property.id)
    }

    /// The name of the field `name`, as declared.
    pub fn name(&self, name: &str) -> Option<&Text> {
        self.property(name).map(|property| &property.name)
    }

    fn property(&self, name: &str) -> Option<&Property> {
        let head = head(name);
        let first = self.0.partition_point(|property| property.head < head);
        self.0[first..].iter().take_while(|property| property.head == head).find(|property| property.name == name)
    }

    /// Whether the field `name` is declared.
    pub fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// All fields by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, SchemaId)> {
        self.0.iter().map(|property| (property.name.as_ref(), property.id))
    }

    /// Whether no field is declared.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many fields are declared.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl<N: Into<Text>> FromIterator<(N, SchemaId)> for Properties {
    fn from_iter<I: IntoIterator<Item = (N, SchemaId)>>(fields: I) -> Self {
        let property = |(name, id): (N, SchemaId)| {
            let name = name.into();
            Property { head: head(&name), name, id }
        };
        let mut fields: Vec<Property> = fields.into_iter().map(property).collect();
        fields.sort();
        Self(fields.into())
    }
}

/// One node: a field's, an element's or a whole object's schema.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    pub type_: Type,
    pub scalar: Scalar,
    pub presence: Presence,
    /// `int32`, `int64`, `date-time`, `byte`, `quantity`, ...; empty when none.
    pub format: Text,
    /// The OpenAPI definition that this node is (`io.k8s.api.core.v1.PodSpec`), where it is one.
    pub definition: Option<Text>,
    pub properties: Properties,
    /// Those of them that are printed though absent ([`Presence::Always`], [`Presence::Null`]).
    pub printed: Arc<[Text]>,
    /// Schema of the values of a map.
    pub additional: Option<SchemaId>,
    /// Schema of the elements of a list.
    pub items: Option<SchemaId>,
    pub required: Vec<Text>,
    pub nullable: bool,
    /// A value to fill in when the field is absent. For built-in kinds only the few defaults that OpenAPI declares;
    /// all others are the business of the kind's strategy.
    pub default: Option<Value>,
    pub enumeration: Vec<Value>,
    pub list_type: ListType,
    /// Whether the document says `x-kubernetes-list-type` at all.
    pub list_type_given: bool,
    /// Whether a map or struct is owned as a whole in apply (`x-kubernetes-map-type: atomic`).
    pub atomic_map: bool,
    /// Whether the document says `x-kubernetes-map-type: granular`, which is what maps are anyway.
    pub granular_map: bool,
    pub patch: PatchStrategy,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub preserve_unknown: bool,
    /// `x-kubernetes-embedded-resource`.
    pub embedded_resource: bool,
    /// `pattern`, compiled when it is first needed.
    pub pattern: Option<Arc<Pattern>>,
    /// What only CRD schemas demand of values (limits, patterns, combinators), as written by the author.
    pub value_validation: Option<Box<Value>>,
}

impl Schemas {
    /// An empty arena.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a node.
    pub fn add(&mut self, schema: Schema) -> SchemaId {
        let id = SchemaId(u32::try_from(self.nodes.len()).expect("fewer than 2^32 schema nodes"));
        self.nodes.push(schema);
        id
    }

    /// The node, to fill in after its place was taken.
    pub fn get_mut(&mut self, id: SchemaId) -> &mut Schema {
        &mut self.nodes[id.0 as usize]
    }

    /// Notes which fields of each node are printed though absent, once all nodes are whole.
    pub(crate) fn note_printed(&mut self) {
        for at in 0..self.nodes.len() {
            let is_printed =
                |id: SchemaId| matches!(self.nodes[id.0 as usize].presence, Presence::Always | Presence::Null);
            let properties = self.nodes[at].properties.0.iter();
            let printed: Vec<Text> =
                properties.filter(|property| is_printed(property.id)).map(|property| property.name.clone()).collect();
            if !printed.is_empty() {
                self.nodes[at].printed = printed.into();
            }
        }
    }

    /// Gives back the room for nodes that will not come.
    pub(crate) fn shrink(&mut self) {
        self.nodes.shrink_to_fit();
    }

    /// A view of the node.
    pub fn at(&self, id: SchemaId) -> SchemaRef<'_> {
        SchemaRef { arena: self, id }
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

/// A node together with its arena: what walkers pass around.
#[derive(Clone, Copy, Debug)]
pub struct SchemaRef<'a> {
    arena: &'a Schemas,
    id: SchemaId,
}

impl<'a> SchemaRef<'a> {
    /// The node itself.
    pub fn node(self) -> &'a Schema {
        &self.arena.nodes[self.id.0 as usize]
    }

    /// Its position.
    pub fn id(self) -> SchemaId {
        self.id
    }

    /// Another node of the same arena.
    pub fn at(self, id: SchemaId) -> SchemaRef<'a> {
        self.arena.at(id)
    }

    /// The schema of the field `name`: a declared property, or the value schema of a map.
    pub fn field(self, name: &str) -> Option<SchemaRef<'a>> {
        let node = self.node();
        let id = node.properties.get(name).copied().or(node.additional)?;
        Some(self.arena.at(id))
    }

    /// The declared fields with their schemas, by name.
    pub fn fields(self) -> impl Iterator<Item = (&'a str, SchemaRef<'a>)> {
        self.node().properties.iter().map(move |(name, id)| (name, self.arena.at(id)))
    }

    /// The schema of list elements.
    pub fn items(self) -> Option<SchemaRef<'a>> {
        self.node().items.map(|id| self.arena.at(id))
    }

    /// The schema of map values.
    pub fn values(self) -> Option<SchemaRef<'a>> {
        self.node().additional.map(|id| self.arena.at(id))
    }

    /// Whether this is a struct: an object with declared fields, unlike a map.
    pub fn is_struct(self) -> bool {
        let node = self.node();
        node.type_ == Type::Object && node.additional.is_none()
    }
}
