//! What `[sig-apps]` asks of the API server alone.

use serde_json::{Value, json};

use super::operations::Operations;
use super::start_without_fairness;
use crate::client::expect;

/// Conformance: [sig-apps] CronJob should support CronJob API operations [Conformance]
#[tokio::test]
async fn cron_jobs_support_all_operations() {
    let template = json!({"spec": {"restartPolicy": "OnFailure", "containers": [{"name": "c", "image": "i"}]}});
    let spec = json!({"schedule": "* */1 * * ?", "concurrencyPolicy": "Allow",
        "jobTemplate": {"spec": {"template": template}}});
    let kind = Operations {
        group: "batch",
        plural: "cronjobs",
        path: "/apis/batch/v1/namespaces/default/cronjobs".to_owned(),
        names: ["one", "two", "three"],
        object: json!({"spec": spec}),
        field: "/spec/schedule",
        changed: &json!("0 0 * * *"),
        status: json!({"lastScheduleTime": "2026-01-01T00:00:00Z"}),
    };
    kind.work().await;
}

/// Conformance: [sig-apps] DisruptionController Listing PodDisruptionBudgets for all namespaces should list and delete a collection of PodDisruptionBudgets [Conformance]
#[tokio::test]
async fn budgets_are_found_everywhere_and_deleted_in_one_namespace() {
    let (_server, client) = start_without_fairness().await;
    expect(client.post("/api/v1/namespaces", &json!({"metadata": {"name": "other"}})).await, 201);
    let budgets = |namespace: &str| format!("/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets");
    let budget = |name: &str, label: &str| {
        let selector = json!({"matchLabels": {"foo": "bar"}});
        json!({"metadata": {"name": name, "labels": {"set": label}}, "spec": {"minAvailable": 1, "selector": selector}})
    };
    for (namespace, name, label) in
        [("default", "one", "yes"), ("default", "two", "yes"), ("default", "three", "no"), ("other", "one", "yes")]
    {
        expect(client.post(&budgets(namespace), &budget(name, label)).await, 201);
    }
    let names = async |path: &str| -> Vec<String> {
        let list = expect(client.get(path).await, 200);
        let name = |item: &Value| {
            let meta = &item["metadata"];
            format!("{}/{}", meta["namespace"].as_str().unwrap(), meta["name"].as_str().unwrap())
        };
        list["items"].as_array().unwrap().iter().map(name).collect()
    };
    let everywhere = "/apis/policy/v1/poddisruptionbudgets?labelSelector=set%3Dyes";
    assert_eq!(names(everywhere).await, ["default/one", "default/two", "other/one"]);
    expect(client.delete(&format!("{}?labelSelector=set%3Dyes", budgets("default"))).await, 200);
    assert_eq!(names(everywhere).await, ["other/one"]);
    assert_eq!(names(&budgets("default")).await, ["default/three"]);
}
