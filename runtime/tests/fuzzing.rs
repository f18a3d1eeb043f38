//! A short run of the fuzz target of paths that others change on every build. `fuzz/run` fuzzes for longer.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../fuzz/src/changes.rs"]
mod changes;
#[path = "../../fuzz/src/swapped_paths.rs"]
mod swapped_paths;

const TARGET: &str = "swapped_paths";

#[test]
fn what_chance_makes_of_swaps_leads_nowhere_else() {
    let mut all = swapped_paths::seeds();
    all.extend(changes::kept_seeds(env!("CARGO_MANIFEST_DIR"), TARGET));
    changes::check(TARGET, &all, swapped_paths::run);
}

#[test]
fn the_target_is_one_of_the_fuzzer() {
    let manifest = include_str!("../../fuzz/Cargo.toml");
    assert!(manifest.contains(&format!("name = \"{TARGET}\"")));
}
