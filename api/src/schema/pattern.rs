//! Patterns of texts, compiled once.

use std::sync::OnceLock;

use regex::Regex;

/// A regular expression, compiled when it is first needed.
#[derive(Debug)]
pub struct Pattern {
    source: String,
    compiled: OnceLock<Result<Regex, String>>,
}

impl Pattern {
    /// A pattern as its author wrote it.
    pub fn new(source: &str) -> Self {
        Self { source: source.to_owned(), compiled: OnceLock::new() }
    }

    /// As written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether a text has a match; an error when the pattern is none, or would be too large.
    pub fn is_match(&self, text: &str) -> Result<bool, &str> {
        self.regex().map(|regex| regex.is_match(text))
    }

    /// Why the pattern cannot be used.
    pub fn error(&self) -> Option<&str> {
        self.regex().err()
    }

    fn regex(&self) -> Result<&Regex, &str> {
        self.compiled.get_or_init(|| cel::compile_pattern(&self.source)).as_ref().map_err(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_those_of_ascii() {
        assert_eq!(Pattern::new(r"^\d+$").is_match("12"), Ok(true));
        assert_eq!(Pattern::new(r"^\d+$").is_match("\u{661}"), Ok(false));
    }

    #[test]
    fn patterns_that_would_be_huge_are_refused() {
        assert!(Pattern::new("((a{1000}){1000}){1000}").error().is_some());
        assert_eq!(Pattern::new("(a").error(), Some("error parsing regexp: missing closing ): `(a`"));
    }
}
