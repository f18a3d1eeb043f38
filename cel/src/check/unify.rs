//! Which types go where: placeholders are filled in as they meet types.

use std::collections::HashMap;
use std::sync::Arc;

use crate::Name;
use crate::types::Type;

/// What placeholders stand for, as far as it is known.
#[derive(Default)]
pub(super) struct Substitution {
    found: Vec<Option<Type>>,
    /// What was known before each step, to take steps back.
    trail: Vec<(u32, Option<Type>)>,
}

/// A place to go back to.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    placeholders: usize,
    steps: usize,
}

impl Substitution {
    /// Where [`Self::rollback`] may go back to.
    pub(super) fn mark(&self) -> Mark {
        Mark { placeholders: self.found.len(), steps: self.trail.len() }
    }

    /// Forgets what was found since.
    pub(super) fn rollback(&mut self, mark: Mark) {
        for (var, before) in self.trail.drain(mark.steps..).rev() {
            self.found[var as usize] = before;
        }
        self.found.truncate(mark.placeholders);
    }

    fn set(&mut self, var: u32, found: Type) {
        let before = self.found[var as usize].replace(found);
        self.trail.push((var, before));
    }

    /// A type that is to be found out.
    pub(super) fn fresh(&mut self) -> Type {
        self.found.push(None);
        Type::Var(u32::try_from(self.found.len() - 1).unwrap_or(u32::MAX))
    }

    /// A signature's type with its parameters made placeholders, the same ones for the same names.
    pub(super) fn instantiate(&mut self, type_: &Type, names: &mut HashMap<Name, Type>) -> Type {
        match type_ {
            Type::Param(name) => {
                if let Some(known) = names.get(name) {
                    return known.clone();
                }
                let fresh = self.fresh();
                names.insert(name.clone(), fresh.clone());
                fresh
            }
            Type::List(items) => Type::list(self.instantiate(items, names)),
            Type::Optional(inner) => Type::optional(self.instantiate(inner, names)),
            Type::Type(of) => Type::of_type(self.instantiate(of, names)),
            Type::Map(keys, values) => {
                let keys = self.instantiate(keys, names);
                Type::map(keys, self.instantiate(values, names))
            }
            other => other.clone(),
        }
    }

    fn find(&self, var: u32) -> Option<&Type> {
        self.found.get(var as usize)?.as_ref()
    }

    /// The type with placeholders replaced; with `finally`, those that nobody knows become `dyn`.
    pub(super) fn resolve(&self, type_: &Type, finally: bool) -> Type {
        match type_ {
            Type::Var(var) => match self.find(*var) {
                Some(found) => self.resolve(found, finally),
                None if finally => Type::Dyn,
                None => type_.clone(),
            },
            Type::List(items) => Type::List(Arc::new(self.resolve(items, finally))),
            Type::Optional(inner) => Type::optional(self.resolve(inner, finally)),
            Type::Type(of) => Type::of_type(self.resolve(of, finally)),
            Type::Map(keys, values) => Type::map(self.resolve(keys, finally), self.resolve(values, finally)),
            other => other.clone(),
        }
    }

    /// Whether a value of type `found` may stand where `wanted` is; fills in placeholders.
    pub(super) fn assign(&mut self, wanted: &Type, found: &Type) -> bool {
        if let (Type::Var(one), Type::Var(two)) = (wanted, found)
            && one == two
        {
            return true;
        }
        if let Type::Var(var) = found {
            let (fits, done) = self.assign_var(*var, wanted, false);
            if done {
                return fits;
            }
        }
        if let Type::Var(var) = wanted {
            return self.assign_var(*var, found, true).0;
        }
        if wanted.is_dyn() || found.is_dyn() {
            return true;
        }
        match (wanted, found) {
            (Type::Null, other) | (other, Type::Null) => {
                matches!(other, Type::Null | Type::Object(_) | Type::Opaque(_) | Type::Duration | Type::Timestamp)
                    || matches!(other, Type::Optional(_))
            }
            (Type::List(one), Type::List(two)) | (Type::Optional(one), Type::Optional(two)) => self.assign(one, two),
            (Type::Map(keys, values), Type::Map(other_keys, other_values)) => {
                self.assign(keys, other_keys) && self.assign(values, other_values)
            }
            (Type::Type(_), Type::Type(_)) => true,
            (one, two) => one.same(two),
        }
    }

    /// A placeholder meets a type: whether they fit, and whether that is the last word.
    fn assign_var(&mut self, var: u32, other: &Type, last: bool) -> (bool, bool) {
        if let Some(known) = self.find(var).cloned() {
            let fits = self.assign(&known, other);
            if fits {
                let general = self.most_general(&known, other);
                if !self.mentions(&general, var) {
                    self.set(var, general);
                }
            }
            return (fits, true);
        }
        if self.mentions(other, var) {
            return (last && matches!(other, Type::Var(_)), last);
        }
        self.set(var, other.clone());
        (true, true)
    }

    fn mentions(&self, type_: &Type, var: u32) -> bool {
        match type_ {
            Type::Var(other) if *other == var => true,
            Type::Var(other) => self.find(*other).is_some_and(|found| self.mentions(found, var)),
            Type::List(inner) | Type::Optional(inner) | Type::Type(inner) => self.mentions(inner, var),
            Type::Map(keys, values) => self.mentions(keys, var) || self.mentions(values, var),
            _ => false,
        }
    }

    /// The one of two types that fit which says less.
    pub(super) fn most_general(&self, one: &Type, two: &Type) -> Type {
        if self.at_least_as_general(one, two) { one.clone() } else { two.clone() }
    }

    fn at_least_as_general(&self, one: &Type, two: &Type) -> bool {
        match (self.resolve(one, false), self.resolve(two, false)) {
            (Type::Dyn | Type::Error | Type::Var(_), _) => true,
            (_, Type::Dyn | Type::Error | Type::Var(_)) => false,
            (Type::Null, other) => matches!(other, Type::Null),
            (_, Type::Null) => true,
            (Type::List(one), Type::List(two)) | (Type::Optional(one), Type::Optional(two)) => {
                self.at_least_as_general(&one, &two)
            }
            (Type::Map(keys, values), Type::Map(other_keys, other_values)) => {
                self.at_least_as_general(&keys, &other_keys) && self.at_least_as_general(&values, &other_values)
            }
            _ => true,
        }
    }
}
