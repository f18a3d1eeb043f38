//! The harness of the end-to-end suites: starts built binaries, drives them with the real kubectl, and cleans up. And
//! [`differential`], which compares API servers by what they answer.
//!
//! Suites need root, kubectl, a registry, static busybox and perl. Without them they are skipped loudly, or fail when
//! `E2E_REQUIRED=1`.

mod cases;
mod cluster;
mod command;
mod compose;
pub mod differential;
mod etcd;
mod image;
mod many;
mod named;
mod separate;
mod separate_network;
mod separate_process;
mod skipped;
mod started;

pub use cases::{Case, Ground, play};
pub use cluster::Cluster;
pub use command::{Output, Run, eventually};
pub use compose::{COMPOSE_IMAGE, ComposeCluster, PARTS, Place, Writes, place, run_apart};
pub use etcd::Etcd;
pub use image::Registry;
pub use many::{IMAGE, ManyNodes};
pub use named::{NamedCluster, NamedClusters};
pub use rustix::process::Signal;
pub use separate::{MEMBERS, SECONDS, SeparateCluster, can_run_separate};
pub use separate_process::Member;
pub use skipped::skip;

use std::path::PathBuf;

/// What the suites need on the PATH.
const TOOLS: &[&str] = &["kubectl", "nft", "docker-registry", "skopeo", "busybox", "tar", "perl"];

/// Whether the suites can run here. Panics instead of answering "no" when `E2E_REQUIRED=1`.
pub fn can_run() -> bool {
    let mut missing: Vec<String> = TOOLS.iter().filter(|tool| !on_path(tool)).map(|tool| (*tool).to_owned()).collect();
    if !rustix::process::geteuid().is_root() {
        missing.push("root".to_owned());
    }
    if !binary("coracle").exists() {
        missing.push(format!("{} (cargo build --bins)", binary("coracle").display()));
    }
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var_os("E2E_REQUIRED").is_none(), "missing: {}", missing.join(", "));
    eprintln!("SKIP: missing: {}", missing.join(", "));
    false
}

/// The path of a built binary of the workspace; `CORACLE_BIN_DIR` names another directory of binaries.
pub fn binary(name: &str) -> PathBuf {
    if let Some(directory) = std::env::var_os("CORACLE_BIN_DIR") {
        return PathBuf::from(directory).join(name);
    }
    // Tests run from target/<profile>/deps.
    let own = std::env::current_exe().expect("a test knows its own path");
    own.ancestors().nth(2).expect("a test lies in target/<profile>/deps").join(name)
}

/// The folder of everything that is built.
pub(crate) fn target() -> PathBuf {
    let own = std::env::current_exe().expect("a test knows its own path");
    own.ancestors().nth(3).expect("a test lies in target/<profile>/deps").to_owned()
}

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

fn on_path(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(tool).is_file())
}
