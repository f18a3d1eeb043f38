//! What files and the index of a store tell each other: changes of single keys.

use std::sync::Arc;

use bytes::Bytes;

use crate::Revision;

/// What one write did to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) revision: Revision,
    pub(crate) create_revision: Revision,
    /// When the key is to be deleted, in seconds since 1970.
    pub(crate) expires: Option<u64>,
    pub(crate) key: Arc<str>,
    /// `None` for a delete.
    pub(crate) value: Option<Bytes>,
}

/// A change, and what it is part of.
pub(crate) enum Row {
    State(Change),
    Event(Change),
}
