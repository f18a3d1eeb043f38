//! Amounts by resource (upstream: `v1.ResourceList` and its arithmetic in k8s.io/component-helpers/resource).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use serde_json::{Map, Value};

use crate::quantity::Quantity;

/// Amounts by the names of resources, as somebody's object says them.
pub type Amounts<'a> = BTreeMap<&'a str, Quantity>;

/// A list of amounts as it is written: of a type, or in a tree.
#[derive(Clone, Copy, Debug)]
pub enum List<'a> {
    /// A field of a type.
    Typed(&'a BTreeMap<String, Text>),
    /// A field of a tree.
    Tree(&'a Map<String, Value>),
}

impl<'a> List<'a> {
    /// What the list says. What is no quantity is left out: the API server lets none through.
    pub fn amounts(self) -> Amounts<'a> {
        match self {
            Self::Typed(list) => list.iter().filter_map(|(name, text)| Some((&**name, text.0.parse().ok()?))).collect(),
            Self::Tree(list) => list.iter().filter_map(|(name, it)| Some((&**name, Quantity::of_value(it)?))).collect(),
        }
    }

    /// The names that it gives an amount to.
    pub fn names(self) -> Box<dyn Iterator<Item = &'a str> + 'a> {
        match self {
            Self::Typed(list) => Box::new(list.keys().map(String::as_str)),
            Self::Tree(list) => Box::new(list.keys().map(String::as_str)),
        }
    }
}

/// What a list in a tree says.
pub fn read(tree: Option<&Value>) -> Amounts<'_> {
    tree.and_then(Value::as_object).map(|list| List::Tree(list).amounts()).unwrap_or_default()
}

/// Adds amounts to others.
pub fn add<'a>(total: &mut Amounts<'a>, more: &Amounts<'a>) {
    for (name, amount) in more {
        *total.entry(name).or_default() += *amount;
    }
}

/// Raises amounts to at least those of others.
pub fn raise<'a>(total: &mut Amounts<'a>, others: &Amounts<'a>) {
    for (name, amount) in others {
        let known = total.entry(name).or_insert(*amount);
        *known = (*known).max(*amount);
    }
}
