//! A short run of this crate's fuzz targets on every build. `fuzz/run` fuzzes for longer.

use apiserver::fuzzing::{TARGETS, seeds};

use crate::changes;

#[test]
fn what_chance_makes_of_seeds_harms_nothing() {
    for (name, target) in TARGETS {
        let mut all = seeds(name);
        all.extend(changes::kept_seeds(env!("CARGO_MANIFEST_DIR"), name));
        changes::check(name, &all, target);
    }
}

#[test]
fn every_target_is_one_of_the_fuzzer() {
    let manifest = include_str!("../../../fuzz/Cargo.toml");
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not a target of the fuzzer");
    }
}
