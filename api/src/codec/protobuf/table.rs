//! The messages and their fields, read from `data/protobuf.txt` (format: `data/README.md`) on first use.

use std::sync::OnceLock;

const TEXT: &str =
    concat!(include_str!("../../../data/protobuf.txt"), include_str!("../../../data/metrics-protobuf.txt"));

/// All messages, by name.
pub(super) struct Table {
    messages: Box<[Message]>,
}

/// One message.
pub(super) struct Message {
    /// As OpenAPI writes it: `io.k8s.api.core.v1.Pod`.
    name: &'static str,
    pub(super) form: Form,
    /// By number.
    fields: Box<[Field]>,
    /// Positions in `fields`, by JSON name.
    by_name: Box<[u16]>,
    pub(super) has_inlined: bool,
}

/// What a message is in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Object,
    Time,
    MicroTime,
    /// Nanoseconds; in JSON as Go prints a duration.
    Duration,
    Quantity,
    IntOrString,
    /// A value of any kind, as JSON text.
    Json,
    /// As `Json`, or an object of a known kind in its envelope.
    Embedded,
    /// A list of strings.
    List,
    SchemaOrList,
    SchemaOrBool,
}

/// One field.
pub(super) struct Field {
    pub(super) number: u32,
    /// In JSON; of an inlined message the name is never used.
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) kind: Kind,
    /// Whether an empty value differs from an absent one.
    pub(super) keep: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    One,
    List,
    Map,
    /// A message whose fields stand in the JSON object around it.
    Inlined,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    String,
    Int32,
    Int64,
    Bool,
    Double,
    Bytes,
    Message(MessageId),
}

/// The position of a message in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MessageId(u16);

impl Table {
    /// The table.
    pub(super) fn get() -> &'static Self {
        static TABLE: OnceLock<Table> = OnceLock::new();
        TABLE.get_or_init(|| Self::read(TEXT))
    }

    /// The message of that name.
    pub(super) fn message(&self, name: &str) -> Option<&Message> {
        let at = self.messages.binary_search_by(|message| message.name.cmp(name)).ok()?;
        Some(&self.messages[at])
    }

    pub(super) fn at(&self, id: MessageId) -> &Message {
        &self.messages[usize::from(id.0)]
    }

    fn read(text: &'static str) -> Self {
        let heads = text.lines().filter(|line| !line.starts_with(' '));
        let mut names: Vec<&'static str> = heads.map(|line| line.split(' ').next().unwrap_or(line)).collect();
        names.sort_unstable();
        let mut messages = Vec::with_capacity(names.len());
        let mut lines = text.lines().peekable();
        while let Some(head) = lines.next() {
            let (name, form) = head.split_once(' ').unwrap_or((head, ""));
            let mut fields = Vec::new();
            while let Some(line) = lines.next_if(|line| line.starts_with(' ')) {
                fields.push(Field::read(&line[1..], name, &names));
            }
            messages.push(Message::new(name, Form::from_name(form), fields));
        }
        messages.sort_by_key(|message| message.name);
        Self { messages: messages.into() }
    }
}

impl Message {
    fn new(name: &'static str, form: Form, fields: Vec<Field>) -> Self {
        let mut by_name: Vec<u16> = (0..).take(fields.len()).collect();
        by_name.sort_by_key(|at| fields[usize::from(*at)].name);
        let has_inlined = fields.iter().any(|field| field.shape == Shape::Inlined);
        Self { name, form, fields: fields.into(), by_name: by_name.into(), has_inlined }
    }

    pub(super) fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The field with that number; most messages number theirs without gaps.
    pub(super) fn numbered(&self, number: u32) -> Option<&Field> {
        match self.fields.get(number as usize - 1) {
            Some(field) if field.number == number => Some(field),
            _ => self.fields.binary_search_by_key(&number, |field| field.number).ok().map(|at| &self.fields[at]),
        }
    }

    /// The field with that name in JSON.
    pub(super) fn named(&self, name: &str) -> Option<&Field> {
        let at = self.by_name.binary_search_by(|at| self.fields[usize::from(*at)].name.cmp(name)).ok()?;
        Some(&self.fields[usize::from(self.by_name[at])]).filter(|field| field.shape != Shape::Inlined)
    }
}

impl Field {
    /// Reads `3 name []#Message keep`; names without dots are of the package of `message`.
    fn read(line: &'static str, message: &str, names: &[&str]) -> Self {
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap_or("");
        let (number, name, type_word, keep) = (word(), word(), word(), word() == "keep");
        let (shape, inner) = match type_word.split_at_checked(2) {
            Some(("[]", inner)) => (Shape::List, inner),
            Some(("{}", inner)) => (Shape::Map, inner),
            _ if name == "+" => (Shape::Inlined, type_word),
            _ => (Shape::One, type_word),
        };
        let kind = match inner.strip_prefix('#') {
            Some(target) => Kind::Message(find(target, message, names)),
            None => Kind::from_name(inner),
        };
        Self { number: number.parse().expect("a field line begins with a number"), name, shape, kind, keep }
    }
}

fn find(target: &str, message: &str, names: &[&str]) -> MessageId {
    let package = message.rsplit_once('.').map_or("", |(package, _)| package);
    let near = format!("{package}.{target}");
    let full = if target.contains('.') { target } else { &near };
    let at = names.binary_search(&full).expect("every field names a message of the table, which is sorted");
    MessageId(u16::try_from(at).expect("the table has fewer than 65,536 messages"))
}

impl Kind {
    fn from_name(name: &str) -> Self {
        match name {
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "bool" => Self::Bool,
            "double" => Self::Double,
            "bytes" => Self::Bytes,
            _ => Self::String,
        }
    }
}

impl Form {
    fn from_name(name: &str) -> Self {
        match name {
            "time" => Self::Time,
            "microtime" => Self::MicroTime,
            "duration" => Self::Duration,
            "quantity" => Self::Quantity,
            "int-or-string" => Self::IntOrString,
            "json" => Self::Json,
            "embedded" => Self::Embedded,
            "list" => Self::List,
            "schema-or-list" => Self::SchemaOrList,
            "schema-or-bool" => Self::SchemaOrBool,
            _ => Self::Object,
        }
    }
}
