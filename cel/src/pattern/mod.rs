//! Regular expressions as RE2 reads them, compiled once.

mod re2;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use regex::Regex;

/// How many compiled patterns are kept.
const KEPT: usize = 1000;
/// How much memory a compiled pattern may take.
const SIZE_LIMIT: usize = 1 << 20;

/// Compiles a pattern; or says in Go's words why it cannot be.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    let translated = re2::translate(pattern)?;
    let built = regex::RegexBuilder::new(&translated).size_limit(SIZE_LIMIT).build();
    // What is left is its size.
    built.map_err(|_| format!("error parsing regexp: expression too large: `{pattern}`"))
}

/// The pattern, compiled and kept; or why it cannot be.
pub(crate) fn compiled(pattern: &str) -> Result<Arc<Regex>, String> {
    static COMPILED: OnceLock<Mutex<HashMap<String, Arc<Regex>>>> = OnceLock::new();
    let lock = COMPILED.get_or_init(Mutex::default);
    if let Some(regex) = lock.lock().unwrap_or_else(PoisonError::into_inner).get(pattern) {
        return Ok(Arc::clone(regex));
    }
    let regex = Arc::new(compile(pattern)?);
    let mut cache = lock.lock().unwrap_or_else(PoisonError::into_inner);
    if cache.len() >= KEPT {
        cache.clear();
    }
    cache.insert(pattern.to_owned(), Arc::clone(&regex));
    Ok(regex)
}
