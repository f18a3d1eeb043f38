//! The house rules that a compiler does not check: which crate may use which, and that every test file is compiled.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Which of our crates a crate may use (development dependencies exempt). ARCHITECTURE.md says why.
const MAY_USE: &[(&str, &[&str])] = &[
    ("cel", &[]),
    ("facts", &[]),
    ("api", &["cel", "facts"]),
    ("store", &[]),
    ("host", &[]),
    ("daemon", &["host"]),
    ("runtime", &["host"]),
    ("client", &["api", "daemon"]),
    ("apiserver", &["api", "cel", "facts", "store", "daemon", "host"]),
    ("controllers", &["api", "facts", "client", "daemon"]),
    ("scheduler", &["api", "facts", "client", "daemon"]),
    ("kubelet", &["api", "client", "daemon", "runtime"]),
    ("proxy", &["api", "client", "daemon", "host"]),
    ("dns", &["api", "client", "daemon"]),
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
            "proxy",
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
            "proxy",
            "dns",
            "provisioner",
        ],
    ),
    ("e2e", &["api"]),
    ("bench", &["api"]),
    ("faults", &[]),
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
        let allowed = path.starts_with("runtime/src/sys") || path.ends_with("architecture.rs");
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
    let mut files = Vec::new();
    for package in workspace().packages {
        collect(package.manifest_path.parent().unwrap().as_std_path(), &mut files);
    }
    files
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, files);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            files.push(path);
        }
    }
}
