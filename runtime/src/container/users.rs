//! A pod's user namespace (KEP-127), as a process that makes a container meets it.
//!
//! The process stays the node's root until everything is mounted: the layers of the root file system and every volume
//! come through id-mapped mounts, so that what is owned by 0 on disk is owned by the pod's root, and what it makes
//! itself belongs to that, too. Then it enters the namespace, and what it starts has no right outside of it.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};

use super::spec::ContainerSpec;
use super::user::User;
use super::{During as _, StageError, StageResult};
use crate::IdMap;
use crate::sys;

/// The user namespace of the pod that a container belongs to.
pub(super) struct Users {
    map: IdMap,
    namespace: OwnedFd,
}

impl Users {
    /// The namespace that owns this process's network, if the pod has users of its own.
    pub(super) fn of(spec: &ContainerSpec) -> StageResult<Option<Self>> {
        let Some(map) = spec.users else { return Ok(None) };
        let find = || File::open("/proc/self/ns/net").and_then(|network| sys::user::owner_of(network.as_fd()));
        let namespace = find().during(|| "find the pod's user namespace".into())?;
        Ok(Some(Self { map, namespace }))
    }

    /// Shifts the owners of a detached mount into the namespace.
    pub(super) fn map(&self, mount: &OwnedFd) -> std::io::Result<()> {
        sys::user::map_mount(mount.as_fd(), self.namespace.as_fd())
    }

    /// From now on what this process makes belongs to the pod's root.
    pub(super) fn make_as_root(&self) -> StageResult {
        sys::user::set_file_owner(self.map.host, self.map.host).during(|| "make files as the pod's root".into())
    }

    /// An id of the pod as the node knows it.
    pub(super) fn on_node(&self, id: u32) -> StageResult<u32> {
        let inside = id < self.map.length;
        let outside = || StageError::Program(format!("id {id} is outside the pod's user namespace"));
        self.map.host.checked_add(id).filter(|_| inside).ok_or_else(outside)
    }

    /// Refuses ids that the namespace does not have, before the kernel does in other words.
    pub(super) fn check(&self, user: &User) -> StageResult {
        for id in [user.uid, user.gid].iter().chain(&user.groups) {
            self.on_node(*id)?;
        }
        Ok(())
    }

    /// Enters the namespace; this process gives up every right outside of it. With `own_mounts` its mounts, which the
    /// node's root made, become ones that the pod can neither undo nor uncover.
    pub(super) fn enter(self, own_mounts: bool) -> StageResult {
        sys::setns(self.namespace.as_fd(), libc::CLONE_NEWUSER).during(|| "enter the user namespace".into())?;
        if own_mounts {
            sys::unshare(libc::CLONE_NEWNS).during(|| "make a mount namespace".into())?;
        }
        Ok(())
    }
}
