//! All fuzz targets: those of the `api` crate, which are here, and those that the other crates bring along.

pub mod slow_clients;
pub mod store_files;
pub mod swapped_paths;
pub mod targets;

/// A target, and what makes its seeds.
type Attack = (targets::FuzzTarget, fn() -> Vec<Vec<u8>>);

/// Targets of what is done to a component, rather than sent to it.
const ATTACKS: &[Attack] = &[
    (("slow_clients", slow_clients::run), slow_clients::seeds),
    (("store_files", store_files::run), store_files::seeds),
    (("swapped_paths", swapped_paths::run), swapped_paths::seeds),
];

/// Runs the target of that name.
///
/// # Panics
/// When there is none.
pub fn run(name: &str, data: &[u8]) {
    let attacks = ATTACKS.iter().map(|(target, _)| target);
    let all = targets::ALL.iter().chain(apiserver::fuzzing::TARGETS).chain(kubelet::fuzzing::TARGETS).chain(attacks);
    let (_, target) = all.copied().find(|(known, _)| *known == name).expect("a target of this name");
    target(data);
}

/// The seeds that are made rather than kept, with the targets that they are of.
pub fn seeds() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let mut seeds = vec![("kinds", targets::seeds_of_kinds()), ("protobuf", targets::seeds_of_protobuf())];
    seeds.extend(apiserver::fuzzing::TARGETS.iter().map(|(name, _)| (*name, apiserver::fuzzing::seeds(name))));
    seeds.extend(kubelet::fuzzing::TARGETS.iter().map(|(name, _)| (*name, kubelet::fuzzing::seeds(name))));
    seeds.extend(ATTACKS.iter().map(|((name, _), seeds)| (*name, seeds())));
    seeds
}
