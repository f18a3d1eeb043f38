//! The policies and bindings that there are, read when one of them changes.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::{Binding, Body, Policy};
use crate::authz::follow::{Change, Follower};
use crate::watch_cache::{Behind, ResourceCache, WatchCache, settle};

/// A policy with its bindings.
pub(super) type Bound<B> = (Arc<Policy<B>>, Vec<Arc<Binding>>);

/// All policies of one kind.
pub(super) struct Policies<B> {
    /// Policies and bindings.
    sources: [Arc<ResourceCache>; 2],
    state: RwLock<State<B>>,
}

struct State<B> {
    policies_follower: Follower,
    bindings_follower: Follower,
    policies: BTreeMap<String, Arc<Policy<B>>>,
    bindings: BTreeMap<String, Arc<Binding>>,
    /// By name of the policy; `None` when no policy is bound.
    current: Option<Arc<[Bound<B>]>>,
}

impl<B: Body> Policies<B> {
    pub(super) fn new(cache: &WatchCache) -> Option<Self> {
        let (policies, bindings) = B::PLURALS;
        let sources = [cache.resource(policies)?, cache.resource(bindings)?];
        let state = State {
            policies_follower: Follower::new(sources[0].clone()),
            bindings_follower: Follower::new(sources[1].clone()),
            policies: BTreeMap::new(),
            bindings: BTreeMap::new(),
            current: None,
        };
        Some(Self { sources, state: RwLock::new(state) })
    }

    /// The policies that are bound by what this server has acknowledged, if any.
    pub(super) async fn current(&self) -> Result<Option<Arc<[Bound<B>]>>, Behind> {
        settle(&self.sources).await?;
        Ok(self.known())
    }

    fn known(&self) -> Option<Arc<[Bound<B>]>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        if !state.policies_follower.is_behind() && !state.bindings_follower.is_behind() {
            return state.current.clone();
        }
        drop(state);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.catch_up();
        state.current.clone()
    }
}

impl<B: Body> State<B> {
    fn catch_up(&mut self) {
        let Self { policies_follower, bindings_follower, policies, bindings, current } = self;
        policies_follower.catch_up(|change| match change {
            Change::Reset => policies.clear(),
            Change::Gone(cached) => {
                policies.remove(cached.name());
            }
            Change::Put(cached) => {
                policies.insert(cached.name().to_owned(), Arc::new(Policy::read(&cached.object())));
            }
        });
        bindings_follower.catch_up(|change| match change {
            Change::Reset => bindings.clear(),
            Change::Gone(cached) => {
                bindings.remove(cached.name());
            }
            Change::Put(cached) => {
                bindings.insert(cached.name().to_owned(), Arc::new(Binding::read(&cached.object())));
            }
        });
        let bound = policies.values().filter_map(|policy| {
            let own: Vec<Arc<Binding>> = bindings.values().filter(|one| one.policy == policy.name).cloned().collect();
            (!own.is_empty()).then(|| (Arc::clone(policy), own))
        });
        let bound: Vec<Bound<B>> = bound.collect();
        *current = (!bound.is_empty()).then(|| bound.into());
    }
}
