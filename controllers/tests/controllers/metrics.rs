//! What controllers tell of their work, under upstream's names.

use super::*;

impl Cluster {
    /// Waits until the metrics have a line that begins so.
    async fn has_metric(&self, line: &str) {
        eventually(&format!("the metrics have {line}"), async || {
            self.metrics.encode().lines().any(|known| known.starts_with(line))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_jobs_slices_and_zones_are_counted() {
    let cluster = Cluster::start().await;
    let labels = json!({"topology.kubernetes.io/region": "r", "topology.kubernetes.io/zone": "z"});
    let ready = json!([{"type": "Ready", "status": "True"}]);
    let node = json!({"metadata": {"name": "n", "labels": labels}, "status": {"conditions": ready}});
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    nodes.create(&PostParams::default(), &from_value(node).unwrap()).await.unwrap();
    let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80}], "trafficDistribution": "PreferClose"});
    cluster.create::<Service>(json!({"metadata": {"name": "s"}, "spec": spec})).await;
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    cluster.create::<Job>(json!({"metadata": {"name": "j"}, "spec": {"template": template}})).await;
    let pods = cluster.api::<Pod>();
    let of_job = ListParams::default().labels("batch.kubernetes.io/job-name=j");
    eventually("the job has a pod", async || pods.list(&of_job).await.unwrap().items.len() == 1).await;
    let name = pods.list(&of_job).await.unwrap().items[0].name_any();
    let ended = Patch::Merge(json!({"status": {"phase": "Succeeded"}}));
    pods.patch_status(&name, &PatchParams::default(), &ended).await.unwrap();
    for line in [
        r#"workqueue_adds_total{name="job"} "#,
        r#"workqueue_depth{name="job"} 0"#,
        r#"workqueue_work_duration_seconds_count{name="endpointslice"} "#,
        r#"workqueue_unfinished_work_seconds{name="deployment"} 0"#,
        r#"job_controller_jobs_finished_total{completion_mode="NonIndexed",result="succeeded",reason="CompletionsReached"} 1"#,
        r#"job_controller_job_pods_finished_total{completion_mode="NonIndexed",result="succeeded"} 1"#,
        r#"job_controller_job_syncs_total{completion_mode="NonIndexed",result="success",action="pods_created"} 1"#,
        r#"endpoint_slice_controller_changes{operation="create"} "#,
        r#"endpoint_slice_controller_syncs{result="success"} "#,
        r#"endpoint_slice_controller_services_count_by_traffic_distribution{traffic_distribution="PreferClose"} 1"#,
        "endpoint_slice_controller_num_endpoint_slices 1",
        "node_collector_zone_size{zone=\"r:\0:z\"} 1",
        "node_collector_unhealthy_nodes_in_zone{zone=\"r:\0:z\"} 0",
        "node_collector_update_node_health_duration_seconds_count ",
        "cronjob_controller_job_creation_skew_duration_seconds_count 0",
        "taint_eviction_controller_pod_deletions_total 0",
    ] {
        cluster.has_metric(line).await;
    }
}
