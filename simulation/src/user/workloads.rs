//! Deployments, StatefulSets and DaemonSets.

use serde_json::{Value, json};

use super::User;

/// Deployments of a namespace: d0, d1, ...
pub(super) const DEPLOYMENTS: u64 = 2;

pub(super) fn deployments(namespace: &str) -> String {
    format!("/apis/apps/v1/namespaces/{namespace}/deployments")
}

impl User {
    pub(super) async fn deployments(&mut self) {
        let (namespace, number) = (self.namespace(), self.dice.number(0..DEPLOYMENTS));
        let (all, name) = (deployments(namespace), format!("d{number}"));
        let one = format!("{all}/{name}");
        match self.dice.number(0..10) {
            0..3 => {
                let object = self.deployment(&name);
                self.create(&all, object).await;
            }
            3 | 4 => {
                let replicas = self.dice.number(0..6);
                self.merge(&format!("{one}/scale"), json!({ "spec": { "replicas": replicas } })).await;
            }
            5..8 => {
                let containers = json!([self.container(100)]);
                let template = json!({ "spec": { "containers": containers } });
                self.merge(&one, json!({ "spec": { "template": template } })).await;
            }
            8 => {
                let paused = self.dice.chance(0.5);
                self.merge(&one, json!({ "spec": { "paused": paused } })).await;
            }
            _ => {
                let options = self.propagation();
                self.delete(&one, options).await;
            }
        }
    }

    fn deployment(&mut self, name: &str) -> Value {
        let labels = json!({ "app": name });
        let strategy = match self.dice.number(0..5) {
            0 => json!({ "type": "Recreate" }),
            1 => json!({ "rollingUpdate": { "maxSurge": 0, "maxUnavailable": 1 } }),
            2 => json!({ "rollingUpdate": { "maxSurge": "100%", "maxUnavailable": 0 } }),
            3 => json!({ "rollingUpdate": { "maxSurge": 2, "maxUnavailable": 2 } }),
            _ => json!({}),
        };
        let template = json!({ "metadata": { "labels": labels }, "spec": { "containers": [self.container(100)] } });
        let spec = json!({
            "replicas": self.dice.number(0..6), "selector": { "matchLabels": labels }, "strategy": strategy,
            "minReadySeconds": self.dice.pick(&[0, 0, 5]), "revisionHistoryLimit": self.dice.number(0..3), "template": template,
        });
        json!({ "metadata": { "name": name }, "spec": spec })
    }

    pub(super) async fn stateful_sets(&mut self) {
        let namespace = self.namespace();
        let all = format!("/apis/apps/v1/namespaces/{namespace}/statefulsets");
        let one = format!("{all}/s");
        match self.dice.number(0..8) {
            0..3 => {
                let labels = json!({ "app": "s" });
                let template =
                    json!({ "metadata": { "labels": labels }, "spec": { "containers": [self.container(100)] } });
                let spec = json!({
                    "replicas": self.dice.number(0..4), "selector": { "matchLabels": labels }, "serviceName": "s",
                    "podManagementPolicy": self.dice.pick(&["OrderedReady", "Parallel"]), "template": template,
                });
                self.create(&all, json!({ "metadata": { "name": "s" }, "spec": spec })).await;
            }
            3 | 4 => {
                let replicas = self.dice.number(0..4);
                self.merge(&format!("{one}/scale"), json!({ "spec": { "replicas": replicas } })).await;
            }
            5 | 6 => {
                let containers = json!([self.container(100)]);
                self.merge(&one, json!({ "spec": { "template": { "spec": { "containers": containers } } } })).await;
            }
            _ => {
                let options = self.propagation();
                self.delete(&one, options).await;
            }
        }
    }

    pub(super) async fn daemon_sets(&mut self) {
        let namespace = self.namespace();
        let all = format!("/apis/apps/v1/namespaces/{namespace}/daemonsets");
        let one = format!("{all}/e");
        match self.dice.number(0..6) {
            0..3 => {
                let labels = json!({ "app": "e" });
                let strategy = match self.dice.number(0..3) {
                    0 => json!({ "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } }),
                    1 => json!({ "type": "OnDelete" }),
                    _ => json!({}),
                };
                let template =
                    json!({ "metadata": { "labels": labels }, "spec": { "containers": [self.container(50)] } });
                let spec =
                    json!({ "selector": { "matchLabels": labels }, "updateStrategy": strategy, "template": template });
                self.create(&all, json!({ "metadata": { "name": "e" }, "spec": spec })).await;
            }
            3 | 4 => {
                let containers = json!([self.container(50)]);
                self.merge(&one, json!({ "spec": { "template": { "spec": { "containers": containers } } } })).await;
            }
            _ => {
                let options = self.propagation();
                self.delete(&one, options).await;
            }
        }
    }
}
