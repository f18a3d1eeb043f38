//! Calls that are shorthand for something else: `has`, loops over lists and maps, `cel.bind`, `optMap` (cel-go:
//! `parser.Macro`).

use super::{Failed, Parsed, Parser};
use crate::Name;
use crate::ast::{Comprehension, Id, Literal, Node};

/// The variable that gathers a loop's result.
const RESULT: &str = "@result";

/// The parts of a loop that differ from macro to macro.
struct Loop {
    init: Id,
    condition: Id,
    step: Id,
    result: Id,
}

impl Parser {
    /// What the macro called `name` makes of its arguments; `None` when there is no such macro.
    pub(super) fn expand(&mut self, name: &str, target: Option<Id>, args: &[Id], at: u32) -> Parsed<Option<Id>> {
        let Some(target) = target else {
            return match (name, args) {
                ("has", [arg]) => self.has(*arg, at).map(Some),
                _ => Ok(None),
            };
        };
        let expanded = match (name, args) {
            ("bind", [var, init, result]) if self.may_bind && self.is_name(target, "cel") => {
                let var = self.simple(*var)?;
                self.bind(var, *init, *result, at)
            }
            ("all" | "exists" | "exists_one" | "existsOne", [var, test]) => {
                let var = self.simple(*var)?;
                self.quantifier(name, target, (var, None), *test, at)
            }
            ("all" | "exists" | "exists_one" | "existsOne", [var, second, test]) => {
                let vars = self.two(*var, *second)?;
                self.quantifier(name, target, vars, *test, at)
            }
            ("map", [var, value]) => self.gather(target, *var, None, *value, at),
            ("map", [var, test, value]) => self.gather(target, *var, Some(*test), *value, at),
            ("filter", [var, test]) => self.gather(target, *var, Some(*test), *var, at),
            ("transformList", [var, second, value]) => self.transform_list(target, (*var, *second), None, *value, at),
            ("transformList", [var, second, test, value]) => {
                self.transform_list(target, (*var, *second), Some(*test), *value, at)
            }
            ("transformMap", [var, second, value]) => self.transform_map(target, (*var, *second), None, *value, at),
            ("transformMap", [var, second, test, value]) => {
                self.transform_map(target, (*var, *second), Some(*test), *value, at)
            }
            ("transformMapEntry", [var, second, value]) => {
                self.transform_entry(target, (*var, *second), None, *value, at)
            }
            ("transformMapEntry", [var, second, test, value]) => {
                self.transform_entry(target, (*var, *second), Some(*test), *value, at)
            }
            ("sortBy", [var, key]) => self.sort_by(target, *var, *key, at),
            ("optMap" | "optFlatMap", [var, value]) => self.opt_map(name, target, *var, *value, at),
            _ => return Ok(None),
        };
        expanded.map(Some)
    }

    fn is_name(&self, id: Id, name: &str) -> bool {
        matches!(self.ast.node(id), Node::Ident(found) if &**found == name)
    }

    /// The name that an argument is.
    fn simple(&mut self, id: Id) -> Parsed<Name> {
        match self.ast.node(id) {
            Node::Ident(name) => Ok(name.clone()),
            _ => Err(self.complain(id, "argument must be a simple name")),
        }
    }

    fn two(&mut self, first: Id, second: Id) -> Parsed<(Name, Option<Name>)> {
        let (var, other) = (self.simple(first)?, self.simple(second)?);
        if var == other {
            return Err(self.complain(second, &format!("duplicate variable name: {other}")));
        }
        Ok((var, Some(other)))
    }

    fn complain(&mut self, id: Id, message: &str) -> Failed {
        let offset = self.ast.offset(id);
        self.issue(offset, message.to_owned())
    }

    fn has(&mut self, arg: Id, at: u32) -> Parsed<Id> {
        match self.ast.node(arg).clone() {
            Node::Select { operand, field, test: false } => self.add(Node::Select { operand, field, test: true }, at),
            _ => Err(self.complain(arg, "invalid argument to has() macro")),
        }
    }

    fn ident(&mut self, name: &str, at: u32) -> Parsed<Id> {
        self.add(Node::Ident(name.into()), at)
    }

    fn constant(&mut self, literal: Literal, at: u32) -> Parsed<Id> {
        self.add(Node::Literal(literal), at)
    }

    fn fold(&mut self, range: Id, (var, second): (Name, Option<Name>), parts: Loop, at: u32) -> Parsed<Id> {
        let Loop { init, condition, step, result } = parts;
        let fold =
            Comprehension { bind: false, var, second, range, accu: RESULT.into(), init, condition, step, result };
        self.add(Node::Comprehension(Box::new(fold)), at)
    }

    fn bind(&mut self, var: Name, init: Id, result: Id, at: u32) -> Parsed<Id> {
        let range = self.add(Node::List(Vec::new(), Vec::new()), at)?;
        let condition = self.constant(Literal::Bool(false), at)?;
        let step = self.ident(&var, at)?;
        let unused = Name::from("#unused");
        let fold =
            Comprehension { bind: true, var: unused, second: None, range, accu: var, init, condition, step, result };
        self.add(Node::Comprehension(Box::new(fold)), at)
    }

