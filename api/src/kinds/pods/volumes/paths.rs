//! Rules for paths and modes of files in volumes.

use crate::kinds::rules::tree::{Errors, Node};

/// The permission bits of a file.
pub(crate) fn mode(at: &Node<'_, '_>, errors: &mut Errors) {
    if at.integer().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        errors.invalid(at, "must be a number between 0 and 0777 (octal), both inclusive");
    }
}

/// The path of a file in a volume, whose own names begin with two dots.
pub(crate) fn local_path(path: &Node<'_, '_>, errors: &mut Errors) {
    if errors.require_text(path) {
        descending_path(path, errors);
        if path.text().starts_with("..") && !path.text().starts_with("../") {
            errors.invalid(path, "must not start with '..'");
        }
    }
}

/// A relative path that never goes up.
pub(crate) fn descending_path(path: &Node<'_, '_>, errors: &mut Errors) {
    if path.text().starts_with('/') {
        errors.invalid(path, "must be a relative path");
    }
    no_back_steps(path, errors);
}

/// A path without `..`.
pub(crate) fn no_back_steps(path: &Node<'_, '_>, errors: &mut Errors) {
    if has_back_steps(path.text()) {
        errors.invalid(path, "must not contain '..'");
    }
}

/// Whether a path goes up somewhere.
pub(crate) fn has_back_steps(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}
