//! What an expression can cost at least and at most, before any value is known (cel-go: `checker.Cost`).
//!
//! Sizes come from declarations ([`Decl::max_elements`]), constants and what functions do to them. The numbers are part
//! of the API: they decide which rules a definition may contain.

mod calls;
mod range;

use std::collections::HashMap;
use std::sync::Arc;

use crate::Name;
use crate::ast::{Comprehension, Entry, Id, Literal, Node};
use crate::check::{Checked, Resolved};
use crate::decl::Decl;
use crate::types::Type;

pub(crate) use range::scaled;
pub use range::{CostRange, SizeRange};

/// The cost of looking at one character.
pub(crate) const TEXT_FACTOR: f64 = 0.1;
/// The cost of one character of a pattern.
pub(crate) const REGEX_FACTOR: f64 = 0.25;

const NAME: CostRange = CostRange::fixed(1);
const LIST: CostRange = CostRange::fixed(10);
const MAP: CostRange = CostRange::fixed(30);
const OBJECT: CostRange = CostRange::fixed(40);

/// What asking the authorizer costs: two questions an expression are as many as there may be.
pub(crate) fn authorizer_cost(function: &str) -> Option<u64> {
    match function {
        "check" => Some(350_000),
        "serviceAccount" | "path" | "group" | "resource" | "subresource" | "namespace" | "name" | "allowed"
        | "reason" | "error" | "errored" => Some(1),
        _ => None,
    }
}

/// What reading a selector of such a length costs: a list, and for each requirement, of two characters at least, an object
/// with a list.
pub(crate) fn selector_cost(length: SizeRange) -> CostRange {
    let requirements = length.by(0.5);
    let each = CostRange::fixed(50);
    LIST.add(length.by(TEXT_FACTOR)).add(requirements.multiply(each))
}

/// The most characters of a named format's name, and of its pattern.
const FORMAT: u64 = 64;
const FORMAT_PATTERN: u64 = 128;

/// What it costs to compare two values of a type that Kubernetes brings along, whose texts have such a size.
fn equality(type_name: &str, text: Option<SizeRange>) -> Option<CostRange> {
    let up_to = |most: u64| SizeRange { min: 1, max: most }.by(TEXT_FACTOR);
    match type_name {
        "kubernetes.NamedFormat" => Some(up_to(FORMAT)),
        "kubernetes.URL" => Some(up_to(text.map_or(1, |text| text.max))),
        name if is_simple(name) => Some(CostRange::fixed(1)),
        _ => None,
    }
}

/// Whether values of a type that Kubernetes brings along are compared at once.
pub(crate) fn is_simple(type_name: &str) -> bool {
    matches!(type_name, "net.IP" | "net.CIDR" | "kubernetes.Quantity" | "kubernetes.Semver")
        || type_name.starts_with("kubernetes.authorization.")
}

/// Whether a function costs as little as a look at a field.
pub(crate) fn is_nominal(function: &str) -> bool {
    matches!(
        function,
        "masked"
            | "prefixLength"
            | "family"
            | "isUnspecified"
            | "isLoopback"
            | "isLinkLocalMulticast"
            | "isLinkLocalUnicast"
            | "isGlobalUnicast"
            | "sign"
            | "asInteger"
            | "isInteger"
            | "asApproximateFloat"
            | "isGreaterThan"
            | "isLessThan"
            | "compareTo"
            | "add"
            | "sub"
            | "major"
            | "minor"
            | "patch"
    )
}

/// The cost of a checked expression.
pub(crate) fn estimate(checked: &Checked, decls: &HashMap<Name, Arc<Decl>>) -> CostRange {
    let mut coster = Coster { checked, decls, notes: HashMap::new(), locals: Vec::new() };
    coster.cost(checked.ast.root)
}

/// The steps from a variable to a value: the variable, then fields, `@items`, `@values`, `@keys` or `@indices`. What is in no
/// variable has none, and what is in that has only the steps from there: the reference takes the first step for the
/// variable `self`, whatever it is.
type Path = Vec<Name>;

/// What is known of the keys and values of a list or map.
#[derive(Clone, Copy)]
struct EntrySize {
    list: bool,
    key: SizeRange,
    value: SizeRange,
}

impl EntrySize {
    fn union(self, other: Self) -> Self {
        Self { list: self.list, key: self.key.union(other.key), value: self.value.union(other.value) }
    }
}

/// What was found out about a node.
#[derive(Clone, Default)]
struct Note {
    path: Path,
    size: Option<SizeRange>,
    entry: Option<EntrySize>,
}

struct Local {
    name: Name,
    path: Path,
    size: Option<SizeRange>,
    entry: Option<EntrySize>,
}

struct Coster<'c> {
    checked: &'c Checked,
    decls: &'c HashMap<Name, Arc<Decl>>,
    notes: HashMap<Id, Note>,
    locals: Vec<Local>,
}

