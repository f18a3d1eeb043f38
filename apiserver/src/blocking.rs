//! Work that may keep a thread busy for long.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Does the work without holding up the other tasks of this thread, where there are other threads to take them over.
pub(crate) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}
