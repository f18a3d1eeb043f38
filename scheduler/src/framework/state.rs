//! What a plugin keeps between the extension points of one cycle (upstream: `CycleState`).

use std::any::{Any, TypeId};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Data of one scheduling cycle. A value is found by its type, so a plugin with a private type has private data.
///
/// A clone is cheap: it shares the values until they are changed.
#[derive(Clone, Default)]
pub struct CycleState {
    values: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
    pub(crate) skipped_filters: BTreeSet<&'static str>,
}

impl CycleState {
    /// Keeps a value.
    pub fn put<T: Send + Sync + 'static>(&mut self, value: T) {
        self.values.insert(TypeId::of::<T>(), Arc::new(value));
    }

    /// Keeps a value that others have, too.
    pub fn share<T: Send + Sync + 'static>(&mut self, value: Arc<T>) {
        self.values.insert(TypeId::of::<T>(), value);
    }

    /// The value of this type.
    pub fn get<T: 'static>(&self) -> Option<&T> {
        self.values.get(&TypeId::of::<T>())?.downcast_ref()
    }

    /// The value of this type, to be changed: copied first when a clone of the state shares it.
    pub fn get_mut<T: Clone + Send + Sync + 'static>(&mut self) -> Option<&mut T> {
        let value = self.values.get_mut(&TypeId::of::<T>())?;
        if Arc::get_mut(value).is_none() {
            *value = Arc::new(value.downcast_ref::<T>()?.clone());
        }
        Arc::get_mut(value)?.downcast_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_a_clone_stays_in_it() {
        let mut state = CycleState::default();
        state.put(7_u32);
        let mut copy = state.clone();
        *copy.get_mut::<u32>().unwrap() += 1;
        assert_eq!((state.get::<u32>(), copy.get::<u32>()), (Some(&7), Some(&8)));
        assert!(copy.get_mut::<u8>().is_none());
    }
}
