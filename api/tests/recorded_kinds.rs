//! Replays recorded creates, updates and merge patches of the reference server against the built-in kinds: what each
//! body becomes after defaulting and preparation, and which errors it gets.
//!
//! Needs the recordings (`CORACLE_REFERENCE`, by default `../shared` beside the workspace). Differences that are known
//! stand in `recorded_kinds.known`; the list may only shrink. `RECORDED_VERBOSE=<substring>` prints the differences
//! of matching steps.

mod recorded;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use recorded::{Outcome, Step};

const FILES: [&str; 8] = [
    "crds",
    "defaulting",
    "lifecycle-cluster",
    "lifecycle-core",
    "lifecycle-network-storage",
    "lifecycle-workloads",
    "subresources",
    "validation",
];

#[test]
fn built_in_kinds_default_and_refuse_as_recorded() {
    let Some(cases) = recorded::cases_directory() else { return };
    let known: BTreeSet<&str> = include_str!("recorded_kinds.known").lines().filter(|line| !line.is_empty()).collect();
    let verbose = std::env::var("RECORDED_VERBOSE").ok();
    let (mut failed, mut surprises) = (BTreeSet::new(), String::new());
    for file in FILES {
        let steps = recorded::steps(&cases, file);
        let mut passed = 0;
        let total = steps.len();
        for step in steps {
            let name = step.name.clone();
            match check(&step) {
                Ok(()) => passed += 1,
                Err(difference) => {
                    if verbose.as_ref().is_some_and(|part| name.contains(part.as_str())) {
                        eprintln!("--- {name}\n{difference}");
                    }
                    if !known.contains(name.as_str()) {
                        let _ = writeln!(surprises, "{name}");
                    }
                    failed.insert(name);
                }
            }
        }
        eprintln!("{file}: {passed} of {total} steps agree");
    }
    if let Ok(path) = std::env::var("RECORDED_WRITE") {
        let list: String = failed.iter().map(|name| format!("{name}\n")).collect();
        std::fs::write(path, list).expect("write the list of differences");
    }
    let fixed: Vec<&&str> = known.iter().filter(|name| !failed.contains(**name)).collect();
    assert!(surprises.is_empty(), "these steps differ and are not in recorded_kinds.known:\n{surprises}");
    assert!(fixed.is_empty(), "these steps agree now: take them off recorded_kinds.known: {fixed:#?}");
}

fn check(step: &Step) -> Result<(), String> {
    let outcome = recorded::replay(step);
    match (&step.expected, &outcome) {
        (Outcome::Stored(want), Outcome::Stored(got)) => recorded::compare(want, got),
        (Outcome::Refused(want), Outcome::Refused(got)) if want == got => Ok(()),
        (want, got) => Err(format!("want {want:#?}\ngot  {got:#?}")),
    }
}
