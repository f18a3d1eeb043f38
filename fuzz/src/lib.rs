//! All fuzz targets: those of the `api` crate, which are here, and those that the other crates bring along.

pub mod targets;

/// Runs the target of that name.
///
/// # Panics
/// When there is none.
pub fn run(name: &str, data: &[u8]) {
    let all = targets::ALL.iter().chain(apiserver::fuzzing::TARGETS).chain(kubelet::fuzzing::TARGETS);
    let (_, target) = all.copied().find(|(known, _)| *known == name).expect("a target of this name");
    target(data);
}

/// The seeds that are made rather than kept, with the targets that they are of.
pub fn seeds() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let mut seeds = vec![("kinds", targets::seeds_of_kinds()), ("protobuf", targets::seeds_of_protobuf())];
    seeds.extend(apiserver::fuzzing::TARGETS.iter().map(|(name, _)| (*name, apiserver::fuzzing::seeds(name))));
    seeds.extend(kubelet::fuzzing::TARGETS.iter().map(|(name, _)| (*name, kubelet::fuzzing::seeds(name))));
    seeds
}
