//! The house rules that a compiler does not check: which crate may use which, that files can be read from the ground up,
//! that what is declared is used, and that every test file is compiled.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand, Package};

mod circles;
mod differences;
mod words;

/// Which of our crates a crate may use (development dependencies exempt). ARCHITECTURE.md says why.
const MAY_USE: &[(&str, &[&str])] = &[
    ("cel", &[]),
    ("facts", &[]),
    ("api", &["cel", "facts"]),
    ("store", &[]),
    ("host", &[]),
    ("daemon", &["host"]),
    ("runtime", &["host"]),
    ("client", &["facts", "daemon", "host"]),
    ("apiserver", &["api", "cel", "facts", "store", "daemon", "host"]),
    ("controllers", &["api", "facts", "client", "daemon"]),
    ("scheduler", &["api", "facts", "client", "daemon"]),
    ("kubelet", &["api", "facts", "client", "daemon", "runtime"]),
    ("network", &["facts", "client", "daemon", "host"]),
    ("proxy", &["api", "facts", "client", "daemon", "host"]),
    ("policy", &["facts", "client", "daemon", "host"]),
    ("announce", &["facts", "client", "daemon", "host", "runtime"]),
    ("dns", &["api", "facts", "client", "daemon"]),
    ("provisioner", &["api", "client", "daemon", "runtime"]),
    (
        "cluster",
        &[
            "api",
            "facts",
            "store",
            "host",
            "daemon",
            "runtime",
            "client",
            "apiserver",
            "controllers",
            "scheduler",
            "kubelet",
            "network",
            "proxy",
            "policy",
            "announce",
            "dns",
            "provisioner",
        ],
    ),
    (
        "coracle",
        &[
            "cluster",
            "api",
            "store",
            "host",
            "daemon",
            "runtime",
            "client",
            "apiserver",
            "controllers",
            "scheduler",
            "kubelet",
            "network",
            "proxy",
            "policy",
            "announce",
            "dns",
            "provisioner",
        ],
    ),
    ("e2e", &["api"]),
    ("bench", &["api"]),
    ("faults", &[]),
    ("simulation", &["facts", "store", "daemon", "client", "apiserver", "controllers", "scheduler"]),
];

/// What must stay out of a crate beside our own crates.
const MUST_NOT_USE: &[(&str, &[&str])] = &[
    ("facts", &["tokio", "hyper", "axum", "kube", "rand", "reqwest"]),
    ("api", &["tokio", "hyper", "axum", "kube", "rand", "reqwest"]),
    ("store", &["serde_json", "axum", "kube", "k8s-openapi"]),
    ("runtime", &["kube", "k8s-openapi", "axum"]),
];

