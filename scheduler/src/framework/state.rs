//! What a plugin keeps between the extension points of one cycle.

use std::any::{Any, TypeId};
use std::collections::{BTreeSet, HashMap};

/// Data of one scheduling cycle. A value is found by its type, so a plugin with a private type has private data.
#[derive(Default)]
pub struct CycleState {
    values: HashMap<TypeId, Box<dyn Any + Send + Sync>>,
    pub(crate) skipped_filters: BTreeSet<&'static str>,
}

impl CycleState {
    /// Keeps a value.
    pub fn put<T: Send + Sync + 'static>(&mut self, value: T) {
        self.values.insert(TypeId::of::<T>(), Box::new(value));
    }

    /// The value of this type.
    pub fn get<T: 'static>(&self) -> Option<&T> {
        self.values.get(&TypeId::of::<T>())?.downcast_ref()
    }
}
