//! No request does what its verb does not say: users who hold one verb each send every method to every form of path, and
//! what changes in the store is compared with what a SubjectAccessReview says of the change.

use std::collections::BTreeMap;

use apiserver::fuzzing::requests::{METHODS, QUERIES, paths, with_query};
use apiserver::testing::TestServer;
use axum::body::Body;
use faults::Attack;
use futures::StreamExt as _;
use http::{Method, Request, StatusCode};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use store::Range;

use crate::client::{Client, expect};

const VERBS: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";

/// Keys of the store and the revisions of what lies there.
type Contents = BTreeMap<String, u64>;

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Created,
    Updated,
    Deleted,
}

/// One request of a user.
struct Try {
    verb: &'static str,
    method: &'static str,
    line: String,
}

struct Stage {
    server: TestServer,
    admin: Client,
    /// The users, by the verb that each of them may.
    users: BTreeMap<&'static str, Client>,
    contents: Contents,
    tried: u64,
    through: Vec<String>,
}

impl Stage {
    async fn start() -> Self {
        let server = TestServer::start().await;
        let admin = Client::admin(&server);
        for verb in VERBS {
            let rules = json!([{"verbs": [verb], "apiGroups": ["*"], "resources": ["*"]}]);
            expect(admin.post(ROLES, &json!({"metadata": {"name": verb}, "rules": rules})).await, 201);
            let binding = json!({"metadata": {"name": verb}, "subjects": [{"kind": "User", "name": verb}],
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": verb}});
            expect(admin.post(BINDINGS, &binding).await, 201);
        }
        let users = VERBS.map(|verb| (verb, Client::of(server.service_as(verb, &[])))).into_iter().collect();
        let mut stage = Self { server, admin, users, contents: Contents::new(), tried: 0, through: Vec::new() };
        stage.furnish().await;
        stage
    }

    /// Makes what is missing of the objects that requests are about, and looks at the whole store.
    async fn furnish(&mut self) {
        for (path, object) in objects() {
            let (status, answer) = self.admin.post(path, &object).await;
            assert!(matches!(status, StatusCode::CREATED | StatusCode::CONFLICT), "{path}: {answer}");
        }
        self.contents = self.look().await;
    }

    async fn look(&self) -> Contents {
        let listed = self.server.store().list(Range { prefix: "/registry/".into(), ..Range::default() }).await.unwrap();
        listed.entries.into_iter().map(|entry| (entry.key.to_string(), entry.mod_revision)).collect()
    }

    async fn attempt(&mut self, request: &Try) {
        self.tried += 1;
        let before = self.server.store().revision().await.unwrap();
        let (status, kind) = send(&self.users[request.verb], request).await;
        let shown = format!("{} {} by who may {}: {status} {kind:?}", request.method, request.line, request.verb);
        if answers(status) && !says(request.verb, request.method, &kind, &request.line) {
            self.through.push(shown.clone());
        }
        if self.server.store().revision().await.unwrap() == before {
            return;
        }
        let now = self.look().await;
        for (key, change) in changes(&self.contents, &now) {
            if !self.is_permitted(request, &key, change).await {
                self.through.push(format!("{shown}: {change:?} {key}"));
            }
        }
        self.furnish().await;
    }

    /// What a SubjectAccessReview says of the change for the user who made it.
    async fn is_permitted(&self, request: &Try, key: &str, change: Change) -> bool {
        let path = request.line.split('?').next().unwrap_or("");
        // These are created below an object, and change or remove that.
        let below = ["binding", "eviction"].into_iter().find(|sub| path.ends_with(&format!("/{sub}")));
        let verbs: &[&str] = match (below, change) {
            (Some(_), _) | (None, Change::Created) => &["create"],
            (None, Change::Updated) => &["update", "patch", "delete", "deletecollection"],
            (None, Change::Deleted) => &["delete", "deletecollection"],
        };
        let resource = key.split('/').nth(2).unwrap_or("").to_owned();
        for verb in verbs {
            let asked = json!({"verb": verb, "group": "*", "resource": resource, "subresource": below.unwrap_or("")});
            let review = json!({"spec": {"user": request.verb, "resourceAttributes": asked}});
            let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
            if expect(self.admin.post(path, &review).await, 201)["status"]["allowed"] == true {
                return true;
            }
        }
        false
    }
}

/// The objects that requests are about, and where they are made.
fn objects() -> Vec<(&'static str, Value)> {
    let container = json!([{"name": "c", "image": "i"}]);
    let template = json!({"metadata": {"labels": {"a": "m"}}, "spec": {"containers": container}});
    let deployment = json!({"selector": {"matchLabels": {"a": "m"}}, "template": template});
    vec![
        ("/api/v1/namespaces/default/configmaps", json!({"metadata": {"name": "m"}})),
        ("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "m"}})),
        ("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})),
        ("/api/v1/namespaces/default/pods", json!({"metadata": {"name": "m"}, "spec": {"containers": container}})),
        ("/api/v1/nodes", json!({"metadata": {"name": "m"}})),
        ("/apis/apps/v1/namespaces/default/deployments", json!({"metadata": {"name": "m"}, "spec": deployment})),
    ]
}

async fn send(client: &Client, request: &Try) -> (StatusCode, String) {
    let kind = match request.method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    let built = Request::builder().method(request.method).uri(&request.line).header("content-type", kind);
    let answer = client.raw(built.body(Body::from(body(request))).unwrap()).await;
    let status = answer.status();
    // A watch has no end: its beginning tells what it is.
    let mut chunks = answer.into_body().into_data_stream();
    let first = tokio::time::timeout(std::time::Duration::from_millis(20), chunks.next()).await;
    let bytes = first.ok().flatten().and_then(Result::ok).unwrap_or_default();
    let tree: Value =
        serde_json::Deserializer::from_slice(&bytes).into_iter().next().and_then(Result::ok).unwrap_or_default();
    let kind = if tree.get("object").is_some() && tree.get("type").is_some() {
        "event"
    } else {
        tree["kind"].as_str().unwrap_or("")
    };
    (status, kind.to_owned())
}

/// A body that the request would do its work with.
fn body(request: &Try) -> Vec<u8> {
    let path = request.line.split('?').next().unwrap_or("");
    let label =
        json!({"metadata": {"labels": {"touched": format!("{}-{}", request.method, request.verb).to_lowercase()}}});
    let resource =
        |path: &str| objects().into_iter().find(|(at, _)| path.contains(at.rsplit('/').next().unwrap_or("")));
    let Some((_, mut object)) = resource(path) else { return label.to_string().into_bytes() };
    match request.method {
        "POST" if path.ends_with("/eviction") => json!({"metadata": {"name": "m"}}),
        "POST" if path.ends_with("/binding") => json!({"target": {"kind": "Node", "name": "m"}}),
        "POST" if path.ends_with("/token") => json!({"spec": {}}),
        "POST" => {
            object["metadata"] = json!({"generateName": "n-"});
            object
        }
        "PUT" if path.ends_with("/scale") => {
            json!({"metadata": {"name": "m", "namespace": "default"}, "spec": {"replicas": 3}})
        }
        "PUT" => {
            object["metadata"]["labels"] = label["metadata"]["labels"].clone();
            object
        }
        "PATCH" => label,
        _ => return Vec::new(),
    }
    .to_string()
    .into_bytes()
}

/// Whether a request was let through to do something, or to try.
fn answers(status: StatusCode) -> bool {
    status.is_success() || status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
}

/// Whether the verb says what was done, by the method and what came back.
fn says(verb: &str, method: &str, kind: &str, line: &str) -> bool {
    match method {
        _ if line.contains("/proxy") || line.contains("/exec") => match method {
            "GET" | "HEAD" => verb == "get",
            "POST" => verb == "create",
            "PUT" => verb == "update",
            "PATCH" => verb == "patch",
            "DELETE" => verb == "delete",
            _ => false,
        },
        "GET" if kind == "event" => verb == "watch",
        "GET" if kind.ends_with("List") => verb == "list",
        // Of a watch nothing may have come yet.
        "GET" if kind.is_empty() => matches!(verb, "get" | "watch"),
        "GET" => verb == "get",
        "POST" => verb == "create",
        "PUT" => verb == "update",
        "PATCH" => verb == "patch",
        "DELETE" => matches!(verb, "delete" | "deletecollection"),
        _ => false,
    }
}

fn changes(before: &Contents, now: &Contents) -> Vec<(String, Change)> {
    let gone = before.keys().filter(|key| !now.contains_key(*key)).map(|key| (key.clone(), Change::Deleted));
    let others = now.iter().filter_map(|(key, revision)| match before.get(key) {
        None => Some((key.clone(), Change::Created)),
        Some(known) if known != revision => Some((key.clone(), Change::Updated)),
        Some(_) => None,
    });
    gone.chain(others).collect()
}

/// A path with up to two of its parts doubled, left out, encoded, or something else.
fn mutated(path: &str, random: &mut StdRng) -> String {
    const PARTS: [&str; 12] =
        ["api", "v1", "apis", "watch", "proxy", "namespaces", "default", "pods", "m", "..", "", "%2F"];
    let mut parts: Vec<String> = path.split('/').skip(1).map(str::to_owned).collect();
    for _ in 0..random.random_range(0..3) {
        let at = random.random_range(0..parts.len());
        match random.random_range(0..4) {
            0 => parts.insert(at, parts[at].clone()),
            1 if parts.len() > 1 => drop(parts.remove(at)),
            2 => parts[at] = parts[at].bytes().map(|byte| format!("%{byte:02x}")).collect(),
            _ => parts[at] = (*PARTS.choose(random).unwrap()).to_owned(),
        }
    }
    format!("/{}", parts.join("/"))
}

#[tokio::test]
async fn no_request_does_what_its_verb_does_not_say() {
    let mut stage = Stage::start().await;
    for path in paths() {
        for method in METHODS {
            // A parameter makes a difference to what is read and to collections.
            let queries = if matches!(method, "GET" | "POST" | "DELETE") { &QUERIES[..] } else { &QUERIES[..2] };
            for query in queries {
                for verb in VERBS {
                    stage.attempt(&Try { verb, method, line: with_query(&path, query) }).await;
                }
            }
        }
    }
    report(stage, "door: methods on every form of path, by users with one verb");
}

#[tokio::test]
async fn nobody_who_only_reads_changes_anything_by_any_path() {
    let mut stage = Stage::start().await;
    let mut random = StdRng::seed_from_u64(7);
    let paths = paths();
    for _ in 0..4_000 {
        let path = mutated(paths.choose(&mut random).unwrap(), &mut random);
        let query = QUERIES.choose(&mut random).unwrap();
        let line = with_query(&path, query);
        let method = *METHODS.choose(&mut random).unwrap();
        let verb = *VERBS[..3].choose(&mut random).unwrap();
        let before = stage.server.store().revision().await.unwrap();
        let request = Try { verb, method, line };
        stage.tried += 1;
        let (status, _) = send(&stage.users[verb], &request).await;
        if stage.server.store().revision().await.unwrap() != before {
            stage.through.push(format!("{method} {} by who may {verb}: {status}", request.line));
        }
    }
    report(stage, "door: random paths and methods, by users who only read");
}

fn report(stage: Stage, name: &str) {
    for line in stage.through.iter().take(30) {
        eprintln!("{line}");
    }
    Attack::new(name).tried(stage.tried, stage.through.len() as u64).record();
}

#[tokio::test]
async fn the_watch_prefix_answers_as_upstream() {
    let server = TestServer::start().await;
    let client = Client::admin(&server);
    let status = async |method: Method, path: &str| client.send(method, path, &[], Vec::new()).await.0.as_u16();
    let pods = "/api/v1/watch/namespaces/default/pods";
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        assert_eq!(status(method.clone(), pods).await, 405);
        assert_eq!(status(method, &format!("{pods}/p")).await, 405);
    }
    for below in ["log", "exec", "status", "eviction", "proxy/x"] {
        assert_eq!(status(Method::GET, &format!("{pods}/p/{below}")).await, 404, "{below}");
        assert_eq!(status(Method::POST, &format!("{pods}/p/{below}")).await, 404, "{below}");
    }
    let virtual_one = "/apis/authorization.k8s.io/v1/watch/selfsubjectaccessreviews";
    assert_eq!(status(Method::POST, virtual_one).await, 404);
    assert_eq!(status(Method::GET, virtual_one).await, 404);
}