fn workspace() -> cargo_metadata::Metadata {
    MetadataCommand::new().manifest_path(root().join("Cargo.toml")).no_deps().exec().unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn short(name: &str) -> &str {
    name.strip_prefix("coracle-").unwrap_or(name)
}

#[test]
fn crates_use_only_what_lies_below_them() {
    for package in workspace().packages {
        let name = short(&package.name).to_owned();
        let (_, allowed) = MAY_USE
            .iter()
            .find(|(crate_name, _)| *crate_name == name)
            .unwrap_or_else(|| panic!("{name} is not in MAY_USE"));
        let forbidden =
            MUST_NOT_USE.iter().find(|(crate_name, _)| *crate_name == name).map_or(&[][..], |(_, list)| list);
        for dependency in
            package.dependencies.iter().filter(|dependency| dependency.kind != DependencyKind::Development)
        {
            if let Some(ours) = dependency.name.strip_prefix("coracle-") {
                assert!(allowed.contains(&ours), "{name} may not use {ours}");
            }
            assert!(!forbidden.contains(&dependency.name.as_str()), "{name} may not use {}", dependency.name);
        }
    }
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    for package in workspace().packages {
        let manifest = fs::read_to_string(&package.manifest_path).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{}", package.manifest_path);
    }
}

#[test]
fn unsafe_code_is_in_one_place() {
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        let path = file.strip_prefix(root()).unwrap().to_owned();
        // The simulation stands in for two functions of the C library. It is linked into tests only.
        let allowed = path.starts_with("runtime/src/sys")
            || path.starts_with("coracle/tests/architecture")
            || path.ends_with("simulation/src/world.rs");
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let uses = code
            .filter(|line| line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl"))
            .count();
        assert!(allowed || uses == 0, "{} has unsafe code", path.display());
    }
}

/// What lies in the store is whole because few write there. Stores around the store only pass on what they are given.
#[test]
fn only_the_registry_and_the_addresses_of_services_write_to_the_store() {
    const WRITERS: [&str; 2] = ["registry", "service_addresses"];
    const AROUND: [&str; 2] = ["encryption/sealed.rs", "metrics/measured.rs"];
    let server = root().join("apiserver/src");
    let may_write = |path: &Path| WRITERS.iter().chain(&AROUND).any(|allowed| path.starts_with(allowed));
    let mut writers = BTreeSet::new();
    for file in sources().iter().filter(|file| file.starts_with(&server)) {
        let text = fs::read_to_string(file).unwrap();
        let product = text.split("#[cfg(test)]").next().unwrap();
        let writes = |line: &str| {
            let to_store = ["store.put(", "store.delete(", "store().put(", "store().delete("];
            line.contains("Expected::") || to_store.iter().any(|call| line.contains(call))
        };
        if product.lines().any(writes) {
            let path = file.strip_prefix(&server).unwrap();
            assert!(may_write(path), "{} writes to the store", path.display());
            writers.insert(path.iter().next().unwrap().to_owned());
        }
    }
    assert!(
        WRITERS.iter().all(|name| writers.contains(std::ffi::OsStr::new(name))),
        "what writes is found: {writers:?}"
    );
}

/// A file that no `mod` line names is never compiled, and its tests never run.
#[test]
fn every_source_file_is_in_a_module() {
    for file in sources() {
        let stem = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let directory = file.parent().unwrap();
        let is_target = ["lib", "main", "build"].contains(&stem.as_str())
            || ["tests", "benches", "examples", "bin", "fuzz_targets"].iter().any(|name| {
                directory.ends_with(name)
                    && directory
                        .parent()
                        .is_some_and(|above| above.join("Cargo.toml").exists() || above.ends_with("src"))
            });
        if is_target {
            continue;
        }
        let (module, home) = if stem == "mod" {
            (directory.file_name().unwrap().to_str().unwrap().to_owned(), directory.parent().unwrap().to_owned())
        } else {
            (stem, directory.to_owned())
        };
        let name = home.file_name().unwrap().to_str().unwrap();
        let parents =
            [home.join("mod.rs"), home.join("lib.rs"), home.join("main.rs"), home.with_file_name(format!("{name}.rs"))];
        let above: BTreeSet<PathBuf> =
            parents.into_iter().chain(siblings(&home)).filter(|path| path.exists()).collect();
        // A `#[path]` may name it from anywhere in its crate.
        let by_path = format!("/{}\"]", file.file_name().unwrap().to_str().unwrap());
        let named = || sources().iter().any(|other| fs::read_to_string(other).unwrap().contains(&by_path));
        let declared = above.iter().any(|parent| {
            let text = fs::read_to_string(parent).unwrap();
            text.lines()
                .map(str::trim)
                .any(|line| line.ends_with(&format!("mod {module};")) || line.contains(&format!("{module}.rs\"")))
        });
        assert!(declared || named(), "{} is in no module", file.display());
    }
}

/// Test and bench crates name their modules in any root beside them.
fn siblings(directory: &Path) -> Vec<PathBuf> {
    let roots = ["tests", "benches", "src"].iter().any(|name| directory.ends_with(name));
    if !roots {
        return Vec::new();
    }
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "rs"))
        .collect()
}

fn sources() -> Vec<PathBuf> {
    workspace().packages.iter().flat_map(|package| words::sources(&home(package))).collect()
}

/// The folder of a crate.
fn home(package: &Package) -> PathBuf {
    package.manifest_path.parent().unwrap().as_std_path().to_owned()
}

#[test]
fn no_file_needs_itself_by_way_of_others() {
    let mut found = Vec::new();
    for package in workspace().packages {
        for circle in circles::circles(&home(&package).join("src")) {
            found.push(format!("{}: {}", package.name, circle.join(", ")));
        }
    }
    assert!(found.is_empty(), "files in circles:\n{}", found.join("\n"));
}

#[test]
fn the_module_of_a_folder_is_in_the_folder() {
    let beside =
        |file: &PathBuf| file.with_extension("").is_dir() && file.components().any(|part| part.as_os_str() == "src");
    let found: Vec<_> = sources().into_iter().filter(beside).collect();
    assert!(found.is_empty(), "beside their folders: {found:?}");
}

