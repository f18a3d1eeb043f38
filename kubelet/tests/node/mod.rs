//! A node for tests: API server, fake runtime and kubelet in one process.
// Each test file uses a part of it.
#![allow(dead_code, unreachable_pub)]
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use apiserver::testing::TestServer;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, ContainerStatus, Event, Namespace, Node, Pod};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt as _};
use kubelet::node::Registration;
use runtime::Runtime as _;
use runtime::fake::FakeRuntime;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

pub struct TestNode {
    pub runtime: FakeRuntime,
    client: kube::Client,
    directory: tempfile::TempDir,
    kubelet_server: Option<kubelet::server::Config>,
    tuning: kubelet::Tuning,
    kubelet: Option<(CancellationToken, JoinHandle<()>)>,
    ending: kubelet::Ending,
    _server: TestServer,
}

impl TestNode {
    pub async fn start() -> Self {
        Self::with_server(None).await
    }

    pub async fn with_server(kubelet_server: Option<kubelet::server::Config>) -> Self {
        Self::with(kubelet_server, kubelet::Tuning::default()).await
    }

    pub async fn with(kubelet_server: Option<kubelet::server::Config>, tuning: kubelet::Tuning) -> Self {
        let mut config = apiserver::Config::default();
        // What can never fit is for the kubelet to tell, too: API servers before 1.36 let it through.
        config.admission.disable_admission_plugins.push("PodResizeValidator".to_owned());
        let server = TestServer::with(config, Arc::new(store::embedded::EmbeddedStore::in_memory())).await;
        let client = kube::Client::new(server.service(), "default");
        for namespace in ["default", "kube-node-lease"] {
            let api: Api<Namespace> = Api::all(client.clone());
            let object = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
            // The server may have made it already.
            let _ = api.create(&PostParams::default(), &object).await;
        }
        let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::namespaced(client.clone(), "default");
        let account = serde_json::from_value(json!({"metadata": {"name": "default"}})).unwrap();
        let _ = accounts.create(&PostParams::default(), &account).await;
        let mut node = Self {
            runtime: FakeRuntime::new(),
            client,
            directory: tempfile::tempdir().unwrap(),
            kubelet_server,
            tuning,
            kubelet: None,
            ending: kubelet::Ending::default(),
            _server: server,
        };
        node.start_kubelet();
        node
    }

    pub fn start_kubelet(&mut self) {
        self.ending = kubelet::Ending::default();
        let config = kubelet::Config {
            node_name: "node-1".into(),
            node_ips: vec![[127, 0, 0, 1].into()],
            root_dir: self.directory.path().join("kubelet"),
            log_dir: self.directory.path().join("logs"),
            runtime: Arc::new(self.runtime.clone()),
            cluster_dns: vec![[10, 96, 0, 10].into()],
            cluster_domain: "cluster.local".into(),
            resolv_conf: "/etc/resolv.conf".into(),
            registration: Registration {
                register: true,
                max_pods: 110,
                pod_cidr: Some("10.244.0.0/24".into()),
                ..Registration::default()
            },
            certificates: kubelet::certificates::Certificates::default(),
            cgroup_root: String::new(),
            pod_pids_limit: 0,
            allowed_sysctls: kubelet::Allowlist::safe(),
            static_pod_path: None,
            max_parallel_image_pulls: None,
            tuning: self.tuning.clone(),
            server: self.kubelet_server.clone(),
            ending: self.ending.clone(),
            hollow: false,
        };
        let shutdown = CancellationToken::new();
        let process = daemon::Process::new(shutdown.clone());
        let run = kubelet::run(config, self.client.clone(), process);
        let task = tokio::spawn(async move { run.await.unwrap() });
        self.kubelet = Some((shutdown, task));
    }

    pub async fn stop_kubelet(&mut self) {
        let (shutdown, task) = self.kubelet.take().unwrap();
        shutdown.cancel();
        task.await.unwrap();
    }

    /// Ends the pods as the end of the node does; answers those that had not ended in their time.
    pub async fn end_pods(&self, limits: kubelet::Limits) -> Vec<String> {
        let mut progress = self.ending.progress();
        self.ending.begin(limits);
        let over = progress.wait_for(|progress| progress.is_over);
        let over = tokio::time::timeout(limits.bound(), over).await.expect("the end has a bound");
        over.unwrap().waiting.iter().cloned().collect()
    }

    /// Ends the kubelet in the middle of whatever it does.
    pub async fn kill_kubelet(&mut self) {
        let (_, task) = self.kubelet.take().unwrap();
        task.abort();
        let _aborted = task.await;
    }

    pub async fn restart_kubelet(&mut self) {
        self.stop_kubelet().await;
        self.start_kubelet();
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// The kubelet's directory.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("kubelet")
    }

    pub fn pod_dir(&self, pod: &Pod) -> PathBuf {
        self.directory.path().join("kubelet/pods").join(pod.metadata.uid.as_ref().unwrap())
    }

    pub async fn create(&self, name: &str, mut spec: Value) -> Pod {
        spec["nodeName"] = json!("node-1");
        spec["automountServiceAccountToken"] = json!(false);
        if spec["terminationGracePeriodSeconds"].is_null() {
            spec["terminationGracePeriodSeconds"] = json!(1);
        }
        let pod = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap();
        self.pods().create(&PostParams::default(), &pod).await.unwrap()
    }

