//! Bodies.

use std::fmt::Write as _;
use std::io::Write as _;

use apiserver::testing::TestServer;
use axum::body::Body;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{Method, Request};
use serde_json::{Value, json};

use super::{assert_small, in_time, message, nested, nested_value, send};
use crate::client::{APPLY, Client, JSON_PATCH, MERGE, STRATEGIC, expect};
use crate::custom::{DEFINITIONS, WIDGETS, define, definition, version};

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const REVISIONS: &str = "/apis/apps/v1/namespaces/default/controllerrevisions";

/// A revision, whose data may be anything. The data lies one level deep.
fn revision(name: &str, data: &str) -> Vec<u8> {
    let head = format!(r#"{{"apiVersion":"apps/v1","kind":"ControllerRevision","metadata":{{"name":"{name}"}}"#);
    format!(r#"{head},"revision":1,"data":{data}}}"#).into_bytes()
}

#[tokio::test]
async fn every_encoding_nests_as_deeply_and_what_is_stored_can_be_read() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    for levels in [100, 118, 119, 120, 125, 130, 250, 5_000, 200_000] {
        for kind in [JSON, YAML, PROTOBUF] {
            for objects in [true, false] {
                let name = format!("of-{levels}-{objects}-{}", kind.rsplit(['/', '.']).next().unwrap());
                let body = match kind {
                    PROTOBUF if levels > 250 => continue,
                    PROTOBUF => {
                        let meta = json!({"name": name});
                        message(&json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": meta,
                            "revision": 1, "data": nested_value(levels)}))
                    }
                    _ => revision(&name, &nested(levels, objects)),
                };
                let (status, answer) = send(&client, Method::POST, REVISIONS, kind, body).await;
                let want = if levels <= 119 { 201 } else { 400 };
                assert_eq!(status.as_u16(), want, "{name}: {}", answer["message"]);
                let read = client.get(&format!("{REVISIONS}/{name}")).await;
                assert_eq!(read.0 == 200, want == 201, "{name}: {}", read.0);
            }
        }
    }
    let listed = expect(client.get(REVISIONS).await, 200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 18);
    assert_small();
}

#[tokio::test]
async fn patches_nest_no_deeper_than_bodies() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let path = format!("{REVISIONS}/x");
    expect(client.post(REVISIONS, &json!({"metadata": {"name": "x"}, "revision": 1, "data": {}})).await, 201);
    for levels in [120, 125, 130, 250, 5_000, 200_000] {
        let value = nested(levels, true);
        let merge = format!(r#"{{"data":{value}}}"#);
        let json_patch = format!(r#"[{{"op":"replace","path":"/data","value":{value}}}]"#);
        let bodies = [(MERGE, &merge), (STRATEGIC, &merge), (JSON_PATCH, &json_patch)];
        for (kind, body) in bodies {
            let (status, answer) = send(&client, Method::PATCH, &path, kind, body.clone().into_bytes()).await;
            assert!(matches!(status.as_u16(), 400 | 422), "{levels} in {kind}: {status} {}", answer["message"]);
        }
        let (status, answer) =
            send(&client, Method::PATCH, &format!("{path}?fieldManager=a&force=1"), APPLY, revision("x", &value)).await;
        assert!(matches!(status.as_u16(), 400 | 422), "{levels} applied: {status} {}", answer["message"]);
    }
    expect(client.get(&path).await, 200);
    assert_small();
}

/// Schemas nest twice as deeply in JSON as in messages.
#[tokio::test]
async fn definitions_nest_no_deeper_in_messages_than_in_json() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    for levels in [20, 50, 60, 80, 110] {
        let schema = (0..levels)
            .fold(json!({"type": "string"}), |inner, _| json!({"type": "object", "properties": {"a": inner}}));
        let mut widgets = definition(&json!([version("v1", &schema)]));
        widgets["metadata"]["name"] = "widgets.example.com".into();
        let json =
            send(&client, Method::POST, &format!("{DEFINITIONS}?dryRun=All"), JSON, widgets.to_string().into()).await;
        let sent = send(&client, Method::POST, &format!("{DEFINITIONS}?dryRun=All"), PROTOBUF, message(&widgets)).await;
        assert_eq!(json.0, sent.0, "{levels}: {} and {}", json.1["message"], sent.1["message"]);
        assert!(json.0 == 201 || json.0 == 400, "{levels}: {}", json.1["message"]);
    }
    assert_small();
}