/// What documents and comments call a place of the repository, such as `api/src/kinds`, is one.
#[test]
fn the_places_that_texts_name_exist() {
    let documents = fs::read_dir(root()).unwrap().chain(fs::read_dir(root().join("apiserver/tests")).unwrap());
    let documents = documents.map(|entry| entry.unwrap().path());
    let documents = documents.filter(|path| path.extension().is_some_and(|kind| kind == "md"));
    let mut found = Vec::new();
    for file in sources().into_iter().chain(documents).filter(|file| !file.ends_with("CHANGELOG.md")) {
        let is_document = file.extension().is_some_and(|kind| kind == "md");
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().filter(|line| is_document || line.trim_start().starts_with("//"));
        for place in lines.flat_map(|line| line.split('`').skip(1).step_by(2)) {
            let place = place.split(':').next().unwrap();
            let is_ours = place.split('/').nth(1).is_some_and(|folder| ["src", "tests"].contains(&folder));
            let is_place = is_ours
                && !place.contains([' ', '<', '*', '{'])
                && root().join(place.split('/').next().unwrap()).is_dir();
            if is_place && !root().join(place).exists() {
                found.push(format!("{}: {place}", file.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Dependencies that are named in files which a crate includes from elsewhere.
const NAMED_ELSEWHERE: &[(&str, &str)] = &[
    ("e2e", "hyper"),
    ("e2e", "hyper-util"),
    ("e2e", "prost"),
    ("e2e", "tonic"),
    ("e2e", "tonic-prost"),
    ("runtime", "proptest"),
    ("store", "serde_json"),
];

#[test]
fn every_dependency_is_used() {
    let mut unused = Vec::new();
    for package in workspace().packages {
        let folders = |names: &[&str]| names.iter().map(|name| home(&package).join(name)).collect::<Vec<_>>();
        let product = words::words(&folders(&["src", "fuzz_targets"]));
        let tests = words::words(&folders(&["src", "tests", "benches", "examples"]));
        for dependency in &package.dependencies {
            let name = dependency.rename.clone().unwrap_or_else(|| dependency.name.clone()).replace('-', "_");
            let used = match dependency.kind {
                DependencyKind::Normal => product.contains(&name),
                DependencyKind::Build => true,
                _ => tests.contains(&name),
            };
            if !used && !NAMED_ELSEWHERE.contains(&(short(&package.name), dependency.name.as_str())) {
                unused.push(format!("{} declares {} and never names it", package.name, dependency.name));
            }
        }
    }
    assert!(unused.is_empty(), "{}", unused.join("\n"));
}

/// Where a task may be started that no supervisor, set or guard owns, or where a thread may sleep, and why.
const ON_THEIR_OWN: &[(&str, &str)] = &[
    ("cluster/src/link.rs", "the connection's task is aborted when the question is answered"),
    (
        "cluster/src/named/record.rs",
        "waits for the file lock of another process, for a bounded time, before anything runs",
    ),
    ("cluster/src/testing.rs", "the cluster's tasks are awaited when it stops"),
    ("daemon/src/process.rs", "the delay between the signal and the drain ends with the process"),
    ("daemon/src/signals.rs", "signals are heard as long as the process lives"),
    ("host/src/claim.rs", "waits for the file lock of another process, on a thread of its own, for a bounded time"),
    ("runtime/src/cgroup/mod.rs", "the kernel empties a cgroup a moment after its last process; on a blocking thread"),
    ("runtime/src/network/link.rs", "the connection's task is aborted with its owner"),
    ("store/src/embedded/disk/files.rs", "a test delays a disk; nothing else asks for it"),
];

#[test]
fn tasks_have_owners_and_threads_do_not_sleep() {
    let mut found = Vec::new();
    for package in workspace().packages {
        if ["e2e", "bench", "faults"].contains(&short(&package.name)) {
            continue;
        }
        for file in words::sources(&home(&package).join("src")) {
            let path = file.strip_prefix(root()).unwrap().display().to_string();
            let is_test = path.ends_with("tests.rs") || path.contains("/tests/") || path.contains("fuzzing");
            let product = words::product(&file);
            if !is_test && ON_THEIR_OWN.iter().all(|(file, _)| *file != path) {
                let product = product.replace("AbortOnDropHandle::new(tokio::spawn(", "");
                let bad = ["tokio::spawn(", "thread::sleep("].iter().filter(|call| product.contains(*call));
                found.extend(bad.map(|call| format!("{path}: {call}..)")));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
