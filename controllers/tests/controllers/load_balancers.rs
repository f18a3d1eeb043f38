//! Addresses of Services of type LoadBalancer.

use super::*;

fn config(pool: &str) -> Config {
    Config { load_balancer_pool: vec![pool.parse().unwrap()], ..Config::default() }
}

fn balanced(name: &str, change: Value) -> Value {
    let mut service = service(name);
    service["spec"]["type"] = json!("LoadBalancer");
    service["spec"].as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    service
}

impl Cluster {
    /// The address that a Service shows, with its mode.
    async fn address(&self, name: &str) -> Option<String> {
        let service = self.api::<Service>().get(name).await.unwrap();
        let points = service.status?.load_balancer?.ingress?;
        assert_eq!((points.len(), points[0].ip_mode.as_deref()), (1, Some("VIP")));
        points[0].ip.clone()
    }

    async fn has_address(&self, name: &str, address: &str) {
        let what = format!("{name} has {address}");
        eventually(&what, async || self.address(name).await.as_deref() == Some(address)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn services_get_addresses_of_the_pool_and_give_them_back() {
    let cluster = Cluster::with(config("192.0.2.1-192.0.2.2")).await;
    let services = cluster.api::<Service>();
    cluster.create::<Service>(balanced("foreign", json!({"loadBalancerClass": "example.com/other"}))).await;
    cluster.create::<Service>(balanced("wish", json!({"loadBalancerIP": "192.0.2.2"}))).await;
    cluster.has_address("wish", "192.0.2.2").await;
    cluster.create::<Service>(balanced("own", json!({"loadBalancerClass": "coracle.io/local"}))).await;
    cluster.has_address("own", "192.0.2.1").await;
    cluster.create::<Service>(balanced("late", json!({}))).await;
    let told = async || {
        let events = cluster.api::<Event>().list(&ListParams::default()).await.unwrap().items;
        let late = |event: &Event| event.involved_object.name.as_deref() == Some("late");
        events.into_iter().filter(late).filter_map(|event| event.message).collect::<Vec<_>>()
    };
    eventually("it is told that none is free", async || {
        told().await.iter().any(|message| message.contains("no address is free in the pool"))
    })
    .await;
    assert_eq!(cluster.address("late").await, None);

    // Of another type, a Service has no load balancer; the next in line has its address.
    let plain = Patch::Merge(json!({"spec": {"type": "ClusterIP", "loadBalancerIP": null}}));
    services.patch("wish", &PatchParams::default(), &plain).await.unwrap();
    cluster.has_address("late", "192.0.2.2").await;
    assert_eq!(cluster.address("wish").await, None);
    cluster.create::<Service>(balanced("last", json!({}))).await;
    services.delete("own", &DeleteParams::default()).await.unwrap();
    cluster.has_address("last", "192.0.2.1").await;
    assert_eq!(cluster.address("foreign").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_stay_when_another_manager_takes_over() {
    let mut cluster = Cluster::with(config("192.0.2.1-192.0.2.9")).await;
    for name in ["b", "a"] {
        cluster.create::<Service>(balanced(name, json!({}))).await;
        eventually(name, async || cluster.address(name).await.is_some()).await;
    }
    let before = (cluster.address("a").await, cluster.address("b").await);
    let process = daemon::Process::new(CancellationToken::new());
    let running = controllers::run(config("192.0.2.1-192.0.2.9"), cluster.client.clone(), process);
    cluster._controllers = AbortOnDropHandle::new(tokio::spawn(async move { running.await.unwrap() }));
    cluster.create::<Service>(balanced("0", json!({}))).await;
    cluster.has_address("0", "192.0.2.3").await;
    assert_eq!((cluster.address("a").await, cluster.address("b").await), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_elsewhere_is_not_said_to_be_undone() {
    let enforced = controllers::Enforced { network_policy: true };
    let config = Config { notice_patience: Duration::ZERO, enforced, ..config("192.0.2.1-192.0.2.9") };
    let cluster = Cluster::with(config).await;
    cluster.create::<NetworkPolicy>(json!({ "metadata": { "name": "p" }, "spec": { "podSelector": {} } })).await;
    cluster.create::<Service>(balanced("s", json!({}))).await;
    let ingress = json!({ "metadata": { "name": "i" }, "spec": { "defaultBackend": { "service": { "name": "s", "port": { "number": 80 } } } } });
    cluster.create::<k8s_openapi::api::networking::v1::Ingress>(ingress).await;
    let told = async || {
        let events = cluster.api::<Event>().list(&ListParams::default()).await.unwrap().items;
        let told = events.into_iter().filter(|event| event.reason.as_deref() == Some("NotActedOn"));
        told.filter_map(|event| event.involved_object.kind).collect::<Vec<_>>()
    };
    eventually("what nothing acts on is told of", async || !told().await.is_empty()).await;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(told().await, ["Ingress"]);
}