#[tokio::test]
async fn bodies_are_limited_in_size_before_they_are_read() {
    const LIMIT: usize = 3 * 1024 * 1024;
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let body = |size: usize| {
        let head = r#"{"metadata":{"name":"x"},"data":{"a":""#;
        format!("{head}{}\"}}}}", "x".repeat(size - head.len() - 3)).into_bytes()
    };
    // So much is read; a ConfigMap is smaller.
    let refused = expect(send(&client, Method::POST, MAPS, JSON, body(LIMIT)).await, 422);
    assert!(refused["message"].as_str().unwrap().contains("Too long"), "{refused}");
    expect(send(&client, Method::POST, MAPS, JSON, body(LIMIT + 1)).await, 413);
    // Without a length that is told before.
    let endless = futures::stream::repeat(Ok::<_, std::convert::Infallible>(bytes::Bytes::from_static(&[b' '; 4096])));
    let request = Request::post(MAPS).header("content-type", JSON).body(Body::from_stream(endless)).unwrap();
    assert_eq!(in_time("an endless body", client.raw(request)).await.status(), 413);
    for kind in [MERGE, JSON_PATCH, STRATEGIC] {
        expect(send(&client, Method::PATCH, &format!("{MAPS}/kube-root-ca.crt"), kind, body(LIMIT + 1)).await, 413);
    }
    expect(send(&client, Method::DELETE, &format!("{MAPS}/x"), JSON, body(LIMIT + 1)).await, 413);
    assert_small();
}

/// As upstream, which looks at no `Content-Encoding` of requests.
#[tokio::test]
async fn compressed_bodies_are_not_unpacked() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..64 {
        bomb.write_all(&[b' '; 1 << 20]).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    for kind in [JSON, YAML, PROTOBUF] {
        let headers = [("content-type", kind), ("content-encoding", "gzip")];
        let answer = in_time("a bomb", client.send(Method::POST, MAPS, &headers, bomb.clone())).await;
        assert_eq!(answer.0, 400, "{kind}: {}", answer.1);
    }
    assert_small();
}

#[tokio::test]
async fn aliases_in_yaml_do_not_multiply() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let mut laughs = String::from("metadata: {name: x}\na0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for at in 1..12 {
        let alias = format!("*a{}", at - 1);
        writeln!(laughs, "a{at}: &a{at} [{}]", [alias.as_str(); 9].join(", ")).unwrap();
    }
    let recursive = "metadata: {name: x}\na: &a [*a]\n".to_owned();
    let merges = (1..30).fold("metadata: {name: x}\nm0: &m0 {a: b}\n".to_owned(), |mut text, at| {
        writeln!(text, "m{at}: &m{at} {{<<: [*m{0}, *m{0}], k{at}: *m{0}}}", at - 1).unwrap();
        text
    });
    for body in [laughs, recursive, merges] {
        for path in [MAPS, REVISIONS] {
            let answer = send(&client, Method::POST, path, YAML, body.clone().into_bytes()).await;
            assert_eq!(answer.0, 400, "{path}: {}", answer.1);
        }
        let applied = format!("apiVersion: v1\nkind: ConfigMap\n{body}");
        let answer =
            send(&client, Method::PATCH, &format!("{MAPS}/x?fieldManager=a"), APPLY, applied.into_bytes()).await;
        assert!(answer.0.is_client_error() || answer.0 == 500, "{}: {}", answer.0, answer.1);
    }
    assert_small();
}

/// A field of a message.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length > 0x7f {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
    out
}

