//! What the suites attack, and how often an attack got through: each test that plays one records its figures here, and
//! the `faults` program makes the table of FAULTS.md of them.
//!
//! Used by tests only. A record is a small text file below the target folder, one for each attack; the newest run of a
//! test replaces what an earlier one wrote.
#![forbid(unsafe_code)]

use std::fmt::{self, Write as _};
use std::path::PathBuf;
use std::{env, fs, io};

/// One attack: what was tried, how often, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attack {
    name: String,
    tried: u64,
    succeeded: u64,
    figures: Vec<(String, String)>,
}

impl Attack {
    /// An attack by its name (`store: bit flips in the log`), unique among all suites: the part that is attacked, a
    /// colon, and what is done to it.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), tried: 0, succeeded: 0, figures: Vec::new() }
    }

    /// So many tries, of which so many got through (a lost write, a silent reset, a right that nobody gave).
    #[must_use]
    pub fn tried(mut self, tried: u64, succeeded: u64) -> Self {
        (self.tried, self.succeeded) = (tried, succeeded);
        self
    }

    /// One more figure worth knowing: `figure("peak memory", "83 MiB")`.
    #[must_use]
    pub fn figure(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.figures.push((name.to_owned(), value.to_string()));
        self
    }

    /// Keeps the figures for the table, and fails the test if one try got through.
    ///
    /// # Panics
    /// When a try got through, or the record cannot be written.
    pub fn record(&self) {
        let path = folder().join(format!("{}.attack", slug(&self.name)));
        let write = || fs::create_dir_all(folder()).and_then(|()| fs::write(&path, self.to_text()));
        write().unwrap_or_else(|err| panic!("write {}: {err}", path.display()));
        assert_eq!(self.succeeded, 0, "{}: {} of {} got through", self.name, self.succeeded, self.tried);
    }

    fn to_text(&self) -> String {
        let mut text = format!("{}\n{}\n{}\n", self.name, self.tried, self.succeeded);
        for (name, value) in &self.figures {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "{name}\t{value}");
        }
        text
    }

    fn from_text(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let name = lines.next()?.to_owned();
        let tried = lines.next()?.parse().ok()?;
        let succeeded = lines.next()?.parse().ok()?;
        let figure = |line: &str| line.split_once('\t').map(|(name, value)| (name.to_owned(), value.to_owned()));
        Some(Self { name, tried, succeeded, figures: lines.map(figure).collect::<Option<_>>()? })
    }
}

/// Every attack on record, by name.
///
/// # Errors
/// When a record cannot be read, or is none.
pub fn recorded() -> io::Result<Vec<Attack>> {
    let mut attacks = Vec::new();
    let folder = folder();
    if !folder.exists() {
        return Ok(attacks);
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let damaged = || io::Error::other(format!("{} is no record of an attack", path.display()));
        attacks.push(Attack::from_text(&fs::read_to_string(&path)?).ok_or_else(damaged)?);
    }
    attacks.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(attacks)
}

/// The attacks as a table in Markdown.
pub fn table(attacks: &[Attack]) -> String {
    let mut text = String::from("| attack | tried | got through | figures |\n|---|---:|---:|---|\n");
    for attack in attacks {
        let figures: Vec<String> = attack.figures.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let _ =
            writeln!(text, "| {} | {} | {} | {} |", attack.name, attack.tried, attack.succeeded, figures.join("; "));
    }
    text
}

/// `target/faults`, wherever the target folder is.
fn folder() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target"))).join("faults")
}

fn slug(name: &str) -> String {
    name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_as_it_was_written() {
        let attack =
            Attack::new("store: bit flips").tried(70, 0).figure("lost writes", 0).figure("files", "log, index");
        assert_eq!(Attack::from_text(&attack.to_text()), Some(attack));
    }

    #[test]
    fn the_table_has_a_line_for_each_attack() {
        let attacks = [Attack::new("a: b").tried(3, 0).figure("kills", 4).figure("peak", "5 MiB")];
        assert!(table(&attacks).ends_with("| a: b | 3 | 0 | kills: 4; peak: 5 MiB |\n"));
    }
}
