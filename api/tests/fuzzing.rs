//! A short run of every fuzz target on every build: seeds, and what chance makes of them. `fuzz/run` fuzzes for longer.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../fuzz/src/changes.rs"]
mod changes;
#[path = "../../fuzz/src/targets.rs"]
mod targets;

use std::fs;
use std::path::Path;

fn check(target: &str) {
    let seeds = match target {
        "kinds" => targets::seeds_of_kinds(),
        "protobuf" => targets::seeds_of_protobuf(),
        kept => changes::kept_seeds(env!("CARGO_MANIFEST_DIR"), kept),
    };
    changes::check(target, &seeds, |data| targets::run(target, data));
}

macro_rules! short_runs {
    ($($target:ident)*) => { $(
        #[test]
        fn $target() {
            check(stringify!($target));
        }
    )* };
}

short_runs! { json yaml protobuf kinds json_patch merge_patch strategic apply managed_fields selectors quantities jsonpath cel }

#[test]
fn every_target_is_run_here_and_by_the_fuzzer() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/Cargo.toml")).unwrap();
    let this = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzzing.rs")).unwrap();
    let runs = this.split("short_runs! { ").nth(1).unwrap().split(" }").next().unwrap();
    for (name, _) in targets::ALL {
        assert!(runs.split(' ').any(|run| run == *name), "{name} is not run here");
        assert!(text.contains(&format!("name = \"{name}\"")), "{name} is not a target of the fuzzer");
    }
}