#[tokio::test]
async fn messages_with_more_than_they_should_have_are_read_in_time() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let envelope = |raw: &[u8]| {
        let kind = [field(1, b"v1"), field(2, b"ConfigMap")].concat();
        [b"k8s\0".to_vec(), field(1, &kind), field(2, raw)].concat()
    };
    let named = field(1, &field(1, b"x"));
    let nested_unknown = (0..5_000).fold(Vec::new(), |inner, _| field(9, &inner));
    // Start and end of groups of the number 9, one in the other.
    let groups = [vec![0x4b; 100_000], vec![0x4c; 100_000]].concat();
    let open_groups = vec![0x4b; 1_000_000];
    let varints = [0x48, 0x01].repeat(1_000_000);
    let labels = (0..100_000).flat_map(|_| field(1, &field(11, &field(1, b"a")))).collect::<Vec<_>>();
    let wrong = [vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], vec![0; 10]].concat();
    for (what, more, want) in [
        ("nested unknown fields", &nested_unknown, 201),
        ("groups", &groups, 201),
        ("open groups", &open_groups, 400),
        ("many unknown numbers", &varints, 201),
        ("the same label many times", &labels, 201),
        ("a length that overflows", &wrong, 400),
    ] {
        let body = envelope(&[named.as_slice(), more].concat());
        let answer = send(&client, Method::POST, &format!("{MAPS}?dryRun=All"), PROTOBUF, body).await;
        assert_eq!(answer.0.as_u16(), want, "{what}: {}", answer.1);
    }
    let deep = (0..300).fold(envelope(&named), |inner, _| envelope(&inner));
    expect(send(&client, Method::POST, MAPS, PROTOBUF, deep).await, 400);
    assert_small();
}

/// Warnings are cut as upstream cuts them, so that no client stumbles over the headers.
#[tokio::test]
async fn what_is_said_about_a_hundred_thousand_unknown_fields_stays_short() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let many = (0..100_000).map(|at| format!("\"unknown-field-{at}\":1")).collect::<Vec<_>>().join(",");
    let twice = vec!["\"a\":1"; 100_000].join(",");
    for fields in [many, twice] {
        let body = format!(r#"{{"metadata":{{"name":"x"}},{fields}}}"#).into_bytes();
        for validation in ["Warn", "Strict"] {
            let path = format!("{MAPS}?dryRun=All&fieldValidation={validation}");
            let request = Request::post(&path).header("content-type", JSON).body(Body::from(body.clone())).unwrap();
            let answer = in_time(validation, client.raw(request)).await;
            let warnings: usize = answer.headers().get_all("warning").iter().map(|text| text.len()).sum();
            assert!(warnings < 16 * 1024, "{warnings} bytes of warnings");
            assert_eq!(answer.status().as_u16(), if validation == "Warn" { 201 } else { 400 });
        }
    }
    assert_small();
}

#[tokio::test]
async fn custom_objects_are_no_larger_than_the_store_takes() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    define(&client, &definition(&json!([version("v1", &open)]))).await;
    let widget = |name: &str, spec: Value| json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec});
    let large = widget("large", json!({"a": "x".repeat(2_900_000)}));
    let (status, answer) = send(&client, Method::POST, WIDGETS, JSON, large.to_string().into()).await;
    assert!(matches!(status.as_u16(), 413 | 500), "{status}: {}", answer["message"]);
    assert!(answer["message"].as_str().unwrap().len() < 1000);
    let wide: serde_json::Map<String, Value> = (0..50_000).map(|at| (format!("f{at}"), json!(at))).collect();
    let (status, answer) =
        send(&client, Method::POST, WIDGETS, JSON, widget("wide", wide.into()).to_string().into()).await;
    assert!(status == 201 || status == 413 || status == 500, "{status}: {}", answer["message"]);
    let keys = widget("keys", json!({"x".repeat(1_000_000): 1}));
    let (status, answer) = send(&client, Method::POST, WIDGETS, JSON, keys.to_string().into()).await;
    assert!(status == 201 || status == 413 || status == 500, "{status}: {}", answer["message"]);
    expect(client.get(WIDGETS).await, 200);
    assert_small();
}
