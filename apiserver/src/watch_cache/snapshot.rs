//! All objects of one resource at one moment, in the order of their keys. A copy costs a reference count.

use std::sync::Arc;

use rpds::RedBlackTreeMapSync;

use super::object::Cached;

/// Current objects by key.
pub type Objects = RedBlackTreeMapSync<Arc<str>, Arc<Cached>>;

/// All objects of a resource at one revision.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub objects: Objects,
    /// The newest revision that changed one of them.
    pub changed: u64,
}
