//! Random operations on a store and on a model that keeps every state there ever was.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use store::{Entry, Error, Expected, Range, Revision, Store, WatchEvent, WatchStream};

use super::checks::change;

/// How many sequences of operations are tried on each backend.
const CASES: usize = 24;

#[derive(Clone, Debug)]
enum Operation {
    Create {
        key: u8,
    },
    /// With the right revision, or a stale one.
    Update {
        key: u8,
        stale: bool,
    },
    Delete {
        key: u8,
        stale: bool,
    },
    /// So many revisions back.
    List {
        prefix: u8,
        after: Option<u8>,
        limit: Option<usize>,
        back: u64,
    },
    Watch {
        prefix: u8,
        back: u64,
    },
    Compact {
        back: u64,
    },
}

fn operation() -> impl Strategy<Value = Operation> {
    let key = || 0u8..24;
    prop_oneof![
        6 => key().prop_map(|key| Operation::Create { key }),
        5 => (key(), prop::bool::weighted(0.2)).prop_map(|(key, stale)| Operation::Update { key, stale }),
        3 => (key(), prop::bool::weighted(0.2)).prop_map(|(key, stale)| Operation::Delete { key, stale }),
        4 => (0u8..5, prop::option::of(key()), prop::option::of(0usize..8), 0u64..30)
            .prop_map(|(prefix, after, limit, back)| Operation::List { prefix, after, limit, back }),
        1 => (0u8..5, 0u64..30).prop_map(|(prefix, back)| Operation::Watch { prefix, back }),
        1 => (5u64..30).prop_map(|back| Operation::Compact { back }),
    ]
}

type State = BTreeMap<String, Entry>;

/// What a store with this history must answer.
struct Model {
    root: String,
    /// The state after each revision since `base`.
    states: Vec<State>,
    base: Revision,
    oldest: Revision,
}

/// A copy of the store that only a watch keeps up to date.
struct Replica {
    prefix: String,
    state: State,
    seen: Revision,
    watch: WatchStream,
}

impl Model {
    fn newest(&self) -> Revision {
        self.base + self.states.len() as u64 - 1
    }

    fn at(&self, revision: Revision) -> &State {
        &self.states[usize::try_from(revision - self.base).unwrap()]
    }

    fn now(&self) -> &State {
        self.states.last().unwrap()
    }

    fn key(&self, key: u8) -> String {
        format!("{}{}/{key:02}", self.root, key % 4)
    }

    /// The keys of a quarter, or all.
    fn prefix(&self, prefix: u8) -> String {
        if prefix < 4 { format!("{}{prefix}/", self.root) } else { self.root.clone() }
    }

    fn push(&mut self, state: State) {
        self.states.push(state);
    }

    fn page(&self, range: &Range, revision: Revision) -> (Vec<Entry>, u64) {
        let after = range.after.clone().unwrap_or_default();
        let all = self.at(revision).values();
        let mut entries: Vec<_> =
            all.filter(|entry| entry.key.starts_with(&range.prefix) && *entry.key > *after).cloned().collect();
        let wanted = range.limit.unwrap_or(entries.len()).min(entries.len());
        let remaining = (entries.len() - wanted) as u64;
        entries.truncate(wanted);
        (entries, remaining)
    }
}

pub(crate) async fn random_operations_agree_with_a_naive_model(store: &dyn Store) {
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    for case in 0..CASES {
        let operations = prop::collection::vec(operation(), 1..150).new_tree(&mut runner).unwrap().current();
        let base = store.revision().await.unwrap();
        let root = format!("/model/{case}/");
        let mut model = Model { root, states: vec![State::new()], base, oldest: base };
        let mut replicas = Vec::new();
        for (step, operation) in operations.iter().enumerate() {
            if let Err(err) = apply(store, &mut model, &mut replicas, operation, step).await {
                panic!("step {step} of {operations:#?}: {err}");
            }
        }
        assert_eq!(store.revision().await.unwrap(), model.newest());
        for replica in replicas {
            follow(replica, &model).await;
        }
    }
}

