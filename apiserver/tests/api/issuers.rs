//! Users by tokens of an issuer.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use apiserver::testing::{SigningKey, TestServer};
use apiserver::{AuthenticationConfig, Config, OidcArgs};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use faults::Attack;
use http::Method;
use serde_json::{Value, json};
use store::embedded::EmbeddedStore;
use tempfile::TempDir;

use crate::client::{Answer, Client, expect};
use crate::issuer_server::{AUDIENCE, IssuerServer, now};

const PATIENCE: Duration = Duration::from_secs(30);
const REVIEW: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

/// A server, and what is asked of it.
struct Setting {
    server: TestServer,
    client: Client,
    file: PathBuf,
    _directory: TempDir,
}

fn text(issuers: &[Value]) -> String {
    let head = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration"});
    let mut tree = head;
    tree["jwt"] = issuers.into();
    tree.to_string()
}

impl Setting {
    /// Trusts these issuers.
    async fn of(issuers: &[Value]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("authn.yaml");
        std::fs::write(&file, text(issuers)).unwrap();
        let poll = Duration::from_millis(30);
        let oidc = OidcArgs::default();
        Self::with(AuthenticationConfig { file: Some(file.clone()), poll, oidc }, file, directory).await
    }

    async fn with(authentication: AuthenticationConfig, file: PathBuf, directory: TempDir) -> Self {
        let config = Config { authentication, api_audiences: vec!["api".into()], ..Config::default() };
        let server = TestServer::with(config, Arc::new(EmbeddedStore::in_memory())).await;
        let client = Client::of(server.anonymous());
        Self { server, client, file, _directory: directory }
    }

    /// Asks who the bearer of a token is.
    async fn who(&self, token: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
        self.client.send(Method::POST, REVIEW, &headers, b"{}".to_vec()).await
    }

