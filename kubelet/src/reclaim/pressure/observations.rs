//! What is left of the node (upstream: `makeSignalObservations`).

use std::path::Path;

use crate::context::Context;
use crate::files::blocking;
use crate::node::machine;
use crate::signals::{Resource, Seen, Signal};

/// All signals at one moment; `None` for what this machine does not tell.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Observations {
    pub(super) memory: Option<Seen>,
    pub(super) disk: Option<Seen>,
    pub(super) inodes: Option<Seen>,
    pub(super) pids: Option<Seen>,
}

impl Observations {
    /// Looks at everything.
    pub(super) async fn take(context: &Context) -> Self {
        let root = context.root_dir.clone();
        // A disk may hang.
        let (disk, inodes) = blocking(move || Ok(disk_of(&root))).await.unwrap_or_default();
        let memory = Some(Seen { available: machine::available_memory(), capacity: context.memory });
        let pids = machine::pids();
        let pids = pids.map(|(used, limit)| Seen { available: limit.saturating_sub(used), capacity: limit });
        Self { memory, disk, inodes, pids }
    }

    /// Looks at the disk only.
    pub(super) fn of_disk(context: &Context) -> Self {
        let (disk, inodes) = disk_of(&context.root_dir);
        Self { disk, inodes, ..Self::default() }
    }

    pub(super) fn get(&self, signal: Signal) -> Option<Seen> {
        match signal.resource() {
            Resource::Memory => self.memory,
            Resource::Disk => self.disk,
            Resource::Inodes => self.inodes,
            Resource::Pids => self.pids,
        }
    }
}

/// File systems that make inodes as they need them tell of none.
fn disk_of(root: &Path) -> (Option<Seen>, Option<Seen>) {
    let seen = |(capacity, available): (u64, u64)| (capacity > 0).then_some(Seen { available, capacity });
    (machine::disk(root).and_then(seen), machine::inodes(root).and_then(seen))
}
