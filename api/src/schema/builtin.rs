//! The schemas of the built-in kinds, read from `data/schemas.txt` (format: `data/README.md`).
//!
//! Reading takes two passes: the first gives every definition its place and notes its text, the second fills in the
//! nodes. A field that refers to a definition is a copy of that definition's node (sharing its properties) with the
//! field's own facts on top.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use super::{ListType, Presence, Scalar, Schema, SchemaId, SchemaRef, Schemas, Type};
use crate::text::Text;

const TEXT: &str = concat!(include_str!("../../data/schemas.txt"), include_str!("../../data/metrics-schemas.txt"));

/// All built-in definitions.
pub struct Builtin {
    schemas: Arc<Schemas>,
    by_name: HashMap<&'static str, Definition>,
    by_kind: HashMap<(&'static str, &'static str, &'static str), &'static str>,
}

/// What only OpenAPI documents need to know of a definition.
#[derive(Clone, Debug)]
pub struct Definition {
    pub id: SchemaId,
    /// Its groups, versions and kinds.
    pub kinds: Vec<(&'static str, &'static str, &'static str)>,
    /// Its required fields, in the order of documents.
    pub required: Vec<&'static str>,
    /// `x-kubernetes-unions`, as JSON.
    pub unions: Option<&'static str>,
    /// The `oneOf` types of scalars that have several.
    pub one_of: Vec<&'static str>,
    /// The lines of its fields.
    lines: &'static str,
}

/// The built-in definitions; read on first use.
pub fn builtin() -> &'static Builtin {
    static BUILTIN: OnceLock<Builtin> = OnceLock::new();
    BUILTIN.get_or_init(|| Reader::default().read(TEXT))
}

impl Builtin {
    /// The arena of all of them.
    pub fn schemas(&self) -> &Arc<Schemas> {
        &self.schemas
    }

    /// The definition `name` (`io.k8s.api.core.v1.Pod`).
    pub fn definition(&self, name: &str) -> Option<&Definition> {
        self.by_name.get(name)
    }

    /// The names of all definitions, in no order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.by_name.keys().copied()
    }

    /// The name of the definition of a kind.
    pub fn name_of_kind(&self, group: &str, version: &str, kind: &str) -> Option<&'static str> {
        self.by_kind.get(&(group, version, kind)).copied()
    }

    /// The schema of a kind.
    pub fn kind(&self, group: &str, version: &str, kind: &str) -> Option<SchemaRef<'_>> {
        let name = self.name_of_kind(group, version, kind)?;
        Some(self.schemas.at(self.by_name.get(name)?.id))
    }
}

#[derive(Default)]
struct Reader {
    schemas: Schemas,
    by_name: HashMap<&'static str, Definition>,
    order: Vec<&'static str>,
    /// Copies to make of definitions once those are whole, with the field's facts.
    references: Vec<(SchemaId, &'static str, Facts)>,
}

/// What the words after the type say.
#[derive(Default)]
struct Facts {
    presence: Presence,
    list_type: Option<ListType>,
    /// Whether a struct is owned as a whole, where the field says so itself.
    atomic_map: Option<bool>,
    patch: super::PatchStrategy,
    default: Option<Value>,
    required: bool,
}

impl Reader {
    fn read(mut self, text: &'static str) -> Builtin {
        let mut rest = text;
        while !rest.is_empty() {
            rest = self.take_definition(rest);
        }
        for name in std::mem::take(&mut self.order) {
            self.fill(name);
        }
        self.resolve();
        self.schemas.note_printed();
        let by_kind =
            self.by_name.iter().flat_map(|(name, definition)| definition.kinds.iter().map(|kind| (*kind, *name)));
        Builtin { by_kind: by_kind.collect(), schemas: Arc::new(self.schemas), by_name: self.by_name }
    }

