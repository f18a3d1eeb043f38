//! A client's copy of what it selects. It lists or streams what there is, watches from there, is sometimes slow, and
//! sometimes comes back at a version it had before. Every answer is held against the oracle.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::Value;
use store::Revision;

use super::World;
use super::oracle::{Objects, Selects, Told, key};
use crate::client::{Events, expect};

/// How many former versions a replica can come back at.
const MEMORIES: usize = 40;

pub(super) struct Replica {
    world: World,
    selects: Selects,
    rng: StdRng,
    /// Whether it takes its time with every event.
    slow: bool,
    objects: Objects,
    version: Revision,
    memories: VecDeque<(Revision, Objects)>,
}

/// Why a watch is left.
enum Left {
    /// Its history is gone.
    Expired,
    /// It ended, or the replica let it go.
    Ended,
    /// Nothing more will come.
    Finished,
}

impl Replica {
    pub(super) fn new(world: World, selects: Selects, mut rng: StdRng) -> Self {
        let slow = rng.random_bool(0.3);
        Self { world, selects, rng, slow, objects: Objects::new(), version: 0, memories: VecDeque::new() }
    }

    pub(super) async fn run(mut self) {
        let mut events = self.begin().await;
        loop {
            match self.follow(&mut events).await {
                Left::Finished => return,
                Left::Expired => events = self.begin().await,
                Left::Ended => events = self.come_back().await,
            }
        }
    }

    /// Takes in what there is, in one of the ways that clients do, and opens the watch that follows.
    async fn begin(&mut self) -> Events {
        self.memories.clear();
        match self.rng.random_range(0..7) {
            0 | 1 => self.stream_initial().await,
            2 => self.list_pages().await,
            3 => self.list("resourceVersion=0").await,
            4 => self.start_at_a_write().await,
            _ => {
                let acknowledged = self.world.acknowledged();
                let events = self.list("").await;
                assert!(self.version >= acknowledged, "a list at {} misses the write of {acknowledged}", self.version);
                events
            }
        }
    }

    async fn list(&mut self, query: &str) -> Events {
        let list = expect(self.world.client.get(&format!("{}{query}", self.selects.path())).await, 200);
        self.take_list(version_of(&list), items(&list)).await;
        self.watch().await
    }

    /// Watches from the version of an answer, which the server itself may hear of later.
    async fn start_at_a_write(&mut self) -> Events {
        self.version = self.world.acknowledged().max(1);
        self.world.oracle.reach(self.version).await;
        self.objects = self.world.oracle.at(self.version, self.selects);
        self.watch().await
    }

    /// All pages are of one version; when that is compacted on the way, the list begins again.
    async fn list_pages(&mut self) -> Events {
        let path =
            format!("{}limit={}", self.selects.path(), if self.rng.random_bool(0.5) { self.world.page } else { 2000 });
        let mut listed = Vec::new();
        let mut next = path.clone();
        loop {
            let (status, page) = self.world.client.get(&next).await;
            if status == 410 {
                assert_eq!(page["reason"], "Expired", "{page}");
                listed.clear();
                next = self.selects.path().to_owned();
                continue;
            }
            assert_eq!(status, 200, "{page}");
            listed.extend(items(&page));
            let Some(token) = page["metadata"]["continue"].as_str() else {
                self.take_list(version_of(&page), listed).await;
                return self.watch().await;
            };
            next = format!("{path}&continue={token}");
            self.dawdle().await;
        }
    }

    async fn take_list(&mut self, version: Revision, pods: Vec<Value>) {
        let count = pods.len();
        let listed: Objects = pods.into_iter().map(|pod| (key(&pod), Arc::new(pod))).collect();
        assert_eq!(listed.len(), count, "{:?} at {version} lists an object twice", self.selects);
        self.world.oracle.reach(version).await;
        self.assert_equal(&listed, version);
        (self.objects, self.version) = (listed, version);
    }

    #[track_caller]
    fn assert_equal(&self, objects: &Objects, version: Revision) {
        let stored = self.world.oracle.at(version, self.selects);
        for (key, pod) in &stored {
            let found = objects.get(key);
            let shown = |pod: Option<&Arc<Value>>| pod.map(|pod| pod["metadata"]["resourceVersion"].clone());
            assert!(
                found == Some(pod),
                "{:?} at {version}: {key} is {:?}, not {:?}",
                self.selects,
                shown(found),
                shown(Some(pod))
            );
        }
        assert_eq!(objects.len(), stored.len(), "{:?} at {version} has objects that are gone", self.selects);
    }

