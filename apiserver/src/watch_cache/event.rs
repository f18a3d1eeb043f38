//! A change of one object, with its watch frames built once and shared by every watcher (upstream:
//! `cacher.cachingObject`).

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::object::Cached;

/// What a watcher is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
}

impl EventType {
    /// As written in a frame.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
            Self::Bookmark => "BOOKMARK",
            Self::Error => "ERROR",
        }
    }
}

/// A committed change.
#[derive(Debug)]
pub struct Event {
    pub revision: u64,
    /// The object after the change; `None` when it was deleted.
    pub current: Option<Arc<Cached>>,
    /// The object before the change; `None` when it was created.
    pub previous: Option<Arc<Cached>>,
    /// The last state under the revision of this change: what DELETED shows.
    gone: OnceLock<Arc<Cached>>,
    frames: Frames,
    /// Made when the first watcher asks for protobuf.
    protobuf: OnceLock<Box<Frames>>,
}

/// A frame of each type that changes have.
type Frames = [OnceLock<Bytes>; 3];

impl Event {
    /// About how many bytes of objects it keeps alive.
    pub fn size(&self) -> usize {
        let size = |object: &Option<Arc<Cached>>| object.as_ref().map_or(0, |cached| cached.size());
        256 + size(&self.previous) + size(&self.current)
    }

    /// A change from `previous` to `current`.
    pub fn new(revision: u64, previous: Option<Arc<Cached>>, current: Option<Arc<Cached>>) -> Self {
        Self {
            revision,
            current,
            previous,
            gone: OnceLock::new(),
            frames: Default::default(),
            protobuf: OnceLock::new(),
        }
    }

    /// What a watcher sees whose selection is `selects`: objects that enter it are added, those that leave it deleted.
    pub fn seen_by(&self, selects: impl Fn(&Cached) -> bool) -> Option<EventType> {
        let now = self.current.as_deref().is_some_and(&selects);
        let before = self.previous.as_deref().is_some_and(&selects);
        Self::transition(before, now)
    }

    /// What a watcher sees of an object that it selected before, or selects now.
    pub fn transition(before: bool, now: bool) -> Option<EventType> {
        match (before, now) {
            (false, true) => Some(EventType::Added),
            (true, true) => Some(EventType::Modified),
            (true, false) => Some(EventType::Deleted),
            (false, false) => None,
        }
    }

    /// The object that an event of this type carries.
    pub fn object(&self, kind: EventType) -> Option<Arc<Cached>> {
        if kind != EventType::Deleted {
            return self.current.clone();
        }
        let previous = self.previous.as_ref()?;
        Some(self.gone.get_or_init(|| Arc::new(previous.at_revision(self.revision))).clone())
    }

    /// The JSON frame of an event of this type.
    pub fn frame(&self, kind: EventType) -> Option<Bytes> {
        let object = self.object(kind)?;
        Some(self.frames[slot(kind)?].get_or_init(|| frame(kind, &object)).clone())
    }

    /// The protobuf frame of an event of this type, which `encode` makes of the object for the first who asks.
    pub fn protobuf_frame(&self, kind: EventType, encode: impl FnOnce(&Cached) -> Bytes) -> Option<Bytes> {
        let object = self.object(kind)?;
        let frames = self.protobuf.get_or_init(Default::default);
        Some(frames[slot(kind)?].get_or_init(|| encode(&object)).clone())
    }
}

fn slot(kind: EventType) -> Option<usize> {
    match kind {
        EventType::Added => Some(0),
        EventType::Modified => Some(1),
        EventType::Deleted => Some(2),
        EventType::Bookmark | EventType::Error => None,
    }
}

/// A JSON watch frame around an object of the cache.
pub fn frame(kind: EventType, object: &Cached) -> Bytes {
    frame_around(kind, object.size(), |out| object.write(out))
}

/// A JSON watch frame around what `write` writes, about `size` bytes.
pub fn frame_around(kind: EventType, size: usize, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut out = Vec::with_capacity(size + 40);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_str().as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    write(&mut out);
    out.extend_from_slice(b"}\n");
    out.into()
}