impl Coster<'_> {
    fn cost(&mut self, id: Id) -> CostRange {
        let checked = self.checked;
        match checked.ast.node(id) {
            Node::Literal(_) => CostRange::default(),
            Node::Ident(name) => self.name(id, name),
            Node::Select { operand, field, test } => self.select(id, *operand, field, *test),
            Node::Call { function, target, args } => self.call(id, function, *target, args),
            Node::List(elements, _) => self.list(id, elements),
            Node::Map(entries) => self.map(id, entries),
            Node::Struct { fields, .. } => fields.iter().fold(OBJECT, |sum, field| sum.add(self.cost(field.value))),
            Node::Comprehension(fold) if fold.bind => self.bind(id, fold),
            Node::Comprehension(fold) => self.fold(id, fold),
        }
    }

    fn note(&mut self, id: Id) -> &mut Note {
        self.notes.entry(id).or_default()
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.iter().rev().find(|local| &*local.name == name)
    }

    fn name(&mut self, id: Id, name: &Name) -> CostRange {
        let path = match self.local(name) {
            Some(local) => local.path.clone(),
            None => vec![name.clone()],
        };
        self.note(id).path = path;
        NAME
    }

    fn select(&mut self, id: Id, operand: Id, field: &Name, test: bool) -> CostRange {
        let mut sum = self.cost(operand);
        if test {
            return sum;
        }
        if matches!(self.type_(operand), Type::Map(..) | Type::Object(_) | Type::Var(_) | Type::Param(_)) {
            sum = sum.add(NAME);
        }
        self.extend_path(id, operand, field);
        sum
    }

    fn extend_path(&mut self, id: Id, from: Id, step: &str) {
        let mut path = self.path(from);
        path.push(step.into());
        self.note(id).path = path;
    }

    fn type_(&self, id: Id) -> &Type {
        &self.checked.types[id.0 as usize]
    }

    fn path(&self, id: Id) -> Path {
        if let Node::Ident(name) = self.checked.ast.node(id)
            && let Some(local) = self.local(name)
        {
            return local.path.clone();
        }
        self.notes.get(&id).map(|note| note.path.clone()).unwrap_or_default()
    }

    /// The declaration that a path leads to.
    fn declared(&self, path: &[Name]) -> Option<&Decl> {
        let (root, steps) = path.split_first()?;
        let root = self.decls.get(root).or_else(|| self.decls.get("self"))?;
        steps.iter().try_fold(root.as_ref(), |decl, step| decl.step(step))
    }

    fn declared_size(&self, path: &[Name]) -> Option<SizeRange> {
        // Objects have no size of their own: 0 elements, as the reference counts.
        self.declared(path).map(|decl| SizeRange { min: 0, max: decl.max_elements })
    }

    fn size(&self, id: Id) -> Option<SizeRange> {
        if let Some(size) = self.notes.get(&id).and_then(|note| note.size) {
            return Some(size);
        }
        let node = self.checked.ast.node(id);
        let fixed = match node {
            Node::Literal(Literal::String(text)) => Some(text.chars().count()),
            Node::Literal(Literal::Bytes(bytes)) => Some(bytes.len()),
            Node::Literal(_) => Some(1),
            Node::List(elements, _) => Some(elements.len()),
            Node::Map(entries) => Some(entries.len()),
            _ => None,
        };
        if let Some(fixed) = fixed {
            return Some(SizeRange::fixed(fixed as u64));
        }
        if let Some(size) = self.declared_size(&self.path(id)) {
            return Some(size);
        }
        if self.type_(id).is_scalar() {
            return Some(SizeRange::fixed(1));
        }
        match node {
            Node::Ident(name) => self.local(name).and_then(|local| local.size),
            _ => None,
        }
    }

    fn size_or_unknown(&self, id: Id) -> SizeRange {
        self.size(id).unwrap_or(SizeRange::UNKNOWN)
    }

    fn entry(&self, id: Id) -> Option<EntrySize> {
        if let Some(entry) = self.notes.get(&id).and_then(|note| note.entry) {
            return Some(entry);
        }
        match self.checked.ast.node(id) {
            Node::Ident(name) => self.local(name).and_then(|local| local.entry),
            _ => None,
        }
    }

    fn set_size(&mut self, id: Id, size: Option<SizeRange>) {
        if size.is_some() {
            self.note(id).size = size;
        }
    }

    fn set_entry(&mut self, id: Id, entry: Option<EntrySize>) {
        if entry.is_some() {
            self.note(id).entry = entry;
        }
    }

    fn list(&mut self, id: Id, elements: &[Id]) -> CostRange {
        let mut sum = LIST;
        let mut value = SizeRange::NONE;
        for element in elements {
            sum = sum.add(self.cost(*element));
            value = value.union(self.size_or_unknown(*element));
        }
        if elements.is_empty() {
            value.min = 0;
        }
        self.set_entry(id, Some(EntrySize { list: true, key: SizeRange::fixed(1), value }));
        sum
    }

    fn map(&mut self, id: Id, entries: &[Entry]) -> CostRange {
        let mut sum = MAP;
        let (mut key, mut value) = (SizeRange::NONE, SizeRange::NONE);
        for entry in entries {
            sum = sum.add(self.cost(entry.key)).add(self.cost(entry.value));
            key = key.union(self.size_or_unknown(entry.key));
            value = value.union(self.size_or_unknown(entry.value));
        }
        if entries.is_empty() {
            (key.min, value.min) = (0, 0);
        }
        self.set_entry(id, Some(EntrySize { list: false, key, value }));
        sum
    }

    fn bind(&mut self, id: Id, fold: &Comprehension) -> CostRange {
        let mut sum = self.cost(fold.range).add(self.cost(fold.init));
        self.push_value(&fold.accu, fold.init);
        sum = sum.add(self.cost(fold.result));
        self.locals.pop();
        let (size, entry) = (self.size(fold.result), self.entry(fold.result));
        self.set_size(id, size);
        self.set_entry(id, entry);
        sum
    }

    fn push_value(&mut self, name: &Name, of: Id) {
        let local = Local { name: name.clone(), path: self.path(of), size: self.size(of), entry: self.entry(of) };
        self.locals.push(local);
    }

    /// A loop's variable: the keys (`key`) or the values of what it runs over.
    fn push_part(&mut self, name: &Name, range: Id, key: bool) {
        let entry = self.entry(range);
        let list = entry.map_or(matches!(self.type_(range), Type::List(_)), |entry| entry.list);
        let size = entry.map(|entry| if key { entry.key } else { entry.value });
        let step = match (list, key) {
            (true, true) => "@indices",
            (true, false) => "@items",
            (false, true) => "@keys",
            (false, false) => "@values",
        };
        let mut path = self.path(range);
        path.push(step.into());
        self.locals.push(Local { name: name.clone(), path, size, entry: None });
    }

    fn fold(&mut self, id: Id, fold: &Comprehension) -> CostRange {
        let mut sum = self.cost(fold.range).add(self.cost(fold.init));
        let depth = self.locals.len();
        self.push_value(&fold.accu, fold.init);
        match &fold.second {
            Some(second) => {
                self.push_part(&fold.var, fold.range, true);
                self.push_part(second, fold.range, false);
            }
            None => {
                let entry = self.entry(fold.range);
                let list = entry.map_or(matches!(self.type_(fold.range), Type::List(_)), |entry| entry.list);
                self.push_part(&fold.var, fold.range, !list);
            }
        }
        let condition = self.cost(fold.condition);
        let step = self.cost(fold.step);
        self.locals.truncate(depth + 1);
        sum = sum.add(self.cost(fold.result));
        self.locals.truncate(depth);
        let count = self.size_or_unknown(fold.range);
        sum = sum.add(count.times(step.add(condition)));
        match self.checked.ast.node(fold.init) {
            Node::Literal(_) => {
                let size = self.size(fold.init);
                self.set_size(id, size);
            }
            Node::List(..) | Node::Map(_) => {
                self.set_size(id, Some(count));
                let entry = self.entry(fold.step);
                self.set_entry(id, entry);
            }
            _ => {}
        }
        sum
    }

    fn call(&mut self, id: Id, function: &str, target: Option<Id>, args: &[Id]) -> CostRange {
        if function == "dyn"
            && let [arg] = args
        {
            let sum = self.cost(*arg).add(CostRange::fixed(1));
            let (size, entry) = (self.size(*arg), self.entry(*arg));
            self.set_size(id, size);
            self.set_entry(id, entry);
            return sum;
        }
        let costs: Vec<CostRange> = args.iter().map(|arg| self.cost(*arg)).collect();
        let checked = self.checked;
        let Resolved::Call { function, overloads, with_target } = &checked.resolved[id.0 as usize] else {
            return CostRange::default();
        };
        if overloads.is_empty() {
            // `?.`: a look at a field.
            if let [operand, field] = args
                && let Node::Literal(Literal::String(field)) = checked.ast.node(*field)
            {
                self.extend_path(id, *operand, field);
            }
            return costs.iter().fold(NAME, |sum, cost| sum.add(*cost));
        }
        let target = target.filter(|_| *with_target);
        let before = target.map_or(CostRange::default(), |target| self.cost(target));
        let mut whole: Option<CostRange> = None;
        let mut result = None;
        for overload in overloads {
            let call = calls::Call { function, overload: &overload.id, id, target, args, costs: &costs };
            let (cost, size) = self.call_cost(&call);
            whole = Some(whole.map_or(cost, |whole| whole.union(cost)));
            result = match (result, size) {
                (Some(before), Some(size)) => Some(SizeRange::union(before, size)),
                (before, size) => before.or(size),
            };
            if let ("index_list" | "index_map", [of, ..]) = (&*overload.id, args) {
                let step = if &*overload.id == "index_list" { "@items" } else { "@values" };
                result = self.entry(*of).map(|entry| entry.value);
                self.extend_path(id, *of, step);
            }
            if result.is_none() {
                result = self.size(id);
            }
        }
        self.set_size(id, result);
        before.add(whole.unwrap_or_default())
    }
}
