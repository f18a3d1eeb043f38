//! What a list has found: a part of a snapshot that is read as it is needed, so that a long list costs no more than its
//! position, however many read it and however slowly.

use std::collections::Bound;
use std::sync::Arc;

use crate::watch_cache::{Cached, Marks, Objects, ResourceCache, Selection};

/// The items of a list.
#[derive(Clone, Debug)]
pub enum Items {
    /// Those that a selection finds in a snapshot.
    Found(Found),
    /// Those that were gathered: few, or chosen one by one.
    Gathered(Vec<Arc<Cached>>),
}

/// A part of a snapshot.
#[derive(Clone, Debug)]
pub struct Found {
    cache: Arc<ResourceCache>,
    objects: Objects,
    selection: Selection,
    /// What all keys begin with.
    prefix: String,
    from: String,
    /// The last key of a page.
    last: Option<Arc<str>>,
}

impl Found {
    /// What a selection finds from a key on.
    pub(super) fn new(cache: &Arc<ResourceCache>, objects: Objects, selection: &Selection, from: Option<&str>) -> Self {
        let prefix = selection.prefix(cache);
        let from = from.filter(|from| *from > prefix.as_str()).unwrap_or(&prefix).to_owned();
        Self { cache: cache.clone(), objects, selection: selection.clone(), prefix, from, last: None }
    }

    /// The same up to a key and with it.
    pub(super) fn up_to(self, last: Arc<str>) -> Self {
        Self { last: Some(last), ..self }
    }

    /// All objects that there are to look at, and whether each is found.
    fn candidates(&self, from: Bound<&str>) -> impl Iterator<Item = (&Arc<Cached>, bool)> {
        let whole = !self.selection.has_selectors() && self.selection.name.is_none();
        let wanted = Marks::wanted_by(&self.selection.labels);
        let range = self.objects.range::<str, _>((from, Bound::Unbounded)).map(|(_, object)| object);
        range.take_while(move |object| self.includes(&object.key)).map(move |object| {
            let found = whole || (object.labels.may_have(wanted) && self.selection.matches(&self.cache, object));
            (object, found)
        })
    }

    fn includes(&self, key: &Arc<str>) -> bool {
        key.starts_with(&self.prefix) && self.last.as_ref().is_none_or(|last| key <= last)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Cached>> {
        self.candidates(Bound::Included(&self.from)).filter(|(_, found)| *found).map(|(object, _)| object)
    }
}

impl Items {
    /// All of them.
    pub fn iter(&self) -> Box<dyn Iterator<Item = &Arc<Cached>> + Send + '_> {
        match self {
            Self::Found(found) => Box::new(found.iter()),
            Self::Gathered(items) => Box::new(items.iter()),
        }
    }

    /// Leaves those for which `keep` says so, in the order in which [`Self::iter`] tells them.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut() -> bool) {
        *self = Self::Gathered(self.iter().filter(|_| keep()).cloned().collect());
    }
}

/// A place in the items of a list.
#[derive(Debug)]
pub(crate) struct Cursor {
    items: Items,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Start,
    /// Behind a key.
    Behind(Arc<str>),
    /// So many of the gathered ones were read.
    Read(usize),
    End,
}

impl Cursor {
    pub(crate) fn new(items: Items) -> Self {
        let place = if matches!(items, Items::Found(_)) { Place::Start } else { Place::Read(0) };
        Self { items, place }
    }

    /// Reads on for as long as `wants_more` of the last item, after having looked at `most` objects at the latest.
    pub(crate) fn read<E>(
        &mut self,
        most: usize,
        mut wants_more: impl FnMut(&Cached) -> Result<bool, E>,
    ) -> Result<(), E> {
        let mut looked = 0;
        match &self.items {
            Items::Found(found) => {
                let from = match &self.place {
                    Place::Start => Bound::Included(found.from.as_str()),
                    Place::Behind(key) => Bound::Excluded(&**key),
                    Place::Read(_) | Place::End => return Ok(()),
                };
                let mut stopped_at = None;
                for (object, is_found) in found.candidates(from) {
                    looked += 1;
                    if (is_found && !wants_more(object)?) || looked >= most {
                        stopped_at = Some(object.key.clone());
                        break;
                    }
                }
                self.place = stopped_at.map_or(Place::End, Place::Behind);
            }
            Items::Gathered(items) => {
                let Place::Read(mut read) = self.place else { return Ok(()) };
                self.place = Place::End;
                for object in &items[read..] {
                    (read, looked) = (read + 1, looked + 1);
                    if !wants_more(object)? || looked >= most {
                        self.place = Place::Read(read);
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether everything was read.
    pub(crate) fn is_at_end(&self) -> bool {
        matches!(self.place, Place::End)
    }
}
