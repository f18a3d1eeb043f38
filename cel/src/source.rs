//! The text of an expression, and mistakes in it as they are shown: with line, column and the line itself.

use std::fmt;

/// A mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Where, in characters from the start; `None` when the whole is meant.
    pub offset: Option<u32>,
    pub message: String,
}

/// The mistakes of an expression, in the order of the text. Prints them all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issues {
    text: String,
    issues: Vec<Issue>,
}

/// About how many bytes of text are shown around mistakes: each comes with its whole line.
const SHOWN: usize = 64 * 1024;

impl Issues {
    pub(crate) fn new(text: &str, mut issues: Vec<Issue>) -> Self {
        issues.sort_by_key(|issue| issue.offset);
        issues.dedup();
        issues.truncate((SHOWN / (text.len() + 1)).max(1));
        Self { text: text.to_owned(), issues }
    }

    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = &Issue> {
        self.issues.iter()
    }
}

impl std::error::Error for Issues {}

impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, issue) in self.issues.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            show(issue, &self.text, f)?;
        }
        Ok(())
    }
}

fn show(issue: &Issue, text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(offset) = issue.offset else { return write!(f, "ERROR: <input>:-1:0: {}", issue.message) };
    let offset = offset as usize;
    let (mut line, mut start) = (1, 0);
    for (at, c) in text.chars().enumerate().take(offset) {
        if c == '\n' {
            (line, start) = (line + 1, at + 1);
        }
    }
    let shown: String = text.chars().skip(start).take_while(|c| *c != '\n').collect();
    write!(f, "ERROR: <input>:{line}:{}: {}", offset - start + 1, issue.message)?;
    write!(f, "\n | {}\n | ", shown.replace('\t', " "))?;
    for c in shown.chars().take(offset - start) {
        f.write_str(if c.len_utf8() > 1 { "\u{ff0e}" } else { "." })?;
    }
    (shown.chars().count()..offset - start).try_for_each(|_| f.write_str("."))?;
    f.write_str("^")
}
