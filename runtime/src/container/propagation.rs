//! Stage mounts: whether a mount of the node gives on to others what a container asks of it.

use std::os::fd::OwnedFd;

use super::spec::MountSpec;
use super::{During as _, StageError, StageResult};
use crate::Propagation;
use crate::mount_table::MountEntry;

/// Refuses a propagation that the mount which the source lies on does not have: nothing would come in, or go out
/// (upstream: ensureShared and ensureSharedOrSlave of containerd).
pub(super) fn check(mount: &MountSpec, source: &OwnedFd) -> StageResult {
    if mount.propagation == Propagation::Private {
        return Ok(());
    }
    let path = mount.beneath.as_ref().map_or_else(|| mount.source.clone(), |below| mount.source.join(below));
    let found = MountEntry::of(source).during(|| format!("look up the mount of {}", path.display()))?;
    let (is_enough, words) = match mount.propagation {
        Propagation::Bidirectional => (found.is_shared, "shared"),
        _ => (found.is_shared || found.is_slave, "shared or slave"),
    };
    if is_enough {
        return Ok(());
    }
    let text = format!("path {path:?} is mounted on {:?} but it is not a {words} mount", found.point);
    Err(StageError::Program(text))
}