/// Does an operation on both. An error is a disagreement.
async fn apply(
    store: &dyn Store,
    model: &mut Model,
    replicas: &mut Vec<Replica>,
    operation: &Operation,
    step: usize,
) -> Result<(), String> {
    match *operation {
        Operation::Create { key } => put(store, model, &model.key(key), Expected::Absent, step).await,
        Operation::Update { key, stale } => {
            let key = model.key(key);
            let expected = Expected::Revision(expectation(model, &key, stale));
            put(store, model, &key, expected, step).await
        }
        Operation::Delete { key, stale } => {
            let key = model.key(key);
            let expected = expectation(model, &key, stale);
            let outcome = store.delete(&key, expected).await;
            let mut state = model.now().clone();
            let holds = state.get(&key).is_some_and(|entry| entry.mod_revision == expected);
            state.remove(&key);
            settle(model, &key, holds, outcome, state)
        }
        Operation::List { prefix, after, limit, back } => {
            let revision = model.newest().saturating_sub(back).max(model.oldest);
            let range = Range {
                prefix: model.prefix(prefix),
                after: after.map(|key| model.key(key)),
                limit,
                revision: (back > 0).then_some(revision),
            };
            let page = store.list(range.clone()).await.map_err(|err| err.to_string())?;
            let expected = (revision, model.page(&range, revision));
            let found = (page.revision, (page.entries, page.remaining));
            if found == expected { Ok(()) } else { Err(format!("{found:#?}, not {expected:#?}")) }
        }
        Operation::Watch { prefix, back } => {
            let revision = model.newest().saturating_sub(back).max(model.oldest);
            let prefix = model.prefix(prefix);
            let watch = store.watch(&prefix, Some(revision)).await.map_err(|err| err.to_string())?;
            let mut state = model.at(revision).clone();
            state.retain(|key, _| key.starts_with(&prefix));
            replicas.push(Replica { prefix, state, seen: revision, watch });
            Ok(())
        }
        Operation::Compact { back } => {
            let revision = model.newest().saturating_sub(back);
            // A watch that has not been read since may lose its history, as it should; so read them first.
            if revision > model.oldest {
                for replica in replicas.drain(..) {
                    follow(replica, model).await;
                }
                store.compact(revision).await.map_err(|err| err.to_string())?;
                model.oldest = revision;
            }
            Ok(())
        }
    }
}

/// The revision a writer expects.
fn expectation(model: &Model, key: &str, stale: bool) -> Revision {
    let current = model.now().get(key).map_or(1, |entry| entry.mod_revision);
    if stale { current - 1 } else { current }
}

async fn put(store: &dyn Store, model: &mut Model, key: &str, expected: Expected, step: usize) -> Result<(), String> {
    let value = Bytes::from(format!("value {step}"));
    let outcome = store.put(key, value.clone(), expected, None).await;
    let current = model.now().get(key);
    let holds = match expected {
        Expected::Absent => current.is_none(),
        Expected::Revision(revision) => current.is_some_and(|entry| entry.mod_revision == revision),
    };
    let mod_revision = model.newest() + 1;
    let create_revision = current.map_or(mod_revision, |entry| entry.create_revision);
    let mut state = model.now().clone();
    state.insert(key.into(), Entry { key: key.into(), value, create_revision, mod_revision });
    settle(model, key, holds, outcome, state)
}

/// Compares a write's outcome with what should have come of it.
fn settle(
    model: &mut Model,
    key: &str,
    holds: bool,
    outcome: Result<Revision, Error>,
    state: State,
) -> Result<(), String> {
    match outcome {
        Ok(revision) if holds && revision == model.newest() + 1 => {
            model.push(state);
            Ok(())
        }
        Err(Error::Conflict { current, .. }) if !holds && current.as_deref() == model.now().get(key) => Ok(()),
        outcome => Err(format!("{outcome:?}, though the expectation holds: {holds}")),
    }
}

/// Reads a watch to the end of the model and compares at each revision.
async fn follow(mut replica: Replica, model: &Model) {
    let relevant = |state: &State| -> State {
        state.iter().filter(|(key, _)| key.starts_with(&replica.prefix)).map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    while replica.seen < model.newest() {
        let next = relevant(model.at(replica.seen + 1));
        replica.seen += 1;
        if next == replica.state {
            continue;
        }
        let event = change(&mut replica.watch).await;
        assert_eq!(event.revision(), replica.seen);
        let key = event.key().unwrap().to_string();
        assert_eq!(event.previous(), replica.state.get(&key));
        match event {
            WatchEvent::Put { entry, .. } => replica.state.insert(key, entry),
            _ => replica.state.remove(&key),
        };
        assert_eq!(replica.state, next);
    }
}
