//! Functions: what they are called, what they take and give, and what they do (cel-go: `decls.FunctionDecl`). Libraries
//! add to them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::Name;
use crate::error::Error;
use crate::types::Type;
use crate::value::Value;

/// What a function does. The receiver of a method is the first argument.
pub(crate) type Body = Arc<dyn for<'a> Fn(&[Value<'a>]) -> Result<Value<'a>, Error> + Send + Sync>;

/// One way to call a function.
#[derive(Clone)]
pub(crate) struct Overload {
    pub(crate) id: Name,
    /// Whether it is called as `x.f()`.
    pub(crate) member: bool,
    pub(crate) params: Vec<Type>,
    pub(crate) result: Type,
    /// Absent for operators, which the evaluator knows.
    pub(crate) body: Option<Body>,
}

/// Functions and types to extend the language with.
#[derive(Clone, Default)]
pub struct Library {
    pub(crate) functions: HashMap<Name, Vec<Overload>>,
    pub(crate) types: Vec<(Name, Type)>,
}

impl Library {
    /// A library of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a type whose name is a value in expressions.
    pub fn type_(mut self, name: &str, type_: Type) -> Self {
        self.types.push((name.into(), type_));
        self
    }

    /// Adds a function by its signature: `id: name(int, A): bool`, or for methods `id: string.name(int): list(A)`.
    /// A capital letter stands for any type, the same wherever it stands; other words that are no type of the
    /// language are names of types that libraries bring along.
    ///
    /// # Panics
    /// When the signature cannot be read: signatures are part of the program.
    pub fn function<F>(mut self, signature: &str, body: F) -> Self
    where
        F: for<'a> Fn(&[Value<'a>]) -> Result<Value<'a>, Error> + Send + Sync + 'static,
    {
        self.declare(signature, Some(Arc::new(body)));
        self
    }

    /// Adds an operator, which the evaluator knows.
    pub(crate) fn operator(mut self, name: &str, signature: &str) -> Self {
        // The name is given apart, since it is no identifier.
        let (id, rest) = signature.split_once(": ").expect("an operator's signature names it first");
        self.declare(&format!("{id}: op{rest}"), None);
        let overloads = self.functions.remove("op").unwrap_or_default();
        self.functions.entry(name.into()).or_default().extend(overloads);
        self
    }

    fn declare(&mut self, signature: &str, body: Option<Body>) {
        let (name, overload) = signature_of(signature, body).unwrap_or_else(|| panic!("bad signature: {signature}"));
        self.functions.entry(name.into()).or_default().push(overload);
    }

    /// All that either library has.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (name, overloads) in &other.functions {
            let mine = self.functions.entry(name.clone()).or_default();
            for overload in overloads {
                match mine.iter_mut().find(|known| known.id == overload.id) {
                    Some(known) => *known = overload.clone(),
                    None => mine.push(overload.clone()),
                }
            }
        }
        self.types.extend(other.types.iter().cloned());
    }
}

fn signature_of(text: &str, body: Option<Body>) -> Option<(String, Overload)> {
    let (id, rest) = text.split_once(": ")?;
    let (call, result) = rest.rsplit_once("): ")?;
    let open = argument_list(call)?;
    let (path, args) = (&call[..open], &call[open + 1..]);
    let (receiver, name) = match split_receiver(path) {
        Some((receiver, name)) => (Some(parse_type(receiver)?), name),
        None => (None, path),
    };
    let member = receiver.is_some();
    let mut params: Vec<Type> = receiver.into_iter().collect();
    for arg in split_top(args) {
        params.push(parse_type(arg)?);
    }
    let overload = Overload { id: id.into(), member, params, result: parse_type(result)?, body };
    Some((name.to_owned(), overload))
}

/// Where the arguments of the function begin: the last bracket that is open at the end.
fn argument_list(call: &str) -> Option<usize> {
    let mut open = Vec::new();
    for (at, c) in call.char_indices() {
        match c {
            '(' => open.push(at),
            ')' => {
                open.pop();
            }
            _ => {}
        }
    }
    open.first().copied()
}

/// `list(A).sum` is a method of `list(A)`; names such as `sets.contains` keep their dots.
fn split_receiver(path: &str) -> Option<(&str, &str)> {
    let namespaced = ["sets.", "optional.", "ip.", "format.", "lists.", "cel.", "strings.", "jsonpatch."];
    if namespaced.iter().any(|prefix| path.starts_with(prefix)) {
        return None;
    }
    path.rsplit_once('.')
}

fn split_top(args: &str) -> Vec<&str> {
    let (mut out, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in args.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                out.push(args[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    if !args[start..].trim().is_empty() {
        out.push(args[start..].trim());
    }
    out
}

fn parse_type(text: &str) -> Option<Type> {
    let text = text.trim();
    if let Some((head, inner)) = text.split_once('(') {
        let parts = split_top(inner.strip_suffix(')')?);
        return match (head, parts.as_slice()) {
            ("list", [items]) => Some(Type::list(parse_type(items)?)),
            ("map", [keys, values]) => Some(Type::map(parse_type(keys)?, parse_type(values)?)),
            ("optional", [inner]) => Some(Type::optional(parse_type(inner)?)),
            ("type", [of]) => Some(Type::of_type(parse_type(of)?)),
            _ => None,
        };
    }
    Some(match text {
        "" => return None,
        "dyn" => Type::Dyn,
        "null" => Type::Null,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        name if name.len() == 1 && name.chars().all(char::is_uppercase) => Type::Param(name.into()),
        name => Type::opaque(name),
    })
}