    /// Takes the definition that `text` begins with; returns what follows it.
    fn take_definition(&mut self, text: &'static str) -> &'static str {
        let (head, body) = text.split_once('\n').unwrap_or((text, ""));
        let end = fields_end(body);
        let (lines, rest) = body.split_at(end);
        let mut words = head.splitn(3, ' ');
        let (name, type_word) = (words.next().unwrap_or(""), words.next().unwrap_or("any"));
        let mut node = Schema { definition: Some(Text::Borrowed(name)), ..Schema::default() };
        set_type(&mut node, name, type_word);
        let (facts, more) = Facts::read(words.next().unwrap_or(""));
        facts.put_on(&mut node);
        let one_of = type_word.strip_prefix("oneof:").and_then(|types| types.split(':').next());
        let definition = Definition {
            id: self.schemas.add(node),
            kinds: more.kinds,
            required: more.order,
            unions: more.unions,
            one_of: one_of.map(|types| types.split(',').collect()).unwrap_or_default(),
            lines,
        };
        self.by_name.insert(name, definition);
        self.order.push(name);
        rest
    }

    fn fill(&mut self, name: &str) {
        let Some(definition) = self.by_name.get(name) else { return };
        let (id, lines) = (definition.id, definition.lines);
        let mut fields = Vec::new();
        let mut required = Vec::new();
        for line in lines.lines() {
            let mut words = line[1..].splitn(3, ' ');
            let (field, type_word) = (words.next().unwrap_or(""), words.next().unwrap_or("any"));
            let (facts, _) = Facts::read(words.next().unwrap_or(""));
            if facts.required {
                required.push(field);
            }
            fields.push((Text::Borrowed(field), self.typed(type_word, facts)));
        }
        if let Some(definition) = self.by_name.get_mut(name).filter(|definition| definition.required.is_empty()) {
            definition.required.clone_from(&required);
        }
        let node = self.schemas.get_mut(id);
        node.properties = fields.into_iter().collect();
        node.required = required.into_iter().map(Text::Borrowed).collect();
    }

    /// The node of `#definition`, `[]T`, `{}T` or a plain type.
    fn typed(&mut self, word: &'static str, facts: Facts) -> SchemaId {
        if let Some(target) = word.strip_prefix('#') {
            if facts.is_plain()
                && let Some(definition) = self.by_name.get(target)
            {
                return definition.id;
            }
            let id = self.schemas.add(Schema::default());
            self.references.push((id, target, facts));
            return id;
        }
        let mut node = Schema::default();
        if let Some(inner) = word.strip_prefix("[]") {
            node.type_ = Type::Array;
            node.items = Some(self.typed(inner, Facts::default()));
        } else if let Some(inner) = word.strip_prefix("{}") {
            node.type_ = Type::Object;
            node.additional = Some(self.typed(inner, Facts::default()));
        } else {
            set_type(&mut node, "", word);
        }
        facts.put_on(&mut node);
        self.schemas.add(node)
    }

    fn resolve(&mut self) {
        for (id, target, facts) in std::mem::take(&mut self.references) {
            let target = self.by_name.get(target).expect("every reference names a definition of the same file").id;
            let mut node = self.schemas.at(target).node().clone();
            facts.put_on(&mut node);
            *self.schemas.get_mut(id) = node;
        }
    }
}

/// Where the indented lines that `body` begins with end.
fn fields_end(body: &str) -> usize {
    if !body.starts_with(' ') {
        return 0;
    }
    let bytes = body.as_bytes();
    bytes.windows(2).position(|pair| pair[0] == b'\n' && pair[1] != b' ').map_or(bytes.len(), |at| at + 1)
}

fn set_type(node: &mut Schema, definition: &str, word: &'static str) {
    let (type_name, format) = word.split_once(':').unwrap_or((word, ""));
    node.format = Text::Borrowed(format);
    node.type_ = match type_name {
        "object" => Type::Object,
        "string" => Type::String,
        "boolean" => Type::Boolean,
        "integer" => Type::Integer,
        "number" => Type::Number,
        _ => Type::Any,
    };
    node.scalar = match format {
        "int32" => Scalar::Int32,
        "byte" => Scalar::Bytes,
        _ => Scalar::Plain,
    };
    match definition.rsplit('.').next().unwrap_or("") {
        "Time" => node.scalar = Scalar::Time,
        "MicroTime" => node.scalar = Scalar::MicroTime,
        "Quantity" => {
            node.type_ = Type::String;
            node.scalar = Scalar::Quantity;
            node.format = Text::Borrowed("quantity");
        }
        "IntOrString" => {
            node.type_ = Type::IntOrString;
            node.format = Text::Borrowed("int-or-string");
        }
        "RawExtension" | "FieldsV1" | "Patch" => {
            node.type_ = Type::Any;
            node.preserve_unknown = true;
        }
        _ if node.type_ == Type::Any => node.preserve_unknown = true,
        _ => {}
    }
}

#[derive(Default)]
struct More {
    kinds: Vec<(&'static str, &'static str, &'static str)>,
    order: Vec<&'static str>,
    unions: Option<&'static str>,
}

impl Facts {
    fn read(words: &'static str) -> (Self, More) {
        let (mut facts, mut more) = (Self::default(), More::default());
        let mut rest = words;
        while !rest.is_empty() {
            let (word, after) = next_word(rest);
            rest = after;
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match key {
                "required" => facts.required = true,
                "always" => facts.presence = Presence::Always,
                "null" => facts.presence = Presence::Null,
                "keep" => facts.presence = Presence::KeepEmpty,
                "list" => facts.list_type = Some(list_type(value)),
                "map" => facts.atomic_map = Some(value == "atomic"),
                "patch" => {
                    facts.patch.merge = value.split(',').any(|part| part == "merge");
                    facts.patch.replace = value.split(',').any(|part| part == "replace");
                    facts.patch.retain_keys = value.split(',').any(|part| part == "retainKeys");
                }
                "key" => facts.patch.merge_key = Some(value.to_owned()),
                "default" => facts.default = serde_json::from_str(value).ok(),
                "order" => more.order = value.split(',').collect(),
                "unions" => more.unions = Some(value),
                "gvk" => {
                    let mut parts = value.splitn(3, '/');
                    let mut part = || parts.next().unwrap_or("");
                    more.kinds.push((part(), part(), part()));
                }
                _ => {}
            }
        }
        (facts, more)
    }

