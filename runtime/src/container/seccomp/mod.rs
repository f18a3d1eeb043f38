//! seccomp filters: the default one, profiles from files, and their translation to BPF (upstream: libcontainer/seccomp
//! of runc).

mod bpf;
mod default;
mod profile;
mod table;
pub(crate) mod watched;

use std::os::fd::OwnedFd;
use std::path::Path;

use super::spec::Watch;
use super::{During as _, StageResult};
use crate::{Error, Seccomp, sys};

/// The filter for a container with these capabilities, packed for the spec; empty for none.
pub(crate) fn program(seccomp: &Seccomp, privileged: bool, capabilities: u64) -> Result<Vec<u64>, Error> {
    let filter = match seccomp {
        Seccomp::Unconfined => return Ok(Vec::new()),
        // As upstream, a privileged container has no default filter.
        Seccomp::RuntimeDefault if privileged => return Ok(Vec::new()),
        Seccomp::RuntimeDefault => default::filter(capabilities),
        Seccomp::Localhost(path) => read_profile(path, capabilities)?,
    };
    bpf::compile(&filter).map_err(|reason| Error::Invalid { field: "securityContext.seccompProfile", reason })
}

fn read_profile(path: &Path, capabilities: u64) -> Result<bpf::Filter, Error> {
    let io = |source| Error::Io { operation: "read seccomp profile", path: path.to_owned(), source };
    let text = std::fs::read(path).map_err(io)?;
    profile::parse(&text, capabilities).map_err(|reason| Error::Invalid {
        field: "securityContext.seccompProfile.localhostProfile",
        reason: format!("{}: {reason}", path.display()),
    })
}

/// Puts a packed filter on this thread.
pub(super) fn install(program: &[u64]) -> StageResult {
    if program.is_empty() {
        return Ok(());
    }
    let instructions: Vec<_> = program.iter().copied().map(bpf::unpack).collect();
    sys::seccomp::set_filter(&instructions).during(|| "install the seccomp filter".into())
}

/// Puts the watchman's filter on this thread, before any other; returns his listener.
///
/// Fails only where `watch` must be: under a filter that has a listener already there can be no second one.
pub(super) fn listen(watch: &Watch) -> StageResult<Option<OwnedFd>> {
    if watch.program.is_empty() {
        return Ok(None);
    }
    let instructions: Vec<_> = watch.program.iter().copied().map(bpf::unpack).collect();
    match sys::seccomp::set_filter_with_listener(&instructions) {
        Err(_) if !watch.required => Ok(None),
        installed => installed.map(Some).during(|| "install the filter of the syscall policy".into()),
    }
}
