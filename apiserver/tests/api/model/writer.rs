//! A client that creates, changes and deletes pods at random.

use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::{NAMESPACES, World};
use crate::client::{Answer, MERGE};

/// How many pods there are at most in a namespace.
const PODS: usize = 8;

pub(super) struct Writer {
    world: World,
    rng: StdRng,
}

impl Writer {
    pub(super) fn new(world: World, rng: StdRng) -> Self {
        Self { world, rng }
    }

    pub(super) async fn run(mut self) {
        while *self.world.open.borrow() {
            let (status, answer) = self.write().await;
            let status = status.as_u16();
            assert!(matches!(status, 200 | 201 | 404 | 409), "{status}: {answer}");
            let version = answer["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse().ok());
            if let (200 | 201, Some(version)) = (status, version) {
                self.world.acknowledge(version);
            }
            // The others have their turn.
            tokio::task::yield_now().await;
        }
    }

    async fn write(&mut self) -> Answer {
        let namespace = NAMESPACES[self.rng.random_range(0..NAMESPACES.len())];
        let all = format!("/api/v1/namespaces/{namespace}/pods");
        let name = format!("p{}", self.rng.random_range(0..PODS));
        let one = format!("{all}/{name}");
        let client = self.world.client.clone();
        match self.rng.random_range(0..10) {
            0..3 => client.post(&all, &self.pod(&name)).await,
            3 => client.delete(&format!("{one}?gracePeriodSeconds=0")).await,
            4..7 => client.patch(&one, MERGE, &json!({"metadata": {"labels": {"on": self.label()}}})).await,
            7 | 8 => {
                let phase = ["Pending", "Running", "Succeeded"][self.rng.random_range(0..3)];
                client.patch(&format!("{one}/status"), MERGE, &json!({"status": {"phase": phase}})).await
            }
            _ => {
                let node = ["n1", "n2"][self.rng.random_range(0..2)];
                let target = json!({"kind": "Node", "name": node});
                client.post(&format!("{one}/binding"), &json!({"metadata": {"name": name}, "target": target})).await
            }
        }
    }

    fn pod(&mut self, name: &str) -> Value {
        // Large ones push others out of what is remembered of the past.
        let size = if self.rng.random_bool(0.2) { 60_000 } else { 10 };
        json!({"metadata": {"name": name, "labels": {"on": self.label()}, "annotations": {"size": "x".repeat(size)}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}})
    }

    fn label(&mut self) -> Value {
        [json!("yes"), json!("no"), Value::Null][self.rng.random_range(0..3)].clone()
    }
}