    fn is_plain(&self) -> bool {
        self.presence == Presence::OmitEmpty
            && self.list_type.is_none()
            && self.atomic_map.is_none()
            && self.patch == super::PatchStrategy::default()
            && self.default.is_none()
    }

    fn put_on(self, node: &mut Schema) {
        node.presence = self.presence;
        node.list_type_given = self.list_type.is_some();
        node.list_type = self.list_type.unwrap_or_default();
        node.atomic_map = self.atomic_map.unwrap_or(node.atomic_map);
        node.granular_map = self.atomic_map == Some(false);
        node.patch = self.patch;
        node.default = self.default;
    }
}

fn list_type(value: &str) -> ListType {
    match value.split_once(':') {
        Some(("map", keys)) => ListType::Map(keys.split(',').map(str::to_owned).collect()),
        _ if value == "set" => ListType::Set,
        _ => ListType::Atomic,
    }
}

/// The first word and the rest; JSON texts in quotes may hold blanks.
fn next_word(text: &'static str) -> (&'static str, &'static str) {
    let mut quoted = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b' ' if !quoted => return (&text[..at], &text[at + 1..]),
            _ => {}
        }
    }
    (text, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_knows_its_definition_and_its_own_facts() {
        let pod = builtin().kind("", "v1", "Pod").expect("pods are built in");
        let containers = pod.field("spec").and_then(|spec| spec.field("containers")).expect("declared");
        assert_eq!(containers.node().list_type, ListType::Map(vec!["name".to_owned()]));
        assert_eq!(containers.node().patch.merge_key.as_deref(), Some("name"));
        let container = containers.items().expect("a list has elements");
        assert_eq!(container.node().definition.as_deref(), Some("io.k8s.api.core.v1.Container"));
        assert_eq!(container.node().required, ["name"]);
        let resources = container.field("resources").expect("declared");
        assert_eq!(resources.node().presence, Presence::Always);
        let limit = resources.field("limits").and_then(SchemaRef::values).expect("a map has values");
        assert_eq!(limit.node().scalar, Scalar::Quantity);
    }

    #[test]
    fn recursive_definitions_are_read() {
        let crd = builtin().definition("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps");
        let props = builtin().schemas().at(crd.expect("declared").id);
        let inner =
            props.field("properties").and_then(SchemaRef::values).and_then(|s| s.field("not")).expect("declared");
        assert_eq!(inner.node().properties, props.node().properties);
    }

    #[test]
    fn defaults_of_the_documents_are_read() {
        let service = builtin().kind("", "v1", "Service").expect("built in");
        let ports = service.field("spec").and_then(|s| s.field("ports")).expect("declared");
        assert_eq!(ports.node().list_type, ListType::Map(vec!["port".to_owned(), "protocol".to_owned()]));
        let protocol = ports.items().and_then(|s| s.field("protocol")).expect("declared");
        assert_eq!(protocol.node().default, Some("TCP".into()));
    }
}
