//! The house rules of `kinds`: which of its folders may name which.

use std::fs;
use std::path::{Path, PathBuf};

/// What is shared, from the ground up: each may name what stands before it, and groups may name all of it.
const SHARED: [&str; 3] = ["rules", "pods", "kind"];

fn kinds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kinds")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let name = |path: PathBuf| path.file_stem().map(|name| name.to_string_lossy().into_owned());
    entries.filter_map(name).filter(|name| name != "mod" && name != "tests").collect()
}

fn files(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_file() {
        found.push(path.to_owned());
    } else if path.is_dir() {
        fs::read_dir(path).expect("a folder").for_each(|entry| files(&entry.expect("an entry").path(), found));
    }
}

/// The files of a folder that name another one.
fn naming<'a>(room: &str, others: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut found = Vec::new();
    files(&kinds().join(room), &mut found);
    files(&kinds().join(format!("{room}.rs")), &mut found);
    assert!(!found.is_empty(), "{room} has no files");
    let paths: Vec<String> = others.map(|other| format!("kinds::{other}::")).collect();
    let mut wrong = Vec::new();
    for file in found {
        let text = fs::read_to_string(&file).expect("a text");
        assert!(!text.contains("super::super::super"), "{} climbs", file.display());
        let named = paths.iter().filter(|path| text.contains(path.as_str()));
        wrong.extend(named.map(|path| format!("{} names {path}", file.display())));
    }
    wrong
}

#[test]
fn a_group_names_no_other_group() {
    let all = names(&kinds());
    assert!(all.len() > 20 && SHARED.iter().all(|room| all.iter().any(|name| name == room)));
    let mut wrong = Vec::new();
    for (floor, room) in SHARED.iter().enumerate() {
        wrong.extend(naming(room, all.iter().filter(|name| !SHARED[..=floor].contains(&name.as_str()))));
    }
    for group in all.iter().filter(|name| !SHARED.contains(&name.as_str())) {
        wrong.extend(naming(group, all.iter().filter(|name| *name != group && !SHARED.contains(&name.as_str()))));
    }
    assert_eq!(wrong, Vec::<String>::new());
}
