//! The words of a crate's code, comments left out.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The Rust files below a directory, build output left out.
pub(crate) fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    collect(directory, &mut files);
    files
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, files);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            files.push(path);
        }
    }
}

/// The lines of a file that are no comments.
pub(crate) fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The code of a file without its tests: what stands before its first `#[cfg(test)]` on a module.
pub(crate) fn product(file: &Path) -> String {
    let code = code(file);
    let end = code.find("#[cfg(test)]\nmod ").unwrap_or(code.len());
    code[..end].to_owned()
}

/// Every identifier and keyword in the code below the directories.
pub(crate) fn words(directories: &[PathBuf]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in directories.iter().flat_map(|directory| sources(directory)) {
        let code = code(&file);
        let words = code.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        found.extend(words.filter(|word| !word.is_empty()).map(str::to_owned));
    }
    found
}
