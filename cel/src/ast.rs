//! Expressions as trees, held in an arena: a node refers to others by position.

use crate::Name;

/// The position of a node in its [`Ast`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Id(pub(crate) u32);

/// A parsed expression.
#[derive(Clone, Debug)]
pub(crate) struct Ast {
    nodes: Vec<Node>,
    offsets: Vec<u32>,
    depths: Vec<u32>,
    pub(crate) root: Id,
}

/// A constant in the text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Name),
    Bytes(std::sync::Arc<[u8]>),
}

/// One expression.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Literal(Literal),
    Ident(Name),
    /// `operand.field`, or with `test` `has(operand.field)`.
    Select {
        operand: Id,
        field: Name,
        test: bool,
    },
    Call {
        function: Name,
        target: Option<Id>,
        args: Vec<Id>,
    },
    /// The positions of optional elements (`[?x]`) come second.
    List(Vec<Id>, Vec<usize>),
    Map(Vec<Entry>),
    Struct {
        name: Name,
        fields: Vec<FieldInit>,
    },
    Comprehension(Box<Comprehension>),
}

/// An entry of a map in the text.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Id,
    pub(crate) value: Id,
    pub(crate) optional: bool,
}

/// A field of an object in the text.
#[derive(Clone, Debug)]
pub(crate) struct FieldInit {
    pub(crate) field: Name,
    pub(crate) value: Id,
    pub(crate) optional: bool,
    pub(crate) offset: u32,
}

/// A loop over a list or map, which macros become. With `bind` set there is no loop: `result` sees `accu` as a variable.
#[derive(Clone, Debug)]
pub(crate) struct Comprehension {
    pub(crate) bind: bool,
    pub(crate) var: Name,
    pub(crate) second: Option<Name>,
    pub(crate) range: Id,
    pub(crate) accu: Name,
    pub(crate) init: Id,
    pub(crate) condition: Id,
    pub(crate) step: Id,
    pub(crate) result: Id,
}

impl Ast {
    pub(crate) fn new() -> Self {
        Self { nodes: Vec::new(), offsets: Vec::new(), depths: Vec::new(), root: Id(0) }
    }

    /// Adds a node that stands at `offset` of the text.
    pub(crate) fn add(&mut self, node: Node, offset: u32) -> Id {
        let id = Id(u32::try_from(self.nodes.len()).expect("texts are far shorter than 2^32"));
        let mut depth = 0;
        node.each_child(|child| depth = depth.max(self.depths[child.0 as usize]));
        self.nodes.push(node);
        self.offsets.push(offset);
        self.depths.push(depth + 1);
        id
    }

    pub(crate) fn node(&self, id: Id) -> &Node {
        &self.nodes[id.0 as usize]
    }

    pub(crate) fn offset(&self, id: Id) -> u32 {
        self.offsets[id.0 as usize]
    }

    /// How many nodes lie above one another here.
    pub(crate) fn depth(&self, id: Id) -> u32 {
        self.depths[id.0 as usize]
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// All nodes, in no order that means anything.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    /// The name that `a.b.c` could also be.
    pub(crate) fn qualified(&self, id: Id) -> Option<String> {
        match self.node(id) {
            Node::Ident(name) => Some(name.to_string()),
            Node::Select { operand, field, test: false } => Some(format!("{}.{field}", self.qualified(*operand)?)),
            _ => None,
        }
    }
}

impl Node {
    fn each_child(&self, mut each: impl FnMut(Id)) {
        match self {
            Self::Literal(_) | Self::Ident(_) => {}
            Self::Select { operand, .. } => each(*operand),
            Self::Call { target, args, .. } => {
                target.iter().for_each(|id| each(*id));
                args.iter().for_each(|id| each(*id));
            }
            Self::List(elements, _) => elements.iter().for_each(|id| each(*id)),
            Self::Map(entries) => entries.iter().for_each(|entry| {
                each(entry.key);
                each(entry.value);
            }),
            Self::Struct { fields, .. } => fields.iter().for_each(|field| each(field.value)),
            Self::Comprehension(fold) => {
                [fold.range, fold.init, fold.condition, fold.step, fold.result].into_iter().for_each(each);
            }
        }
    }
}
