use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::Value;

use super::*;

const MEMORY: Memory =
    Memory { identified: Duration::from_secs(10), allowed: Duration::from_secs(10), denied: Duration::from_secs(10) };

/// An API server that knows the token `good` and allows `/metrics` to its user; and what it was asked.
fn api() -> (kube::Client, Arc<Mutex<Vec<Value>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let service = tower::service_fn(move |request: Request<Body>| {
        let log = Arc::clone(&log);
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let mut review: Value = serde_json::from_slice(&body).unwrap();
            log.lock().unwrap().push(review["spec"].clone());
            review["status"] = match review["spec"]["token"].as_str() {
                Some("good") => json!({"authenticated": true, "user": {"username": "prometheus", "groups": ["m"]}}),
                Some(_) => json!({"authenticated": false}),
                None => {
                    let spec = &review["spec"];
                    let may = spec["user"] == "prometheus" && spec["nonResourceAttributes"]["path"] == "/metrics";
                    json!({"allowed": may})
                }
            };
            let answer = http_body_util::Full::new(bytes::Bytes::from(review.to_string()));
            Ok::<_, Infallible>(Response::new(answer))
        }
    });
    (kube::Client::new(service, "default"), asked)
}

fn caller(certificate: Option<(&str, &str)>, token: Option<&str>, path: &str) -> Caller {
    let names = certificate.map(|(name, group)| Names { common: name.into(), organizations: vec![group.into()] });
    Caller { certificate: names, token: token.map(str::to_owned), verb: "get", path: path.into() }
}

fn code(result: Result<(), Refusal>) -> u16 {
    result.map_or_else(|refusal| refusal.status.as_u16(), |()| 200)
}

#[tokio::test]
async fn the_api_server_says_who_a_token_is_and_what_they_may_and_is_asked_once() {
    let (client, asked) = api();
    let gate =
        Delegated { tokens: Some(Reviews::new(client.clone(), MEMORY)), rights: Some(Reviews::new(client, MEMORY)) };
    for _ in 0..3 {
        assert_eq!(code(gate.judge(caller(None, Some("good"), "/metrics")).await), 200);
    }
    assert_eq!(asked.lock().unwrap().len(), 2);
    assert_eq!(code(gate.judge(caller(None, Some("good"), "/configz")).await), 403);
    assert_eq!(code(gate.judge(caller(None, Some("bad"), "/metrics")).await), 401);
    let refused = gate.judge(caller(None, None, "/metrics")).await.unwrap_err();
    let status: Value = serde_json::from_str(&refused.body).unwrap();
    assert_eq!(status["message"], "forbidden: User \"system:anonymous\" cannot get path \"/metrics\"");
    assert_eq!(code(gate.judge(caller(Some(("eve", "x")), Some("good"), "/metrics")).await), 403, "a certificate wins");
}

#[tokio::test]
async fn without_a_way_to_ask_only_masters_may() {
    let gate = Delegated { tokens: None, rights: None };
    assert_eq!(code(gate.judge(caller(Some(("admin", "system:masters")), None, "/metrics")).await), 200);
    assert_eq!(code(gate.judge(caller(Some(("eve", "x")), None, "/metrics")).await), 403);
    assert_eq!(code(gate.judge(caller(None, Some("good"), "/metrics")).await), 403);
}

#[tokio::test]
async fn an_api_server_that_does_not_answer_lets_nobody_in() {
    let service = tower::service_fn(|_: Request<Body>| async {
        Err::<Response<http_body_util::Full<bytes::Bytes>>, _>(std::io::Error::other("down"))
    });
    let client = kube::Client::new(service, "default");
    let gate = Delegated { tokens: Some(Reviews::new(client.clone(), MEMORY)), rights: None };
    assert_eq!(code(gate.judge(caller(None, Some("good"), "/metrics")).await), 500);
}
