//! Services, disruption budgets with evictions, and quotas.

use serde_json::{Value, json};

use super::User;

impl User {
    pub(super) async fn services(&mut self) {
        let namespace = self.namespace();
        let app = *self.dice.pick(&["d0", "d1", "s"]);
        let all = format!("/api/v1/namespaces/{namespace}/services");
        let one = format!("{all}/{app}");
        match self.dice.number(0..6) {
            0..3 => {
                let spec = json!({
                    "selector": { "app": app }, "ports": [{ "port": 80 }], "publishNotReadyAddresses": self.dice.chance(0.2),
                });
                self.create(&all, json!({ "metadata": { "name": app }, "spec": spec })).await;
            }
            3 | 4 => {
                let port = self.dice.number(80..83);
                self.merge(&one, json!({ "spec": { "ports": [{ "port": port }] } })).await;
            }
            _ => {
                self.delete(&one, json!({})).await;
            }
        }
    }

    pub(super) async fn budgets(&mut self) {
        let namespace = self.namespace();
        let app = *self.dice.pick(&["d0", "d1", "s"]);
        let all = format!("/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets");
        match self.dice.number(0..6) {
            0 | 1 => {
                let spec = match self.dice.number(0..2) {
                    0 => json!({ "selector": { "matchLabels": { "app": app } }, "minAvailable": 1 }),
                    _ => json!({ "selector": { "matchLabels": { "app": app } }, "maxUnavailable": "50%" }),
                };
                self.create(&all, json!({ "metadata": { "name": app }, "spec": spec })).await;
            }
            2 => {
                self.delete(&format!("{all}/{app}"), json!({})).await;
            }
            _ => {
                let pods = self.get(&format!("/api/v1/namespaces/{namespace}/pods")).await;
                self.evict(pods.as_ref(), 1).await;
            }
        }
    }

    /// Evicts so many of these pods.
    pub(super) async fn evict(&mut self, pods: Option<&Value>, most: usize) {
        let pods = pods.and_then(|pods| pods["items"].as_array()).cloned().unwrap_or_default();
        for _ in 0..most.min(pods.len()) {
            let metadata = &self.dice.pick(&pods)["metadata"];
            let (namespace, name) = (&metadata["namespace"], &metadata["name"]);
            let path = format!(
                "/api/v1/namespaces/{}/pods/{}/eviction",
                namespace.as_str().unwrap_or_default(),
                name.as_str().unwrap_or_default()
            );
            let eviction = json!({
                "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": name, "namespace": namespace },
            });
            self.create(&path, eviction).await;
        }
    }

    pub(super) async fn quotas(&mut self) {
        let namespace = self.namespace();
        let all = format!("/api/v1/namespaces/{namespace}/resourcequotas");
        let hard = json!({ "pods": self.dice.number(1..8).to_string() });
        match self.dice.number(0..4) {
            0 | 1 => {
                self.create(&all, json!({ "metadata": { "name": "q" }, "spec": { "hard": hard } })).await;
            }
            2 => {
                self.merge(&format!("{all}/q"), json!({ "spec": { "hard": hard } })).await;
            }
            _ => {
                self.delete(&format!("{all}/q"), json!({})).await;
            }
        }
    }
}
