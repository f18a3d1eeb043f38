//! Regular expressions as RE2 reads them, compiled once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use regex::Regex;

/// How many compiled patterns are kept.
const KEPT: usize = 1000;
/// How much memory a compiled pattern may take.
const SIZE_LIMIT: usize = 1 << 20;

/// The pattern, compiled; or why it cannot be.
pub(crate) fn compiled(pattern: &str) -> Result<Arc<Regex>, String> {
    static COMPILED: OnceLock<Mutex<HashMap<String, Arc<Regex>>>> = OnceLock::new();
    let lock = COMPILED.get_or_init(Mutex::default);
    if let Some(regex) = lock.lock().unwrap_or_else(PoisonError::into_inner).get(pattern) {
        return Ok(Arc::clone(regex));
    }
    let built = regex::RegexBuilder::new(&ascii_classes(pattern)).size_limit(SIZE_LIMIT).build();
    let regex = Arc::new(built.map_err(|_| format!("error parsing regexp: `{pattern}`"))?);
    let mut cache = lock.lock().unwrap_or_else(PoisonError::into_inner);
    if cache.len() >= KEPT {
        cache.clear();
    }
    cache.insert(pattern.to_owned(), Arc::clone(&regex));
    Ok(regex)
}

/// The pattern with the classes of letters and digits that RE2 means by `\d`, `\w`, `\s` and `\b`: those of ASCII.
pub fn ascii_classes(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('d') => out.push_str("[0-9]"),
            Some('D') => out.push_str("[^0-9]"),
            Some('w') => out.push_str("[0-9A-Za-z_]"),
            Some('W') => out.push_str("[^0-9A-Za-z_]"),
            Some('s') => out.push_str(r"[\t\n\f\r ]"),
            Some('S') => out.push_str(r"[^\t\n\f\r ]"),
            Some('b') => out.push_str(r"(?-u:\b)"),
            Some('B') => out.push_str(r"(?-u:\B)"),
            Some('z') => out.push_str(r"\z"),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}
