//! Aggregated APIs: an extension API server behind this one.

mod extension;
mod hostile;
mod registration;
mod sample;
mod upgrades;

use std::sync::Arc;

use apiserver::Config;
use apiserver::testing::TestServer;
use serde_json::{Value, json};
use store::embedded::EmbeddedStore;
use tempfile::TempDir;

use crate::client::{Client, expect};
use extension::{Extension, FrontProxy};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const WARDLE: &str = "v1alpha1.wardle.example.com";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// A server under test, its administrator, and an extension API server that it is told of.
struct Stage {
    server: TestServer,
    client: Client,
    extension: Extension,
    front_proxy: FrontProxy,
    _directory: TempDir,
}

impl Stage {
    /// With a Service and an APIService for the extension server.
    async fn start() -> Self {
        let stage = Self::with(|_| {}).await;
        stage.register(&stage.spec()).await;
        stage
    }

    /// Without an APIService, and with another configuration.
    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let front_proxy = FrontProxy::make(directory.path());
        let extension = Extension::start(&front_proxy).await;
        let mut config = Config {
            certificate_directory: directory.path().to_owned(),
            proxy_client_certificate: Some(front_proxy.certificate.clone()),
            proxy_client_key: Some(front_proxy.key.clone()),
            aggregator_reaches_loopback: true,
            ..Config::default()
        };
        change(&mut config);
        let server = TestServer::with(config, Arc::new(EmbeddedStore::in_memory())).await;
        let client = Client::admin(&server);
        let service =
            json!({"metadata": {"name": "sample"}, "spec": {"type": "ExternalName", "externalName": "localhost"}});
        expect(client.post("/api/v1/namespaces/default/services", &service).await, 201);
        Self { server, client, extension, front_proxy, _directory: directory }
    }

    /// What the APIService says of the extension server.
    fn spec(&self) -> Value {
        json!({
            "group": "wardle.example.com", "version": "v1alpha1", "groupPriorityMinimum": 2000, "versionPriority": 200,
            "caBundle": self.extension.ca_bundle,
            "service": {"namespace": "default", "name": "sample", "port": self.extension.port},
        })
    }

    async fn register(&self, spec: &Value) {
        expect(self.client.post(SERVICES, &json!({"metadata": {"name": WARDLE}, "spec": spec})).await, 201);
    }

    /// Waits until the condition of the APIService has this reason, and returns the condition.
    async fn until(&self, reason: &str) -> Value {
        until(&self.client, WARDLE, reason).await
    }

    /// Waits until requests are sent on.
    async fn ready(&self) {
        self.until("Passed").await;
        self.server.server().registry().freshen().await.unwrap();
        while self.client.get(extension::FLUNDERS).await.0 == 503 {
            tokio::task::yield_now().await;
        }
    }

    /// The group in aggregated discovery, when it is there and `is_it`.
    async fn discovered(&self, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let all = expect(self.client.get_as("/apis", AGGREGATED).await, 200);
            let found =
                all["items"].as_array().unwrap().iter().find(|item| item["metadata"]["name"] == "wardle.example.com");
            if let Some(found) = found.filter(|found| is_it(found)) {
                return found.clone();
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Waits until the condition of an APIService has this reason, and returns the condition.
async fn until(client: &Client, name: &str, reason: &str) -> Value {
    let mut events = client.watch(&format!("{SERVICES}?watch=1&fieldSelector=metadata.name%3D{name}")).await;
    loop {
        let object = events.soon().await.unwrap()["object"].clone();
        let condition = object["status"]["conditions"][0].clone();
        if condition["reason"] == reason {
            return condition;
        }
    }
}
