//! Extension servers that do not answer as they should, and people who would use them to get elsewhere.

use std::time::{Duration, Instant};

use apiserver::FrontProxies;
use apiserver::authn::Headers;
use faults::Attack;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::extension::{FLUNDERS, FRONT_PROXY_CA, Mood};
use super::{SERVICES, Stage, WARDLE};
use crate::client::{MERGE, expect};

/// The condition after the server has been in a mood from the start.
async fn judged(mood: Mood, reason: &str) -> (Stage, Value) {
    let stage = Stage::with(|_| {}).await;
    stage.extension.set(mood);
    stage.register(&stage.spec()).await;
    let condition = stage.until(reason).await;
    (stage, condition)
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_and_holds_up_nobody() {
    let began = Instant::now();
    let (stage, condition) = judged(Mood::Hanging, "FailedDiscoveryCheck").await;
    assert!(condition["message"].as_str().unwrap().contains("context deadline exceeded"), "{condition}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    expect(stage.client.get("/apis").await, 200);
    // One that begins to hang later: its clients wait no longer than they want to.
    stage.extension.set(Mood::Well);
    stage.ready().await;
    stage.extension.set(Mood::Hanging);
    expect(stage.client.get(&format!("{FLUNDERS}?timeout=1s")).await, 504);
}

#[tokio::test]
async fn documents_that_drip_have_no_end_or_are_odd_are_given_up() {
    let mut through = 0;
    for (mood, reason) in
        [(Mood::Dripping, "FailedDiscoveryCheck"), (Mood::Endless, "FailedDiscoveryCheck"), (Mood::Odd, "Passed")]
    {
        let (stage, _) = judged(mood, reason).await;
        let group = expect(stage.client.get("/apis/wardle.example.com").await, 200);
        through += u64::from(group["versions"].as_array().unwrap().len() != 1);
        let index = expect(stage.client.get("/openapi/v3").await, 200);
        through += u64::from(index.to_string().contains("EVIL"));
    }
    Attack::new("aggregation: endless, dripping and odd discovery documents").tried(3, through).record();
}

#[tokio::test]
async fn nobody_is_led_to_what_only_this_machine_can_see() {
    let stage = Stage::with(|config| config.aggregator_reaches_loopback = false).await;
    let mut spec = stage.spec();
    spec.as_object_mut().unwrap().remove("caBundle");
    spec["insecureSkipTLSVerify"] = true.into();
    stage.register(&spec).await;
    let condition = stage.until("FailedDiscoveryCheck").await;
    assert!(condition["message"].as_str().unwrap().ends_with("address not allowed"), "{condition}");
    // Not even when somebody says that it is available.
    let available = json!({"status": {"conditions": [{"type": "Available", "status": "True"}]}});
    expect(stage.client.patch(&format!("{SERVICES}/{WARDLE}/status"), MERGE, &available).await, 200);
    for _ in 0..20 {
        assert_eq!(stage.client.get(FLUNDERS).await.0, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert!(stage.extension.looks() == 0 && stage.extension.asked().is_empty());
    Attack::new("aggregation: Services at the machine's own addresses").tried(21, 0).record();
}

#[tokio::test]
async fn a_server_with_another_certificate_is_told_nothing() {
    let stage = Stage::with(|_| {}).await;
    let other = super::Extension::start(&stage.front_proxy).await;
    let mut spec = stage.spec();
    spec["caBundle"] = other.ca_bundle.as_str().into();
    stage.register(&spec).await;
    // Availability says only that something answers.
    stage.until("Passed").await;
    stage.server.server().registry().freshen().await.unwrap();
    let said = loop {
        let (status, body) = stage.client.exchange(Method::GET, FLUNDERS, &[], Vec::new()).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        if body != "service unavailable\n" {
            break String::from_utf8_lossy(&body).into_owned();
        }
    };
    assert!(said.starts_with("error trying to reach service: dial tcp localhost:") && said.contains("tls: "), "{said}");
    assert!(stage.extension.asked().is_empty());
    let group = stage.discovered(|_| true).await;
    assert_eq!(group["versions"][0]["freshness"], "Stale");
}

#[tokio::test]
async fn a_server_sends_nobody_elsewhere_and_sees_no_path_that_means_two_things() {
    let stage = Stage::start().await;
    stage.ready().await;
    stage.extension.asked();
    let moved = "/apis/wardle.example.com/v1alpha1/moved";
    let (status, body) = stage.client.exchange(Method::GET, moved, &[], Vec::new()).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert_eq!(body, "the backend attempted to redirect this request, which is not permitted\n");
    stage.extension.asked();
    let mut through = 0;
    let paths = ["/a%2Fstatus", "/../../../../../../metrics", "/%2e%2e/x", "//a"];
    for path in paths {
        through += u64::from(stage.client.get(&format!("{FLUNDERS}{path}")).await.0 != StatusCode::NOT_FOUND);
    }
    through += stage.extension.asked().len() as u64;
    Attack::new("aggregation: paths that mean two things").tried(paths.len() as u64, through).record();
}

#[tokio::test]
async fn a_server_that_is_this_one_is_not_asked_for_ever() {
    let mut stage = Stage::with(|config| {
        let headers = Headers {
            username: vec!["x-remote-user".parse().unwrap()],
            group: vec!["x-remote-group".parse().unwrap()],
            ..Headers::default()
        };
        let ca = config.proxy_client_certificate.clone().unwrap().with_file_name(FRONT_PROXY_CA);
        config.front_proxies = FrontProxies { ca: Some(ca), allowed_names: Vec::new(), headers };
    })
    .await;
    let mut spec = stage.spec();
    spec.as_object_mut().unwrap().remove("caBundle");
    spec["insecureSkipTLSVerify"] = true.into();
    spec["service"]["port"] = stage.server.listen().await.port().into();
    stage.register(&spec).await;
    let condition = stage.until("FailedDiscoveryCheck").await;
    assert!(condition["message"].as_str().unwrap().ends_with(": 503"), "{condition}");
    // Somebody says that it is available, and it believes that until it looks again.
    let available = json!({"status": {"conditions": [{"type": "Available", "status": "True", "reason": "Said"}]}});
    expect(stage.client.patch(&format!("{SERVICES}/{WARDLE}/status"), MERGE, &available).await, 200);
    stage.server.server().registry().freshen().await.unwrap();
    let asked = stage.client.get(FLUNDERS);
    let (status, _) = tokio::time::timeout(Duration::from_secs(4), asked).await.expect("it does not go round");
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    Attack::new("aggregation: a server behind itself").tried(1, 0).record();
}
