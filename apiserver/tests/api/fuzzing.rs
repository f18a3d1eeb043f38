//! A short run of this crate's fuzz targets on every build. `fuzz/run` fuzzes for longer.

use apiserver::fuzzing::{TARGETS, seeds};

use crate::{changes, slow_clients};

#[test]
fn what_chance_makes_of_seeds_harms_nothing() {
    for (name, target) in TARGETS {
        let mut all = seeds(name);
        all.extend(changes::kept_seeds(env!("CARGO_MANIFEST_DIR"), name));
        changes::check(name, &all, target);
    }
}

#[test]
fn slow_clients_are_held_on_to_for_no_longer_than_is_said_and_take_nothing_with_them() {
    let mut all = slow_clients::seeds();
    all.extend(changes::kept_seeds(env!("CARGO_MANIFEST_DIR"), "slow_clients"));
    changes::check("slow_clients", &all, slow_clients::run);
}

#[test]
fn every_target_is_one_of_the_fuzzer() {
    let manifest = include_str!("../../../fuzz/Cargo.toml");
    for name in TARGETS.iter().map(|(name, _)| *name).chain(["slow_clients"]) {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not a target of the fuzzer");
    }
}
