//! Which behaviours of the conformance suite have no test here.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use api::codec::yaml;

/// Behaviours without a test, by the beginning of their names, and why.
const EXCEPTIONS: &[(&str, &str)] = &[
    (
        "[sig-architecture] Conformance Tests should have at least two untainted nodes",
        "is about the cluster under test",
    ),
    ("[sig-cli] Kubectl client Guestbook application", "needs images of its own from a registry"),
    ("[sig-cli] Kubectl logs logs should be able to retrieve and filter logs", "needs running containers: e2e"),
];

#[test]
fn every_behaviour_has_a_test_that_cites_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let reference = std::env::var_os("CORACLE_REFERENCE").map_or_else(|| root.join("../shared"), PathBuf::from);
    let file = reference.join("reference/conformance-v1.36.yaml");
    let Ok(text) = fs::read(&file) else {
        eprintln!("SKIP: no list of behaviours at {} (set CORACLE_REFERENCE)", file.display());
        return;
    };
    let behaviours = yaml::parse(&text).unwrap().0.into_value();
    let names = behaviours.as_array().unwrap().iter().map(|behaviour| behaviour["codename"].as_str().unwrap());
    let cited = cited(&root);
    let is_excepted = |name: &str| EXCEPTIONS.iter().any(|(beginning, _)| name.starts_with(beginning));
    let missing: Vec<&str> = names.filter(|name| !cited.contains(*name) && !is_excepted(name)).collect();
    assert!(missing.is_empty(), "{} behaviours have no test:\n{}", missing.len(), missing.join("\n"));
}

/// The codenames after `Conformance:` in comments of our tests; one may go on over several lines.
fn cited(root: &Path) -> BTreeSet<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        rust_files(&entry.unwrap().path().join("tests"), &mut files);
    }
    let mut cited = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        let comments = text.lines().map(|line| line.trim().strip_prefix("///").map_or("\n", str::trim_start));
        let joined = comments.collect::<Vec<_>>().join(" ");
        for rest in joined.split("Conformance: ").skip(1) {
            if let Some(end) = rest.find("[Conformance]") {
                cited.insert(rest[..end + "[Conformance]".len()].to_owned());
            }
        }
    }
    cited
}

fn rust_files(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
