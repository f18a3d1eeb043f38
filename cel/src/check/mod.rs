//! Checks types and finds out which functions calls mean (cel-go: `checker`).

mod unify;

use std::collections::HashMap;
use std::sync::Arc;

use crate::Name;
use crate::ast::{Ast, Comprehension, Entry, FieldInit, Id, Literal, Node};
use crate::declarations::Declarations;
use crate::function::Overload;
use crate::source::{Issue, Issues};
use crate::time;
use crate::types::Type;

use unify::Substitution;

/// No more mistakes than this are collected.
const MAX_ISSUES: usize = 100;

/// What a name or call turned out to be.
#[derive(Clone)]
pub(crate) enum Resolved {
    /// Nothing to know beyond the node.
    Plain,
    /// A variable, by its whole name (`a.b` may be one).
    Variable(Name),
    /// A type as a value.
    Type(Arc<Type>),
    /// A call of one of these; `function` is the whole name.
    Call { function: Name, overloads: Vec<Overload>, with_target: bool },
}

/// An expression whose types are known.
pub(crate) struct Checked {
    pub(crate) ast: Ast,
    /// By node.
    pub(crate) types: Vec<Type>,
    /// By node.
    pub(crate) resolved: Vec<Resolved>,
}

/// Checks a parsed expression.
pub(crate) fn check(ast: Ast, env: &Declarations, text: &str) -> Result<Checked, Issues> {
    let mut checker = Checker {
        env,
        ast: &ast,
        types: vec![Type::Dyn; ast.len()],
        resolved: vec![Resolved::Plain; ast.len()],
        scopes: Vec::new(),
        known: Substitution::default(),
        issues: Vec::new(),
    };
    checker.check(ast.root);
    checker.validate_literals();
    let Checker { types, resolved, known, issues, .. } = checker;
    if !issues.is_empty() {
        return Err(Issues::new(text, issues));
    }
    let types = types.iter().map(|found| known.resolve(found, true)).collect();
    Ok(Checked { ast, types, resolved })
}

struct Checker<'e> {
    env: &'e Declarations,
    ast: &'e Ast,
    types: Vec<Type>,
    resolved: Vec<Resolved>,
    /// Variables of loops, the innermost last.
    scopes: Vec<(Name, Type)>,
    known: Substitution,
    issues: Vec<Issue>,
}

