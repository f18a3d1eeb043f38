//! Lists with a bound, and without doubles (upstream: `validateSlice`, `validateSet` of
//! `pkg/apis/resource/validation`).

use std::collections::HashSet;

use super::tree::{Errors, Node};

/// A list with at most `most` elements, each by its own rule; a longer one is not looked at.
pub(crate) fn bounded(at: &Node<'_, '_>, most: usize, errors: &mut Errors, rule: impl Fn(&Node<'_, '_>, &mut Errors)) {
    let count = at.list().len();
    if count > most {
        errors.too_many(at, count, most);
        return;
    }
    for item in at.items() {
        rule(&item, errors);
    }
}

/// As [`bounded`], and no two elements may have the same key.
pub(crate) fn distinct(
    at: &Node<'_, '_>,
    most: usize,
    key: fn(&Node<'_, '_>) -> String,
    errors: &mut Errors,
    rule: impl Fn(&Node<'_, '_>, &mut Errors),
) {
    bounded(at, most, errors, rule);
    if at.list().len() > most {
        return;
    }
    let mut seen = HashSet::new();
    for item in at.items() {
        let key = key(&item);
        if !seen.insert(key.clone()) {
            errors.duplicate_value(&item, key);
        }
    }
}

pub(crate) fn name_of(at: &Node<'_, '_>) -> String {
    at.field("name").text().to_owned()
}

pub(crate) fn text_of(at: &Node<'_, '_>) -> String {
    at.text().to_owned()
}
