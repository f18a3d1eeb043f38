//! Works expressions out (cel-go: `interpreter`). Costs are counted as they arise and stop the work at a limit.

mod operators;
mod tally;

use std::sync::Arc;

use crate::Name;
use crate::ast::{Comprehension, Entry, FieldInit, Id, Node};
use crate::check::{Checked, Resolved};
use crate::error::Error;
use crate::function::Overload;
use crate::value::{Map, Value};

/// The values of variables.
#[derive(Clone, Debug, Default)]
pub struct Bindings<'a> {
    values: Vec<(Name, Value<'a>)>,
}

impl<'a> Bindings<'a> {
    /// No variables.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more.
    pub fn with(mut self, name: &str, value: Value<'a>) -> Self {
        self.set(name, value);
        self
    }

    /// Sets a variable.
    pub fn set(&mut self, name: &str, value: Value<'a>) {
        match self.values.iter_mut().find(|(known, _)| &**known == name) {
            Some((_, old)) => *old = value,
            None => self.values.push((name.into(), value)),
        }
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.values.iter().find(|(known, _)| &**known == name).map(|(_, value)| value)
    }
}

/// How much work is allowed.
#[derive(Clone, Copy)]
pub struct Limits<'l> {
    cost: u64,
    interrupted: Option<&'l dyn Fn() -> bool>,
}

impl<'l> Limits<'l> {
    /// Work that costs at most this much.
    pub fn cost(cost: u64) -> Self {
        Self { cost, interrupted: None }
    }

    /// Asks now and then whether to go on.
    pub fn interrupted_by(self, interrupted: &'l dyn Fn() -> bool) -> Self {
        Self { interrupted: Some(interrupted), ..self }
    }
}

/// So many rounds of loops pass between questions whether to go on.
const ROUNDS_BETWEEN_QUESTIONS: u32 = 100;

type Outcome<'a> = Result<Value<'a>, Error>;

/// Works an expression out; also tells what that cost.
pub(crate) fn evaluate<'a>(checked: &Checked, bindings: &Bindings<'a>, limits: &Limits<'_>) -> (Outcome<'a>, u64) {
    let mut evaluator = Evaluator { checked, bindings, limits, scopes: Vec::new(), cost: 0, rounds: 0 };
    let outcome = evaluator.eval(checked.ast.root);
    (outcome, evaluator.cost)
}

struct Local<'a> {
    name: Name,
    /// An error waits here until somebody needs the value.
    value: Outcome<'a>,
    /// Whether the next read may take the value away, because it is overwritten afterwards.
    taken: bool,
}

struct Evaluator<'e, 'a> {
    checked: &'e Checked,
    bindings: &'e Bindings<'a>,
    limits: &'e Limits<'e>,
    scopes: Vec<Local<'a>>,
    cost: u64,
    rounds: u32,
}