    pub async fn get(&self, name: &str) -> Pod {
        self.pods().get(name).await.unwrap()
    }

    pub async fn delete(&self, name: &str) {
        self.pods().delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Deletes a pod that has so many seconds to end.
    pub async fn delete_within(&self, name: &str, seconds: u32) {
        self.pods().delete(name, &DeleteParams::default().grace_period(seconds)).await.unwrap();
    }

    pub async fn force_delete(&self, name: &str) {
        self.pods().delete(name, &DeleteParams::default().grace_period(0)).await.unwrap();
    }

    /// Makes an object of any kind, its status too.
    pub async fn make<K>(&self, api: Api<K>, object: Value) -> K
    where
        K: Clone + std::fmt::Debug + serde::de::DeserializeOwned + serde::Serialize + kube::Resource<DynamicType = ()>,
    {
        let made = api.create(&PostParams::default(), &serde_json::from_value(object.clone()).unwrap()).await.unwrap();
        if object["status"].is_null() {
            return made;
        }
        let patch = kube::api::Patch::Merge(json!({"status": object["status"]}));
        api.patch_status(&made.name_any(), &Default::default(), &patch).await.unwrap()
    }

    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// Asks for other sizes of the container `c`.
    pub async fn resize(&self, name: &str, resources: Value) {
        let sizes = json!({"spec": {"containers": [{"name": "c", "resources": resources}]}});
        let patch = kube::api::Patch::Strategic(sizes);
        self.pods().patch_subresource("resize", name, &Default::default(), &patch).await.unwrap();
    }

    pub async fn create_config_map(&self, name: &str, data: &[(&str, &str)]) {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), "default");
        api.create(&PostParams::default(), &config_map(name, data)).await.unwrap();
    }

    pub async fn update_config_map(&self, name: &str, data: &[(&str, &str)]) {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), "default");
        api.replace(name, &PostParams::default(), &config_map(name, data)).await.unwrap();
    }

    pub async fn wait_for(&self, name: &str, holds: impl Fn(&Pod) -> bool) -> Pod {
        let mut last = None;
        let wait = async {
            loop {
                let pod = self.get(name).await;
                if holds(&pod) {
                    return pod;
                }
                last = Some(pod);
                tokio::time::sleep(LOOK).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, wait).await;
        found.unwrap_or_else(|_| panic!("still {:#?}\n{:?}", last.and_then(|pod| pod.status), self.runtime.calls()))
    }

    pub async fn wait_until_gone(&self, name: &str) {
        let wait = async {
            while self.pods().get_opt(name).await.unwrap().is_some() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the pod is deleted in time");
    }

    pub async fn eventually(&self, holds: impl Fn() -> bool) {
        let wait = async {
            while !holds() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("it holds in time");
    }

    pub async fn wait_for_no_sandboxes(&self) {
        let wait = async {
            while !self.runtime.sandboxes().await.unwrap().is_empty() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("sandboxes are removed in time");
    }

    pub async fn wait_for_node(&self, holds: impl Fn(&Node) -> bool) -> Node {
        let api: Api<Node> = Api::all(self.client.clone());
        let wait = async {
            loop {
                if let Some(node) = api.get_opt("node-1").await.unwrap().filter(|node| holds(node)) {
                    return node;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the node gets there in time")
    }

    /// Says of the node what a controller says of one that it no longer hears of.
    pub async fn declare_lost(&self) {
        let api: Api<Node> = Api::all(self.client.clone());
        let lost = json!({"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"});
        let patch = kube::api::Patch::Strategic(json!({"status": {"conditions": [lost]}}));
        api.patch_status("node-1", &Default::default(), &patch).await.unwrap();
    }

    pub async fn wait_for_lease(&self) {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), "kube-node-lease");
        let wait = async {
            while api.get_opt("node-1").await.unwrap().is_none() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the lease is made in time");
    }

    pub async fn wait_for_event(&self, pod: &str, reason: &str) {
        self.wait_for_message(pod, reason).await;
    }

    /// Waits for an event about a pod, and returns what it says.
    pub async fn wait_for_message(&self, pod: &str, reason: &str) -> String {
        let api: Api<Event> = Api::namespaced(self.client.clone(), "default");
        let wait = async {
            loop {
                let events = api.list(&Default::default()).await.unwrap();
                let about = |event: &Event| event.involved_object.name.as_deref() == Some(pod);
                let found = events.iter().find(|event| about(event) && event.reason.as_deref() == Some(reason));
                if let Some(event) = found {
                    return event.message.clone().unwrap_or_default();
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the event is recorded in time")
    }
}

fn config_map(name: &str, data: &[(&str, &str)]) -> ConfigMap {
    let data: std::collections::BTreeMap<_, _> = data.iter().copied().collect();
    serde_json::from_value(json!({"metadata": {"name": name}, "data": data})).unwrap()
}

pub fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a str> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind).map(|condition| condition.status.as_str())
}

pub fn container(pod: &Pod, name: &str) -> ContainerStatus {
    let status = pod.status.clone().unwrap_or_default();
    status.container_statuses.unwrap_or_default().into_iter().find(|status| status.name == name).unwrap_or_default()
}

pub fn waiting_reason<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let status = statuses.iter().find(|status| status.name == name)?;
    status.state.as_ref()?.waiting.as_ref()?.reason.as_deref()
}
