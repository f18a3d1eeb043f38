//! Creates of custom objects against the end of their definition: none may be written after the cleanup has looked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedRwLockReadGuard, RwLock};

/// A gate for each custom resource, by the prefix of its keys.
#[derive(Default)]
pub(crate) struct Gates(Mutex<HashMap<String, Arc<RwLock<()>>>>);

impl Gates {
    fn of(&self, prefix: &str) -> Arc<RwLock<()>> {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match gates.get(prefix) {
            Some(gate) => gate.clone(),
            None => gates.entry(prefix.to_owned()).or_default().clone(),
        }
    }

    /// Enters for a create, which must then see for itself whether its definition stays.
    pub(crate) async fn enter(&self, prefix: &str) -> OwnedRwLockReadGuard<()> {
        self.of(prefix).read_owned().await
    }

    /// Waits for the creates that have entered: those that enter from now on see that the definition goes.
    pub(crate) async fn drain(&self, prefix: &str) {
        drop(self.of(prefix).write_owned().await);
    }

    /// Forgets the gates of resources that are gone.
    pub(crate) fn retain(&self, is_there: impl Fn(&str) -> bool) {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gates.retain(|prefix, gate| is_there(prefix) || Arc::strong_count(gate) > 1);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn the_end_waits_for_what_has_begun() {
        let gates = Gates::default();
        let entered = gates.enter("example.com/widgets").await;
        gates.retain(|_| false);
        assert!(gates.drain("example.com/widgets").now_or_never().is_none());
        assert!(gates.drain("example.com/gadgets").now_or_never().is_some());
        drop(entered);
        assert!(gates.drain("example.com/widgets").now_or_never().is_some());
    }
}