impl<'a> Evaluator<'_, 'a> {
    fn charge(&mut self, cost: u64) -> Result<(), Error> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limits.cost { Err(Error::over_limit()) } else { Ok(()) }
    }

    fn eval(&mut self, id: Id) -> Outcome<'a> {
        let checked = self.checked;
        match checked.ast.node(id) {
            Node::Literal(literal) => Ok(Value::literal(literal)),
            Node::Ident(name) => self.name(id, name),
            Node::Select { operand, field, test } => self.select(id, *operand, field, *test),
            Node::Call { target, args, .. } => self.call(id, *target, args),
            Node::List(elements, optional) => self.list(elements, optional),
            Node::Map(entries) => self.map(entries),
            Node::Struct { name, fields } => self.object(name, fields),
            Node::Comprehension(fold) if fold.bind => self.bind(fold),
            Node::Comprehension(fold) => self.fold(fold),
        }
    }

    fn name(&mut self, id: Id, name: &str) -> Outcome<'a> {
        self.charge(tally::NAME)?;
        if let Some(local) = self.scopes.iter_mut().rev().find(|local| &*local.name == name) {
            return if local.taken {
                std::mem::replace(&mut local.value, Ok(Value::Null))
            } else {
                local.value.clone()
            };
        }
        self.declared(id, name)
    }

    fn declared(&self, id: Id, name: &str) -> Outcome<'a> {
        match &self.checked.resolved[id.0 as usize] {
            Resolved::Type(of) => Ok(Value::Type(of.clone())),
            Resolved::Variable(whole) => {
                self.bindings.get(whole).cloned().ok_or_else(|| Error::new(format!("no such attribute(s): {whole}")))
            }
            _ => Err(Error::new(format!("no such attribute(s): {name}"))),
        }
    }

    fn select(&mut self, id: Id, operand: Id, field: &str, test: bool) -> Outcome<'a> {
        if !matches!(self.checked.resolved[id.0 as usize], Resolved::Plain) {
            self.charge(tally::NAME)?;
            return self.declared(id, field);
        }
        let of = self.eval(operand)?;
        if test {
            return Ok(Value::Bool(operators::optional_field(&of, field)?.is_some()));
        }
        self.charge(tally::NAME)?;
        operators::field(&of, field)
    }

    fn call(&mut self, id: Id, target: Option<Id>, args: &[Id]) -> Outcome<'a> {
        let checked = self.checked;
        let Resolved::Call { function, overloads, with_target } = &checked.resolved[id.0 as usize] else {
            return Err(Error::no_overload());
        };
        match (&**function, args) {
            ("_&&_", [left, right]) => return self.logical(*left, *right, false),
            ("_||_", [left, right]) => return self.logical(*left, *right, true),
            ("_?_:_", [condition, yes, no]) => {
                return match self.eval(*condition)? {
                    Value::Bool(true) => self.eval(*yes),
                    Value::Bool(false) => self.eval(*no),
                    _ => Err(Error::no_overload()),
                };
            }
            ("@not_strictly_false", [arg]) => {
                return match self.eval(*arg) {
                    Err(error) if error.is_final() => Err(error),
                    other => Ok(Value::Bool(other != Ok(Value::Bool(false)))),
                };
            }
            ("or" | "orValue", [other]) if *with_target => return self.alternative(function, target, *other),
            _ => {}
        }
        let mut values = Vec::with_capacity(args.len() + 1);
        if *with_target && let Some(target) = target {
            values.push(self.eval(target)?);
        }
        for arg in args {
            values.push(self.eval(*arg)?);
        }
        self.apply(function, overloads, values)
    }

    fn apply(&mut self, function: &str, overloads: &[Overload], values: Vec<Value<'a>>) -> Outcome<'a> {
        if let Some(cost) = tally::before(function, overloads, &values) {
            self.charge(cost)?;
        }
        if operators::is_operator(function) {
            return operators::apply(function, values);
        }
        let fits = |overload: &&Overload| {
            overload.params.len() == values.len()
                && overload.params.iter().zip(&values).all(|(wanted, value)| value.is_a(wanted))
        };
        let overload = overloads.iter().find(fits).ok_or_else(Error::no_overload)?;
        let body = overload.body.as_ref().ok_or_else(Error::no_overload)?;
        let result = body(&values)?;
        self.charge(tally::after(function, &result))?;
        Ok(result)
    }

    /// `||`, or `&&` where `decisive` is false: an error counts only if the other side does not decide.
    fn logical(&mut self, left: Id, right: Id, decisive: bool) -> Outcome<'a> {
        let one = self.eval(left);
        match &one {
            Ok(Value::Bool(value)) if *value == decisive => return one,
            Err(error) if error.is_final() => return one,
            _ => {}
        }
        let two = self.eval(right);
        match (one, two) {
            (_, Err(error)) if error.is_final() => Err(error),
            (_, Ok(Value::Bool(value))) if value == decisive => Ok(Value::Bool(decisive)),
            (Ok(Value::Bool(_)), two) => match two? {
                Value::Bool(value) => Ok(Value::Bool(value)),
                _ => Err(Error::no_overload()),
            },
            (Err(error), _) => Err(error),
            (Ok(_), _) => Err(Error::no_overload()),
        }
    }

    /// `optional.or(other)` and `optional.orValue(other)`, where the other is looked at only when needed.
    fn alternative(&mut self, function: &str, target: Option<Id>, other: Id) -> Outcome<'a> {
        let Some(target) = target else { return Err(Error::no_overload()) };
        let value = self.eval(target)?;
        self.charge(1)?;
        match value {
            Value::Optional(Some(inner)) if function == "orValue" => Ok(*inner),
            Value::Optional(Some(inner)) => Ok(Value::Optional(Some(inner))),
            Value::Optional(None) => self.eval(other),
            _ => Err(Error::no_overload()),
        }
    }

    fn list(&mut self, elements: &[Id], optional: &[usize]) -> Outcome<'a> {
        self.charge(tally::LIST)?;
        let mut items = Vec::with_capacity(elements.len());
        for (at, element) in elements.iter().enumerate() {
            let value = self.eval(*element)?;
            if optional.contains(&at) {
                items.extend(operators::unwrap_optional(value)?);
            } else {
                items.push(value);
            }
        }
        Ok(Value::list(items))
    }

    fn map(&mut self, entries: &[Entry]) -> Outcome<'a> {
        self.charge(tally::MAP)?;
        let mut map = crate::value::Entries::default();
        for entry in entries {
            let key = self.eval(entry.key)?;
            let mut value = self.eval(entry.value)?;
            if entry.optional {
                match operators::unwrap_optional(value)? {
                    Some(inner) => value = inner,
                    None => continue,
                }
            }
            let shown = operators::show(&key);
            if !map.insert(key, value)? {
                return Err(Error::new(format!("Failed with repeated key: {shown}")));
            }
        }
        Ok(Value::Map(Map::Own(Arc::new(map))))
    }

    fn object(&mut self, name: &Name, fields: &[FieldInit]) -> Outcome<'a> {
        self.charge(tally::OBJECT)?;
        let mut built = std::collections::BTreeMap::new();
        for field in fields {
            let mut value = self.eval(field.value)?;
            if field.optional {
                match operators::unwrap_optional(value)? {
                    Some(inner) => value = inner,
                    None => continue,
                }
            }
            built.insert(field.field.to_string(), value);
        }
        Ok(Value::Map(Map::Struct(name.clone(), Arc::new(built))))
    }

    fn push(&mut self, name: &Name, value: Outcome<'a>) {
        self.scopes.push(Local { name: name.clone(), value, taken: false });
    }

    fn bind(&mut self, fold: &Comprehension) -> Outcome<'a> {
        self.charge(tally::LIST)?;
        let value = keep(self.eval(fold.init))?;
        self.push(&fold.accu, value);
        let result = self.eval(fold.result);
        self.scopes.pop();
        result
    }

    fn fold(&mut self, fold: &Comprehension) -> Outcome<'a> {
        let range = self.eval(fold.range)?;
        let init = self.eval(fold.init)?;
        let depth = self.scopes.len();
        self.push(&fold.accu, Ok(init));
        let outcome = self.rounds(fold, range, depth).and_then(|()| self.eval(fold.result));
        self.scopes.truncate(depth);
        outcome
    }

    fn rounds(&mut self, fold: &Comprehension, range: Value<'a>, at: usize) -> Result<(), Error> {
        match range {
            Value::List(list) => {
                for (index, item) in list.iter().enumerate() {
                    let key = Value::Int(i64::try_from(index).unwrap_or(i64::MAX));
                    let (first, second) = if fold.second.is_some() { (Ok(key), Some(item)) } else { (item, None) };
                    if !self.round(fold, first, second, at)? {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for key in map.keys() {
                    let second = if fold.second.is_some() { map.get(&key) } else { None };
                    if !self.round(fold, Ok(key), second, at)? {
                        break;
                    }
                }
            }
            _ => return Err(Error::no_overload()),
        }
        Ok(())
    }

    /// One round of a loop; tells whether another may follow.
    fn round(
        &mut self,
        fold: &Comprehension,
        first: Outcome<'a>,
        second: Option<Outcome<'a>>,
        at: usize,
    ) -> Result<bool, Error> {
        self.rounds += 1;
        if self.rounds.is_multiple_of(ROUNDS_BETWEEN_QUESTIONS)
            && self.limits.interrupted.is_some_and(|interrupted| interrupted())
        {
            return Err(Error::interrupted());
        }
        self.push(&fold.var, first);
        if let (Some(name), Some(value)) = (&fold.second, second) {
            self.push(name, value);
        }
        if self.eval(fold.condition)? != Value::Bool(true) {
            self.scopes.truncate(at + 1);
            return Ok(false);
        }
        self.scopes[at].taken = true;
        let step = self.eval(fold.step);
        self.scopes.truncate(at + 1);
        self.scopes[at].taken = false;
        // An error is kept, not told yet: a later element may decide what `exists` and `all` say.
        self.scopes[at].value = keep(step)?;
        Ok(true)
    }
}

/// An outcome to be looked at later; what ends the whole work does so at once.
fn keep(outcome: Outcome<'_>) -> Result<Outcome<'_>, Error> {
    match outcome {
        Err(error) if error.is_final() => Err(error),
        other => Ok(other),
    }
}
