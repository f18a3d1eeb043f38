//! What calls cost, function by function.

use super::range::{CostRange, SizeRange};
use super::{Coster, FORMAT_PATTERN, REGEX_FACTOR, TEXT_FACTOR, authorizer_cost, equality, is_nominal, selector_cost};
use crate::ast::{Id, Literal, Node};
use crate::types::Type;

/// A call of one overload.
pub(super) struct Call<'c> {
    pub(super) function: &'c str,
    pub(super) overload: &'c str,
    pub(super) id: Id,
    pub(super) target: Option<Id>,
    pub(super) args: &'c [Id],
    pub(super) costs: &'c [CostRange],
}

/// A cost and the size of the result, where it is known.
type Estimate = (CostRange, Option<SizeRange>);

impl Coster<'_> {
    /// What the call costs with its arguments.
    pub(super) fn call_cost(&mut self, call: &Call<'_>) -> Estimate {
        let args = call.costs.iter().fold(CostRange::default(), |sum, cost| sum.add(*cost));
        if let Some((cost, size)) = self.library(call) {
            return (cost.add(args), size);
        }
        match (call.overload, call.costs) {
            ("logical_and" | "logical_or", [left, right]) => {
                // The right side may never be looked at.
                return (CostRange { min: left.min, max: left.add(*right).max }, None);
            }
            ("conditional", [condition, yes, no]) => {
                let [_, one, two] = call.args else { return (args, None) };
                let size = self.size_or_unknown(*one).union(self.size_or_unknown(*two));
                let entry = self.entry(*one).zip(self.entry(*two)).map(|(one, two)| one.union(two));
                self.set_entry(call.id, entry);
                return (condition.add(yes.union(*no)), Some(size));
            }
            _ => {}
        }
        let (cost, size) = self.standard(call).unwrap_or((CostRange::fixed(1), None));
        (cost.add(args), size)
    }

    fn standard(&mut self, call: &Call<'_>) -> Option<Estimate> {
        let size = |at: usize| call.args.get(at).map(|arg| self.size_or_unknown(*arg));
        let target = call.target.map(|target| self.size_or_unknown(target));
        Some(match call.overload {
            "string_to_bytes" => {
                let size = size(0)?;
                (size.by(TEXT_FACTOR), Some(SizeRange { min: size.min, max: size.max.saturating_mul(4) }))
            }
            "bytes_to_string" => {
                let size = size(0)?;
                (size.by(TEXT_FACTOR), Some(SizeRange { min: size.min / 4, max: size.max }))
            }
            "string_format" => {
                let whole = target?.plus(size(0)?);
                (target?.by(TEXT_FACTOR), Some(whole))
            }
            "strings_quote" => {
                let size = size(0)?;
                let quoted = |size: u64, factor: u64| size.saturating_mul(factor).saturating_add(2);
                (size.by(TEXT_FACTOR), Some(SizeRange { min: quoted(size.min, 1), max: quoted(size.max, 2) }))
            }
            "starts_with_string" | "ends_with_string" => (size(0)?.by(TEXT_FACTOR), None),
            "in_list" => (size(1)?.by(1.0), None),
            "matches_string" | "matches" => {
                let (text, pattern) = match target {
                    Some(text) => (text, size(0)?),
                    None => (size(0)?, size(1)?),
                };
                let length = text.plus(SizeRange::fixed(1)).by(TEXT_FACTOR);
                (length.multiply(pattern.by(REGEX_FACTOR)), None)
            }
            "contains_string" => (target?.by(TEXT_FACTOR).multiply(size(0)?.by(TEXT_FACTOR)), None),
            "add_string" | "add_bytes" | "add_list" => {
                let whole = size(0)?.plus(size(1)?);
                let [one, two] = call.args else { return None };
                let entry = self.entry(*one).zip(self.entry(*two)).map(|(one, two)| one.union(two));
                self.set_entry(call.id, entry);
                let cost = if call.overload == "add_list" { CostRange::fixed(1) } else { whole.by(TEXT_FACTOR) };
                (cost, Some(whole))
            }
            "equals"
            | "not_equals"
            | "less_string"
            | "greater_string"
            | "less_equals_string"
            | "greater_equals_string"
            | "less_bytes"
            | "greater_bytes"
            | "less_equals_bytes"
            | "greater_equals_bytes" => {
                let max = size(0)?.max.min(size(1)?.max);
                (SizeRange { min: u64::from(max > 0), max }.by(TEXT_FACTOR), None)
            }
            _ => return None,
        })
    }

    /// Functions that Kubernetes has costs of its own for.
    fn library(&self, call: &Call<'_>) -> Option<Estimate> {
        if let Some(cost) = authorizer_cost(call.function) {
            return Some((CostRange::fixed(cost), None));
        }
        if is_nominal(call.function) {
            return Some((CostRange::fixed(1), None));
        }
        let target = call.target.map(|target| self.size_or_unknown(target));
        let arg = |at: usize| call.args.get(at).map(|arg| self.size_or_unknown(*arg));
        match call.function {
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => self.list_walk(call, target?),
            "fieldSelector" | "labelSelector" => Some((selector_cost(arg(0)?), None)),
            "url" => Some((arg(0)?.by(TEXT_FACTOR), arg(0))),
            "validate" => {
                target?;
                let pattern = SizeRange::fixed(FORMAT_PATTERN).by(REGEX_FACTOR);
                Some((arg(0)?.by(TEXT_FACTOR).multiply(pattern), None))
            }
            "_==_" => self.comparison(call).map(|cost| (cost, None)),
            "lowerAscii" | "upperAscii" | "substring" | "trim" => Some((target?.by(TEXT_FACTOR), target)),
            "replace" => Some((target?.by(2.0 * TEXT_FACTOR), Some(replaced(target?, arg(0)?, arg(1)?)))),
            "split" => {
                let max = self.constant(call.args.get(1)).unwrap_or(target?.max);
                Some((target?.by(2.0 * TEXT_FACTOR), Some(SizeRange { min: 0, max })))
            }
            "join" => {
                let size = self.joined(call, target?);
                Some((size.by(TEXT_FACTOR), Some(size)))
            }
            "find" | "findAll" => {
                let length = target?.plus(SizeRange::fixed(1)).by(TEXT_FACTOR);
                let size = SizeRange { min: 0, max: target?.max };
                Some((length.multiply(arg(0)?.by(REGEX_FACTOR)), Some(size)))
            }
            "ip" if target.is_some() => Some((CostRange::fixed(1), None)),
            "containsIP" | "containsCIDR" => Some((containment(call, arg(0)?), None)),
            _ => None,
        }
    }

    /// What it costs to compare two values of one type that Kubernetes brings along.
    fn comparison(&self, call: &Call<'_>) -> Option<CostRange> {
        let [one, two] = call.args else { return None };
        match (self.type_(*one), self.type_(*two)) {
            (Type::Opaque(name), Type::Opaque(other)) if name == other => equality(name, self.size(*two)),
            _ => None,
        }
    }

    fn constant(&self, arg: Option<&Id>) -> Option<u64> {
        match self.checked.ast.node(*arg?) {
            Node::Literal(Literal::Int(number)) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// The size of a list's elements.
    fn element_size(&self, list: Id) -> Option<(Type, SizeRange)> {
        let Type::List(items) = &self.checked.types[list.0 as usize] else { return None };
        let mut path = self.path(list);
        let declared = if path.is_empty() {
            None
        } else {
            path.push("@items".into());
            self.declared_size(&path)
        };
        let fallback = if items.is_scalar() { SizeRange::fixed(1) } else { SizeRange::UNKNOWN };
        Some(((**items).clone(), declared.unwrap_or(fallback)))
    }

    fn list_walk(&self, call: &Call<'_>, size: SizeRange) -> Option<Estimate> {
        let Some((items, element)) = self.element_size(call.target?) else {
            return Some((size.by(TEXT_FACTOR), None));
        };
        let mut cost = CostRange::fixed(1);
        if matches!(items, Type::String | Type::Bytes) {
            cost = cost.add(element.by(TEXT_FACTOR));
        }
        Some((size.times(cost), None))
    }

    fn joined(&self, call: &Call<'_>, list: SizeRange) -> SizeRange {
        let elements = call.target.and_then(|target| self.element_size(target));
        let mut size = elements.map_or(SizeRange::fixed(0), |(_, element)| list.multiply(element));
        if let Some(separator) = call.args.first() {
            let between = SizeRange { min: list.min.saturating_sub(1), max: list.max.saturating_sub(1) };
            size = size.plus(self.size_or_unknown(*separator).multiply(between));
        }
        size
    }
}

fn containment(call: &Call<'_>, arg: SizeRange) -> CostRange {
    let address = SizeRange { min: 4, max: 16 };
    let mut cost = address.plus(address).by(TEXT_FACTOR);
    if call.function == "containsCIDR" {
        cost = cost.add(address.by(TEXT_FACTOR)).add(CostRange::fixed(1));
    }
    if call.overload.ends_with("_string") {
        cost = cost.add(arg.by(TEXT_FACTOR));
    }
    cost
}

/// How long a text can become when `from` in it is replaced by `to`.
fn replaced(text: SizeRange, from: SizeRange, to: SizeRange) -> SizeRange {
    let ratio = |one: u64, two: u64| (one as f64 / two as f64).ceil() as u64;
    let (count, kept) = if from.min == 0 {
        (text.max.saturating_add(1), text.max)
    } else if to.max <= from.min {
        (0, text.max)
    } else {
        (ratio(text.max, from.min), 0)
    };
    let max = count.saturating_mul(to.max).saturating_add(kept);
    let (count, kept) = if from.max == 0 {
        (text.min.saturating_add(1), text.min)
    } else if from.max <= to.min {
        (0, text.min)
    } else {
        (ratio(text.min, from.max), 0)
    };
    SizeRange { min: count.saturating_mul(to.min).saturating_add(kept), max }
}
