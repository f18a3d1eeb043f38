//! Namespaces that come and go, nodes that are cordoned and drained.

use serde_json::json;

use super::User;

/// The path of a node.
pub(super) fn node(number: usize) -> String {
    format!("/api/v1/nodes/{}", crate::nodes::name(number))
}

impl User {
    pub(super) async fn namespaces(&mut self) {
        let name = *self.dice.pick(&["alpha", "beta"]);
        if self.dice.chance(0.4) {
            self.delete(&format!("/api/v1/namespaces/{name}"), json!({})).await;
        } else {
            self.create("/api/v1/namespaces", json!({ "metadata": { "name": name } })).await;
        }
    }

    pub(super) async fn nodes(&mut self) {
        let number = self.dice.index(self.nodes);
        let path = node(number);
        match self.dice.number(0..5) {
            0 | 1 => {
                self.merge(&path, json!({ "spec": { "unschedulable": null } })).await;
            }
            2 => {
                self.merge(&path, json!({ "spec": { "unschedulable": true } })).await;
            }
            3 => {
                self.merge(&path, json!({ "spec": { "unschedulable": true } })).await;
                let on_it = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}", crate::nodes::name(number));
                let pods = self.get(&on_it).await;
                self.evict(pods.as_ref(), 20).await;
            }
            _ => {
                self.delete(&path, json!({})).await;
            }
        }
    }
}