    /// Asks until the bearer is somebody; that must come.
    async fn known(&self, token: &str) -> Value {
        let asked = async {
            loop {
                let (status, answer) = self.who(token).await;
                if status == 201 {
                    return answer["status"]["userInfo"].clone();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.expect("the token is good in time")
    }

    async fn metric(&self, line: &str) -> Option<f64> {
        let (_, metrics) = Client::admin(&self.server).get("/metrics").await;
        let metrics = metrics.as_str().unwrap();
        let found = metrics.lines().find_map(|found| found.strip_prefix(line));
        found.map(|value| value.trim().parse().unwrap())
    }
}

async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    let asked = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("it comes to hold in time");
}

#[tokio::test]
async fn a_token_of_an_issuer_names_a_user() {
    let keys = [SigningKey::generate("RS256", "rsa"), SigningKey::generate("ES256", "ec")];
    let issuer = IssuerServer::start(&[&keys[0], &keys[1]]).await;
    let mut configured = issuer.configured();
    configured["claimMappings"] = json!({
        "username": {"expression": "'oidc:' + claims.sub"},
        "groups": {"claim": "groups", "prefix": "oidc:"},
        "uid": {"claim": "oid"},
        "extra": [{"key": "example.org/team", "valueExpression": "claims.team"}],
    });
    configured["userValidationRules"] =
        json!([{"expression": "!user.username.endsWith('mallory')", "message": "not her"}]);
    let setting = Setting::of(&[configured]).await;
    let claims = issuer.claims(&[
        ("groups", json!(["dev"])),
        ("oid", json!("7")),
        ("team", json!(["a", "b"])),
        ("jti", json!("one")),
    ]);
    let wanted = json!({
        "username": "oidc:jane", "uid": "7", "groups": ["oidc:dev", "system:authenticated"],
        "extra": {"example.org/team": ["a", "b"], "authentication.kubernetes.io/credential-id": ["JTI=one"]},
    });
    for key in &keys {
        assert_eq!(setting.known(&key.sign(&claims)).await, wanted, "{}", key.algorithm());
    }
    assert_eq!(setting.who(&keys[0].sign(&issuer.claims(&[("sub", json!("mallory"))]))).await.0, 401);
    // A token without a key's id is tried with all of them.
    let anonymous = keys[1].sign_with(&json!({"alg": "ES256"}), &claims);
    expect(setting.who(&anonymous).await, 201);

    let admin = Client::admin(&setting.server);
    let review = async |audiences: Value| {
        let spec = json!({"token": keys[0].sign(&claims), "audiences": audiences});
        let answer = admin.post("/apis/authentication.k8s.io/v1/tokenreviews", &json!({"spec": spec})).await;
        expect(answer, 201)["status"].clone()
    };
    let status = review(json!(["api", "other"])).await;
    assert_eq!((&status["user"], &status["audiences"]), (&wanted, &json!(["api"])));
    assert_eq!(review(json!(["other"])).await["authenticated"], Value::Null);

    // Tokens of ServiceAccounts are what they were.
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let own = expect(admin.post(path, &json!({"spec": {}})).await, 201);
    let account = expect(setting.who(own["status"]["token"].as_str().unwrap()).await, 201);
    assert_eq!(account["status"]["userInfo"]["username"], "system:serviceaccount:default:default");
}

#[tokio::test]
async fn nobody_makes_a_token_but_the_issuer() {
    let (key, other) = (SigningKey::generate("RS256", "a"), SigningKey::generate("RS256", "a"));
    let curve = SigningKey::generate("ES256", "a");
    let issuer = IssuerServer::start(&[&key]).await;
    let setting = Setting::of(&[issuer.configured()]).await;
    let claims = issuer.claims(&[]);
    let good = key.sign(&claims);
    setting.known(&good).await;

    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let hmac = |secret: &[u8], name: &str| {
        let message = format!("{}.{}", part(&json!({"alg": name, "kid": "a"})), part(&claims));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
    };
    let modulus = key.document()["n"].as_str().unwrap();
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = message.split_once('.').unwrap();
    let with = |changes: &[(&str, Value)]| key.sign(&issuer.claims(changes));
    let mut forged = vec![
        hmac(modulus.as_bytes(), "HS256"),
        hmac(&URL_SAFE_NO_PAD.decode(modulus).unwrap(), "HS256"),
        hmac(key.document().to_string().as_bytes(), "HS256"),
        hmac(b"", "HS256"),
        hmac(modulus.as_bytes(), "RS256"),
        other.sign(&claims),
        other.sign_with(&json!({"alg": "RS256"}), &claims),
        other.sign_with(&json!({"alg": "RS256", "kid": "a", "jwk": other.document()}), &claims),
        other.sign_with(&json!({"alg": "RS256", "kid": "a", "jku": "https://localhost/keys"}), &claims),
        curve.sign(&claims),
        key.sign_with(&json!({"alg": "PS256", "kid": "a"}), &claims),
        key.sign_with(&json!({"alg": "RS384", "kid": "a"}), &claims),
        key.sign_with(&json!({"alg": "RS256", "kid": "a", "crit": ["exp"]}), &claims),
        format!("{message}."),
        format!("{message}.{}", &signature[..signature.len() - 4]),
        format!("{message}.{}", "A".repeat(signature.len())),
        format!("{header}.{}.{signature}", part(&issuer.claims(&[("sub", json!("admin"))]))),
        format!("{good}.{signature}"),
        with(&[("aud", json!("them"))]),
        with(&[("aud", json!([]))]),
        with(&[("exp", json!(now() - 5))]),
        with(&[("exp", json!(null))]),
        with(&[("nbf", json!(now() + 300))]),
        with(&[("iss", json!("https://other"))]),
        with(&[("iss", json!(format!("{}/", issuer.url)))]),
        with(&[("iss", json!([issuer.url.as_str()]))]),
        with(&[("sub", json!(""))]),
        with(&[("sub", json!(["jane"]))]),
        with(&[("padding", json!("a".repeat(1 << 20)))]),
    ];
    for name in ["none", "None", "NONE", "", "HS256"] {
        forged.push(format!("{}.{}.", part(&json!({"alg": name})), part(&claims)));
    }
    let mut got_through = 0;
    for token in &forged {
        got_through += u64::from(setting.who(token).await.0 != 401);
    }
    expect(setting.who(&good).await, 201);
    Attack::new("authentication: forged, stale and foreign tokens of an issuer")
        .tried(forged.len() as u64, got_through)
        .record();
}

#[tokio::test]
async fn tokens_with_unknown_keys_make_no_flood_of_fetches() {
    let (key, unknown) = (SigningKey::generate("ES256", "a"), SigningKey::generate("ES256", "a"));
    let issuer = IssuerServer::start(&[&key]).await;
    let began = Instant::now();
    let setting = Setting::of(&[issuer.configured()]).await;
    let good = key.sign(&issuer.claims(&[]));
    setting.known(&good).await;
    let mut got_through = 0;
    for round in 0..20 {
        let sent = (0..20).map(|at| {
            let header = json!({"alg": "ES256", "kid": format!("{round}-{at}")});
            let token = unknown.sign_with(&header, &issuer.claims(&[]));
            let setting = &setting;
            async move { setting.who(&token).await.0 }
        });
        got_through += futures::future::join_all(sent).await.iter().filter(|status| **status != 401).count();
        expect(setting.who(&good).await, 201);
    }
    // A few at once, and then one in ten seconds.
    let most = 5 + began.elapsed().as_secs() / 10;
    assert!(issuer.fetches() <= most, "{} fetches, of {most}", issuer.fetches());
    Attack::new("authentication: a flood of tokens with unknown keys")
        .tried(400, got_through as u64)
        .figure("fetches of keys", issuer.fetches())
        .record();
}

#[tokio::test]
async fn keys_are_replaced_and_live_through_outages() {
    let (first, second) = (SigningKey::generate("RS256", "1"), SigningKey::generate("PS512", "2"));
    let issuer = IssuerServer::start(&[&first]).await;
    issuer.set_broken(true);
    let setting = Setting::of(&[issuer.configured()]).await;
    let (old, new) = (first.sign(&issuer.claims(&[])), second.sign(&issuer.claims(&[])));
    assert_eq!(setting.who(&old).await.0, 401, "the issuer has not been found");
    issuer.set_broken(false);
    setting.known(&old).await;
    assert_eq!(setting.who(&new).await.0, 401, "nobody knows that key");
    issuer.publish(&[&second]);
    expect(setting.who(&new).await, 201);
    assert_eq!(setting.who(&old).await.0, 401, "the old key is gone");
    issuer.set_broken(true);
    assert_eq!(setting.who(&old).await.0, 401, "keys cannot be fetched");
    expect(setting.who(&new).await, 201);
}

#[tokio::test]
async fn an_issuer_is_found_where_the_file_says_and_must_be_itself() {
    let key = SigningKey::generate("ES384", "a");
    let issuer = IssuerServer::start(&[&key]).await;
    let token = key.sign(&issuer.claims(&[]));
    let at = |path: &str| {
        let mut configured = issuer.configured();
        configured["issuer"]["discoveryURL"] = format!("{}{path}", issuer.url).into();
        configured
    };
    let setting = Setting::of(&[at("/moved")]).await;
    assert_eq!(setting.known(&token).await["username"], "jane");
    let mut got_through = 0;
    let others = ["/stranger", "/plain", "/round"];
    for path in others {
        let before = issuer.discoveries();
        let setting = Setting::of(&[at(path)]).await;
        eventually(async || issuer.discoveries() > before).await;
        got_through += u64::from(setting.who(&token).await.0 != 401);
    }
    // A server whose certificate nobody vouches for.
    let mut stranger = issuer.configured();
    stranger["issuer"]["certificateAuthority"] = IssuerServer::start(&[]).await.ca.clone().into();
    let setting = Setting::of(&[stranger]).await;
    got_through += u64::from(setting.who(&token).await.0 != 401);
    Attack::new("authentication: issuers that are not who they should be")
        .tried(others.len() as u64 + 1, got_through)
        .record();
}

#[tokio::test]
async fn the_file_is_followed() {
    let (key, other) = (SigningKey::generate("ES256", "a"), SigningKey::generate("ES256", "a"));
    let (first, second) = (IssuerServer::start(&[&key]).await, IssuerServer::start(&[&other]).await);
    let setting = Setting::of(&[first.configured()]).await;
    let (one, two) = (key.sign(&first.claims(&[])), other.sign(&second.claims(&[])));
    setting.known(&one).await;
    assert_eq!(setting.who(&two).await.0, 401);
    let write = |text: &str| {
        let new = setting.file.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &setting.file).unwrap();
    };
    let reloads = async |status: &str| {
        let line = format!("apiserver_authentication_config_controller_automatic_reloads_total{{status=\"{status}\"}}");
        setting.metric(&line).await.unwrap_or(0.0)
    };
    // Files that cannot be used change nothing.
    let anonymous = r#"{"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
                        "anonymous": {"enabled": false}}"#;
    for (at, bad) in ["kind: [", &text(&[json!({})]), anonymous].into_iter().enumerate() {
        write(bad);
        eventually(async || reloads("failure").await > at as f64).await;
        expect(setting.who(&one).await, 201);
    }
    // One whose issuer cannot be found waits for it.
    second.set_broken(true);
    write(&text(&[second.configured()]));
    expect(setting.who(&one).await, 201);
    second.set_broken(false);
    assert_eq!(setting.known(&two).await["username"], "jane");
    assert_eq!(setting.who(&one).await.0, 401, "the other issuer is trusted no more");
    assert_eq!((reloads("success").await, reloads("failure").await), (1.0, 3.0));
    write(&text(&[]));
    eventually(async || setting.who(&two).await.0 == 401).await;
    eventually(async || reloads("success").await == 2.0).await;
}