    /// What there is, as events up to a bookmark.
    async fn stream_initial(&mut self) -> Events {
        let acknowledged = self.world.acknowledged();
        let query = "watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan";
        let mut events = self.world.client.watch(&format!("{}{query}", self.selects.path())).await;
        let mut pods = Vec::new();
        loop {
            let event = events.soon().await.expect("the stream does not end before the bookmark");
            match event["type"].as_str().unwrap() {
                "ADDED" => pods.push(event["object"].clone()),
                "BOOKMARK" => {
                    let annotations = &event["object"]["metadata"]["annotations"];
                    assert_eq!(annotations["k8s.io/initial-events-end"], "true", "{event}");
                    let version = version_of(&event["object"]);
                    assert!(version >= acknowledged, "a stream at {version} misses the write of {acknowledged}");
                    self.take_list(version, pods).await;
                    return events;
                }
                other => panic!("{other} before the bookmark: {event}"),
            }
        }
    }

    async fn watch(&mut self) -> Events {
        let ends = if self.rng.random_bool(0.3) { "&timeoutSeconds=1&allowWatchBookmarks=true" } else { "" };
        let query = format!("watch=1&resourceVersion={}{ends}", self.version);
        self.world.client.watch(&format!("{}{query}", self.selects.path())).await
    }

    /// Watches again, perhaps from a version that is long past.
    async fn come_back(&mut self) -> Events {
        if self.rng.random_bool(0.5) && !self.memories.is_empty() {
            let at = self.rng.random_range(0..self.memories.len());
            (self.version, self.objects) = self.memories[at].clone();
            self.memories.truncate(at);
        }
        self.watch().await
    }

    async fn follow(&mut self, events: &mut Events) -> Left {
        let mut end = self.world.end.clone();
        loop {
            let over = *end.borrow_and_update();
            if self.is_finished(over).await {
                return Left::Finished;
            }
            let event = tokio::select! {
                event = events.next() => event,
                Ok(()) = end.changed() => continue,
            };
            let Some(event) = event else { return Left::Ended };
            match event["type"].as_str().unwrap() {
                "ERROR" => {
                    assert_eq!(event["object"]["code"], 410, "{event}");
                    self.world.expired.fetch_add(1, Ordering::SeqCst);
                    return Left::Expired;
                }
                "BOOKMARK" => self.take_bookmark(version_of(&event["object"])).await,
                _ => self.take_event(&event).await,
            }
            if over.is_none() && self.rng.random_bool(0.03) {
                return Left::Ended;
            }
            self.dawdle().await;
        }
    }

    /// Whether the writers have stopped and there is nothing left to be told.
    async fn is_finished(&self, over: Option<Revision>) -> bool {
        let Some(last) = over else { return false };
        self.world.oracle.reach(last).await;
        if self.world.oracle.next(self.version, self.selects).is_some() {
            return false;
        }
        self.assert_equal(&self.objects, last);
        true
    }

    /// A bookmark says that nothing is missing up to its version.
    async fn take_bookmark(&mut self, version: Revision) {
        assert!(version >= self.version, "{:?}: a bookmark of {version} after {}", self.selects, self.version);
        self.world.oracle.reach(version).await;
        if let Some(missed) = self.world.oracle.next(self.version, self.selects) {
            assert!(missed.revision > version, "{:?}: a bookmark of {version} hides {missed:?}", self.selects);
        }
        self.version = version;
    }

    /// An event is exactly what must come next.
    async fn take_event(&mut self, event: &Value) {
        let version = version_of(&event["object"]);
        self.world.oracle.reach(version).await;
        let expected = self.world.oracle.next(self.version, self.selects);
        let (Some(Told { kind, key, revision, object }), told) = (&expected, event) else {
            panic!("{:?} at {}: nothing must come, but {event}", self.selects, self.version)
        };
        let so = told["type"] == *kind && version == *revision && told["object"] == *object;
        assert!(so, "{:?} at {}: not {expected:?}, but {told}", self.selects, self.version);
        self.memories.push_back((self.version, self.objects.clone()));
        if self.memories.len() > MEMORIES || self.objects.len() > 1000 {
            self.memories.pop_front();
        }
        if *kind == "DELETED" {
            self.objects.remove(key);
        } else {
            self.objects.insert(key.clone(), Arc::new(object.clone()));
        }
        self.version = version;
    }

    async fn dawdle(&mut self) {
        if self.slow && self.rng.random_bool(0.5) {
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(1..30))).await;
        }
    }
}

fn version_of(object: &Value) -> Revision {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

/// The items of a list as whole objects.
fn items(list: &Value) -> Vec<Value> {
    let whole = |item: &Value| {
        let mut pod = item.clone();
        pod["apiVersion"] = "v1".into();
        pod["kind"] = "Pod".into();
        pod
    };
    list["items"].as_array().unwrap().iter().map(whole).collect()
}
