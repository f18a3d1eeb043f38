//! A short run of the fuzz target of this crate's files on every build. `fuzz/run` fuzzes for longer.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../fuzz/src/changes.rs"]
mod changes;
#[path = "../../fuzz/src/store_files.rs"]
mod store_files;

const TARGET: &str = "store_files";

#[test]
fn what_chance_does_to_files_is_refused_or_harmless() {
    let mut all = store_files::seeds();
    all.extend(changes::kept_seeds(env!("CARGO_MANIFEST_DIR"), TARGET));
    changes::check(TARGET, &all, store_files::run);
}

#[test]
fn the_target_is_one_of_the_fuzzer() {
    let manifest = include_str!("../../fuzz/Cargo.toml");
    assert!(manifest.contains(&format!("name = \"{TARGET}\"")));
}