#[tokio::test]
async fn flags_name_one_issuer() {
    let (key, weak) = (SigningKey::generate("RS256", "a"), SigningKey::generate("ES256", "b"));
    let issuer = IssuerServer::start(&[&key, &weak]).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, &issuer.ca).unwrap();
    let oidc = OidcArgs {
        oidc_issuer_url: Some(issuer.url.clone()),
        oidc_client_id: Some(AUDIENCE.into()),
        oidc_ca_file: Some(file.clone()),
        oidc_groups_claim: Some("groups".into()),
        oidc_groups_prefix: Some("oidc:".into()),
        oidc_required_claim: vec![("hd".into(), "example.com".into())],
        ..OidcArgs::default()
    };
    let authentication = AuthenticationConfig { oidc, ..AuthenticationConfig::default() };
    let setting = Setting::with(authentication, file, directory).await;
    let claims = issuer.claims(&[("groups", json!("dev")), ("hd", json!("example.com"))]);
    let user = setting.known(&key.sign(&claims)).await;
    assert_eq!(user["username"], format!("{}#jane", issuer.url));
    assert_eq!(user["groups"], json!(["oidc:dev", "system:authenticated"]));
    assert_eq!(setting.who(&weak.sign(&claims)).await.0, 401, "only RS256 was allowed");
    assert_eq!(setting.who(&key.sign(&issuer.claims(&[]))).await.0, 401, "a required claim is missing");
}