impl Checker<'_> {
    fn check(&mut self, id: Id) -> Type {
        let found = match self.ast.node(id).clone() {
            Node::Literal(literal) => literal_type(&literal),
            Node::Ident(name) => self.ident(id, &name),
            Node::Select { operand, field, test } => self.select(id, operand, &field, test),
            Node::Call { function, target, args } => self.call(id, &function, target, &args),
            Node::List(elements, optional) => self.list(&elements, &optional),
            Node::Map(entries) => self.map(&entries),
            Node::Struct { name, fields } => self.object(id, &name, &fields),
            Node::Comprehension(fold) => self.comprehension(&fold),
        };
        self.types[id.0 as usize] = found.clone();
        found
    }

    fn report(&mut self, id: Id, message: String) -> Type {
        let offset = self.ast.offset(id);
        self.report_at(offset, message)
    }

    fn report_at(&mut self, offset: u32, message: String) -> Type {
        if self.issues.len() < MAX_ISSUES {
            self.issues.push(Issue { offset: Some(offset), message });
        }
        Type::Error
    }

    fn show(&self, found: &Type) -> String {
        self.known.resolve(found, true).to_string()
    }

    fn ident(&mut self, id: Id, name: &str) -> Type {
        match self.lookup(id, name) {
            Some(found) => found,
            None => self.report(id, format!("undeclared reference to '{name}' (in container '')")),
        }
    }

    /// What a name means: a loop's variable, a declared variable or a type.
    fn lookup(&mut self, id: Id, name: &str) -> Option<Type> {
        if let Some((_, found)) = self.scopes.iter().rev().find(|(known, _)| &**known == name) {
            return Some(found.clone());
        }
        if let Some(found) = self.env.variable(name) {
            self.resolved[id.0 as usize] = Resolved::Variable(name.into());
            return Some(found.clone());
        }
        let found = self.env.named_type(name)?;
        self.resolved[id.0 as usize] = Resolved::Type(Arc::new(found.clone()));
        Some(Type::of_type(found))
    }

    fn select(&mut self, id: Id, operand: Id, field: &str, test: bool) -> Type {
        let whole = self.ast.qualified(operand).map(|path| format!("{path}.{field}"));
        let local = self.root_name(operand).is_some_and(|root| self.scopes.iter().any(|(name, _)| *name == root));
        if let Some(whole) = whole.filter(|_| !test && !local)
            && let Some(found) = self.lookup(id, &whole)
        {
            return found;
        }
        let of = self.check(operand);
        let found = self.field_type(id, &of, field);
        if test { Type::Bool } else { found }
    }

    fn root_name(&self, id: Id) -> Option<Name> {
        match self.ast.node(id) {
            Node::Ident(name) => Some(name.clone()),
            Node::Select { operand, .. } => self.root_name(*operand),
            _ => None,
        }
    }

    fn field_type(&mut self, id: Id, of: &Type, field: &str) -> Type {
        match self.known.resolve(of, false) {
            Type::Dyn | Type::Error | Type::Var(_) => Type::Dyn,
            Type::Map(_, values) => (*values).clone(),
            Type::Object(object) => match object.field(field) {
                Some(field) => field.decl.type_(),
                None => self.report(id, format!("undefined field '{field}'")),
            },
            Type::Opaque(name) => match self.env.struct_field(&name, field) {
                Some(found) => found,
                None if self.env.named_struct(&name).is_some() => self.report(id, format!("undefined field '{field}'")),
                None => self.report(id, format!("type '{name}' does not support field selection")),
            },
            Type::Optional(inner) => {
                let found = self.field_type(id, &inner, field);
                if matches!(found, Type::Error) { found } else { Type::optional(found) }
            }
            other => self.report(id, format!("type '{other}' does not support field selection")),
        }
    }

    fn call(&mut self, id: Id, function: &Name, target: Option<Id>, args: &[Id]) -> Type {
        if &**function == "_?._"
            && let [operand, field] = args
        {
            return self.optional_select(id, *operand, *field);
        }
        if let Some(target) = target
            && let Some(path) = self.ast.qualified(target)
        {
            let whole: Name = format!("{path}.{function}").into();
            if self.env.overloads(&whole).is_some() {
                let args: Vec<Type> = args.iter().map(|arg| self.check(*arg)).collect();
                return self.resolve_call(id, &whole, None, args);
            }
        }
        let arg_types: Vec<Type> = args.iter().map(|arg| self.check(*arg)).collect();
        let target_type = target.map(|target| self.check(target));
        if self.env.overloads(function).is_none() {
            return self.report(id, format!("undeclared reference to '{function}' (in container '')"));
        }
        self.resolve_call(id, function, target_type, arg_types)
    }

    fn optional_select(&mut self, id: Id, operand: Id, field: Id) -> Type {
        let of = self.check(operand);
        self.check(field);
        let Node::Literal(Literal::String(name)) = self.ast.node(field).clone() else {
            return self.report(id, "unsupported optional field selection".to_owned());
        };
        self.resolved[id.0 as usize] =
            Resolved::Call { function: "_?._".into(), overloads: Vec::new(), with_target: false };
        match self.field_type(id, &of, &name) {
            Type::Error => Type::Error,
            found @ Type::Optional(_) if matches!(self.known.resolve(&of, false), Type::Optional(_)) => found,
            found => Type::optional(found),
        }
    }

    fn resolve_call(&mut self, id: Id, function: &Name, target: Option<Type>, args: Vec<Type>) -> Type {
        let member = target.is_some();
        let all: Vec<Type> = target.into_iter().chain(args).collect();
        let env = self.env;
        let candidates = env.overloads(function).unwrap_or_default();
        let (mut fitting, mut result) = (Vec::new(), None);
        for overload in candidates.iter().filter(|overload| overload.member == member) {
            let mark = self.known.mark();
            let mut fresh = HashMap::new();
            let params: Vec<Type> =
                overload.params.iter().map(|param| self.known.instantiate(param, &mut fresh)).collect();
            if params.len() != all.len() || !params.iter().zip(&all).all(|(want, found)| self.known.assign(want, found))
            {
                self.known.rollback(mark);
                continue;
            }
            let found = self.known.instantiate(&overload.result, &mut fresh);
            let found = self.known.resolve(&found, false);
            fitting.push(overload.clone());
            result = Some(match result {
                None => found,
                Some(before) if found.same(&before) || before.is_dyn() => before,
                Some(_) => Type::Dyn,
            });
        }
        let Some(result) = result else {
            let shown: Vec<String> = all.iter().map(|found| self.show(found)).collect();
            let applied = match shown.split_first() {
                Some((target, args)) if member => format!("{target}.({})", args.join(", ")),
                _ => format!("({})", shown.join(", ")),
            };
            return self.report(id, format!("found no matching overload for '{function}' applied to '{applied}'"));
        };
        self.resolved[id.0 as usize] =
            Resolved::Call { function: function.clone(), overloads: fitting, with_target: member };
        result
    }

    /// The type that all elements share.
    fn join(&mut self, id: Id, before: Option<Type>, found: Type) -> Type {
        let Some(before) = before else { return found };
        if self.known.assign(&before, &found) {
            return self.known.most_general(&before, &found);
        }
        let message = format!("expected type '{}' but found '{}'", self.show(&before), self.show(&found));
        self.report(id, message);
        before
    }

    fn list(&mut self, elements: &[Id], optional: &[usize]) -> Type {
        let mut items = None;
        for (at, element) in elements.iter().enumerate() {
            let mut found = self.check(*element);
            if optional.contains(&at) {
                found = self.unwrap_optional(*element, found);
            }
            items = Some(self.join(*element, items, found));
        }
        Type::list(items.unwrap_or_else(|| self.known.fresh()))
    }

    fn unwrap_optional(&mut self, id: Id, found: Type) -> Type {
        match self.known.resolve(&found, false) {
            Type::Optional(inner) => (*inner).clone(),
            Type::Dyn | Type::Error => found,
            other => self.report(id, format!("expected type 'optional_type({other})' but found '{other}'")),
        }
    }

    fn map(&mut self, entries: &[Entry]) -> Type {
        let (mut keys, mut values) = (None, None);
        for entry in entries {
            let key = self.check(entry.key);
            keys = Some(self.join(entry.key, keys, key));
            let mut value = self.check(entry.value);
            if entry.optional {
                value = self.unwrap_optional(entry.value, value);
            }
            values = Some(self.join(entry.value, values, value));
        }
        let keys = keys.unwrap_or_else(|| self.known.fresh());
        let values = values.unwrap_or_else(|| self.known.fresh());
        Type::map(keys, values)
    }

    fn object(&mut self, id: Id, name: &Name, fields: &[FieldInit]) -> Type {
        let Some(built) = self.env.named_struct(name) else {
            for field in fields {
                self.check(field.value);
            }
            let message = match self.env.named_type(name) {
                Some(other) => format!("'{other}' is not a message type"),
                None => format!("undeclared reference to '{name}' (in container '')"),
            };
            return self.report(id, message);
        };
        for field in fields {
            let mut found = self.check(field.value);
            if field.optional {
                found = self.unwrap_optional(field.value, found);
            }
            let Some(wanted) = self.env.struct_field(name, &field.field) else {
                self.report_at(field.offset, format!("undefined field '{}'", field.field));
                continue;
            };
            if !self.known.assign(&wanted, &found) {
                let message = format!(
                    "expected type of field '{}' is '{wanted}' but provided type is '{}'",
                    field.field,
                    self.show(&found)
                );
                self.report_at(field.offset, message);
            }
        }
        built
    }

    fn comprehension(&mut self, fold: &Comprehension) -> Type {
        let range = self.check(fold.range);
        let accu = self.check(fold.init);
        if fold.bind {
            self.scopes.push((fold.accu.clone(), accu));
            let result = self.check(fold.result);
            self.scopes.pop();
            return result;
        }
        let (key, value) = match self.known.resolve(&range, false) {
            Type::List(items) => (Type::Int, (*items).clone()),
            Type::Map(keys, values) => ((*keys).clone(), (*values).clone()),
            Type::Dyn | Type::Error | Type::Var(_) => (Type::Dyn, Type::Dyn),
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.report(fold.range, message);
                (Type::Error, Type::Error)
            }
        };
        let depth = self.scopes.len();
        self.scopes.push((fold.accu.clone(), accu.clone()));
        match &fold.second {
            Some(second) => self.scopes.extend([(fold.var.clone(), key), (second.clone(), value)]),
            None => {
                let list = matches!(self.known.resolve(&range, false), Type::List(_));
                self.scopes.push((fold.var.clone(), if list { value } else { key }));
            }
        }
        let condition = self.check(fold.condition);
        self.must_be(fold.condition, &Type::Bool, &condition);
        let step = self.check(fold.step);
        self.must_be(fold.step, &accu, &step);
        self.scopes.truncate(depth + 1);
        let result = self.check(fold.result);
        self.scopes.truncate(depth);
        self.known.resolve(&result, false)
    }

    fn must_be(&mut self, id: Id, wanted: &Type, found: &Type) {
        if !self.known.assign(wanted, found) {
            let message = format!("expected type '{}' but found '{}'", self.show(wanted), self.show(found));
            self.report(id, message);
        }
    }

    /// Patterns, durations and times that stand in the text must be right.
    fn validate_literals(&mut self) {
        for at in 0..self.ast.len() {
            let id = Id(u32::try_from(at).unwrap_or(u32::MAX));
            let Node::Call { function, target, args } = self.ast.node(id).clone() else { continue };
            let constant = |arg: Option<&Id>| match arg.map(|arg| (self.ast.node(*arg), *arg)) {
                Some((Node::Literal(Literal::String(text)), arg)) => Some((text.clone(), arg)),
                _ => None,
            };
            let last = if target.is_some() || args.len() < 2 { args.first() } else { args.get(1) };
            let Some((text, arg)) = constant(last) else { continue };
            let right = match (&*function, target, args.len()) {
                ("matches", _, _) => crate::pattern::compiled(&text).is_ok(),
                ("duration", None, 1) => time::parse_go_duration(&text).is_some(),
                ("timestamp", None, 1) => time::parse_timestamp(&text).is_some(),
                _ => true,
            };
            if !right {
                self.report(arg, format!("invalid {function} argument"));
            }
        }
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}