    fn quantifier(&mut self, name: &str, range: Id, vars: (Name, Option<Name>), test: Id, at: u32) -> Parsed<Id> {
        let parts = match name {
            "all" | "exists" => {
                let all = name == "all";
                let init = self.constant(Literal::Bool(all), at)?;
                let seen = self.ident(RESULT, at)?;
                let go_on = if all { seen } else { self.call("!_", vec![seen], at)? };
                let condition = self.call("@not_strictly_false", vec![go_on], at)?;
                let accu = self.ident(RESULT, at)?;
                let step = self.call(if all { "_&&_" } else { "_||_" }, vec![accu, test], at)?;
                let result = self.ident(RESULT, at)?;
                Loop { init, condition, step, result }
            }
            _ => {
                let init = self.constant(Literal::Int(0), at)?;
                let condition = self.constant(Literal::Bool(true), at)?;
                let one = self.constant(Literal::Int(1), at)?;
                let accu = self.ident(RESULT, at)?;
                let more = self.call("_+_", vec![accu, one], at)?;
                let same = self.ident(RESULT, at)?;
                let step = self.call("_?_:_", vec![test, more, same], at)?;
                let (count, one) = (self.ident(RESULT, at)?, self.constant(Literal::Int(1), at)?);
                let result = self.call("_==_", vec![count, one], at)?;
                Loop { init, condition, step, result }
            }
        };
        self.fold(range, vars, parts, at)
    }

    /// `step`, or the result so far where `test` fails.
    fn guarded(&mut self, test: Option<Id>, step: Id, at: u32) -> Parsed<Id> {
        let Some(test) = test else { return Ok(step) };
        let same = self.ident(RESULT, at)?;
        self.call("_?_:_", vec![test, step, same], at)
    }

    fn list_loop(&mut self, test: Option<Id>, value: Id, at: u32) -> Parsed<Loop> {
        let init = self.add(Node::List(Vec::new(), Vec::new()), at)?;
        let condition = self.constant(Literal::Bool(true), at)?;
        let one = self.add(Node::List(vec![value], Vec::new()), at)?;
        let accu = self.ident(RESULT, at)?;
        let step = self.call("_+_", vec![accu, one], at)?;
        let step = self.guarded(test, step, at)?;
        let result = self.ident(RESULT, at)?;
        Ok(Loop { init, condition, step, result })
    }

    fn gather(&mut self, range: Id, var: Id, test: Option<Id>, value: Id, at: u32) -> Parsed<Id> {
        let name = self.simple(var)?;
        let parts = self.list_loop(test, value, at)?;
        self.fold(range, (name, None), parts, at)
    }

    fn transform_list(
        &mut self,
        range: Id,
        (var, second): (Id, Id),
        test: Option<Id>,
        value: Id,
        at: u32,
    ) -> Parsed<Id> {
        let vars = self.two(var, second)?;
        let parts = self.list_loop(test, value, at)?;
        self.fold(range, vars, parts, at)
    }

    fn map_loop(&mut self, test: Option<Id>, more: &[Id], function: &str, at: u32) -> Parsed<Loop> {
        let init = self.add(Node::Map(Vec::new()), at)?;
        let condition = self.constant(Literal::Bool(true), at)?;
        let accu = self.ident(RESULT, at)?;
        let args = std::iter::once(accu).chain(more.iter().copied()).collect();
        let step = self.call(function, args, at)?;
        let step = self.guarded(test, step, at)?;
        let result = self.ident(RESULT, at)?;
        Ok(Loop { init, condition, step, result })
    }

    fn transform_map(
        &mut self,
        range: Id,
        (var, second): (Id, Id),
        test: Option<Id>,
        value: Id,
        at: u32,
    ) -> Parsed<Id> {
        let vars = self.two(var, second)?;
        let key = self.ident(&vars.0, at)?;
        let parts = self.map_loop(test, &[key, value], "cel.@mapInsert", at)?;
        self.fold(range, vars, parts, at)
    }

    fn transform_entry(
        &mut self,
        range: Id,
        (var, second): (Id, Id),
        test: Option<Id>,
        entry: Id,
        at: u32,
    ) -> Parsed<Id> {
        let vars = self.two(var, second)?;
        let parts = self.map_loop(test, &[entry], "cel.@mapInsert", at)?;
        self.fold(range, vars, parts, at)
    }

    fn sort_by(&mut self, target: Id, var: Id, key: Id, at: u32) -> Parsed<Id> {
        let name = self.made_up();
        let list = self.ident(&name, at)?;
        let keys = self.gather(list, var, None, key, at)?;
        let list = self.ident(&name, at)?;
        let sorted = self
            .add(Node::Call { function: "@sortByAssociatedKeys".into(), target: Some(list), args: vec![keys] }, at)?;
        self.bind(name, target, sorted, at)
    }

    /// `has a value ? f(value) : none`, with the target worked out once.
    fn opt_map(&mut self, name: &str, target: Id, var: Id, value: Id, at: u32) -> Parsed<Id> {
        let var = self.simple(var)?;
        let optional = self.made_up();
        let present = self.optional_call("hasValue", &optional, at)?;
        let inner = self.optional_call("value", &optional, at)?;
        let bound = self.bind(var, inner, value, at)?;
        let yes = if name == "optMap" { self.call("optional.of", vec![bound], at)? } else { bound };
        let no = self.call("optional.none", Vec::new(), at)?;
        let whole = self.call("_?_:_", vec![present, yes, no], at)?;
        self.bind(optional, target, whole, at)
    }

    fn optional_call(&mut self, function: &str, variable: &Name, at: u32) -> Parsed<Id> {
        let target = self.ident(variable, at)?;
        self.add(Node::Call { function: function.into(), target: Some(target), args: Vec::new() }, at)
    }

    /// A name that no text can contain.
    fn made_up(&mut self) -> Name {
        self.fresh += 1;
        format!("@{}", self.fresh).into()
    }
}
