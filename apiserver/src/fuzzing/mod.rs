//! What is fuzzed of this crate: a function per input that comes from outside. None may panic, hang or use much memory,
//! whatever the bytes; and what each promises about what it does accept is asserted.

pub mod requests;
mod slow_clients;

use std::sync::{Arc, LazyLock};

use api::catalog::Catalog;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jiff::Timestamp;
use store::embedded::EmbeddedStore;

use crate::admission::groups_asked_for;
use crate::authn::tokens::{Audiences, Claims, Tokens, account_of, public_key_of};
use crate::config::Config;
use crate::http::{PeerCertificate, Vouched};
use crate::impersonate;
use crate::registry::Continue;
use crate::request::negotiate::{Accept, Offer, media_type};
use crate::request::options::{DeleteOptions, ListOptions, Write, WriteOptions};
use crate::request::query::Query;
use crate::watch_cache::WatchCache;
use crate::watch_cache::is_cached;

pub use slow_clients::slow_clients;

/// A target: its name and what it does.
pub type FuzzTarget = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[FuzzTarget] = &[
    ("continue_tokens", continue_tokens),
    ("queries", queries),
    ("requests", requests::line),
    ("headers", headers),
    ("bearer_tokens", bearer_tokens),
    ("certificates", certificates),
];

/// Seeds of [`TARGETS`], and of [`slow_clients`], that are made rather than kept.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "requests" => requests::seeds(),
        "slow_clients" => slow_clients::seeds(),
        "bearer_tokens" => vec![ISSUER.good.clone().into_bytes()],
        "certificates" => {
            let certificate = crate::testing::certificate("fuzzer", &["one"]);
            let request = crate::testing::certificate_request("fuzzer", &["one"]);
            let encoded = base64::engine::general_purpose::STANDARD.encode(&certificate);
            let pem = format!("-----BEGIN CERTIFICATE-----\n{encoded}\n-----END CERTIFICATE-----\n");
            vec![certificate.to_vec(), request.into_bytes(), pem.into_bytes()]
        }
        _ => Vec::new(),
    }
}

/// What a client may make of a token, as such and as what one holds. It never leads out of the resource's prefix, which
/// is put before it.
fn continue_tokens(data: &[u8]) {
    for token in [String::from_utf8_lossy(data).into_owned(), URL_SAFE_NO_PAD.encode(data)] {
        let Ok(read) = Continue::decode(&token) else { continue };
        assert!(read.revision != 0 && !read.start.is_empty(), "{read:?}");
        assert!(!read.start.split('/').any(|part| part == ".."), "{read:?}");
        assert_eq!(Continue::decode(&read.encode()).expect("what was written can be read"), read);
    }
}

/// A path, and below it a query with the options of all verbs: versions, limits, timeouts, bookmarks, selectors.
fn queries(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (path, query) = text.split_once('\n').unwrap_or(("/api/v1/pods", &text));
    let query = Query::parse(query);
    for watch in [false, true] {
        if let Ok(options) = ListOptions::read(&query, watch) {
            assert!(options.limit != Some(0) && options.timeout_seconds != Some(0), "{options:?}");
        }
    }
    for what in [Write::Create, Write::Update, Write::Patch { apply: false }, Write::Patch { apply: true }] {
        if let Ok(options) = WriteOptions::read(&query, what, path) {
            assert!(!options.field_manager.is_empty() && options.field_manager.chars().count() <= 128);
        }
    }
    let _refused = DeleteOptions::read(&query, None);
    for method in [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS]
    {
        requests::check(&method, path, &query);
    }
}

/// Lines of headers: what is accepted, what a body is, and whom a request impersonates.
fn headers(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        let Some(at) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (HeaderName::from_bytes(&line[..at]), HeaderValue::from_bytes(&line[at + 1..]));
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    for offer in [Offer::All, Offer::WithoutProtobuf] {
        let _refused = (Accept::for_object(&headers, false, offer), Accept::for_watch(&headers, offer));
    }
    media_type(&headers);
    if let Ok(Some(user)) = impersonate::wanted(&headers) {
        assert!(!user.name.is_empty(), "{user:?}");
    }
}

/// An issuer and a good token of it.
struct Issuer {
    tokens: Tokens,
    good: String,
}

static ISSUER: LazyLock<Issuer> = LazyLock::new(|| {
    let catalog = Catalog::builtin();
    let rows = catalog.iter().filter(|row| is_cached(row)).map(|row| catalog.storage_row(row).clone());
    let (cache, _feed) = WatchCache::new(Arc::new(EmbeddedStore::in_memory()), rows);
    let tokens = Tokens::new(&Config::default(), &cache).expect("the default keys").expect("all resources are there");
    let now = Timestamp::now().as_second();
    let claims = Claims {
        aud: Audiences::Many(vec!["anybody".to_owned()]),
        exp: now + 3600,
        iat: now,
        iss: tokens.issuer().to_owned(),
        sub: "system:serviceaccount:default:fuzzer".to_owned(),
        ..Claims::default()
    };
    let good = tokens.sign(&claims).expect("the key signs");
    Issuer { tokens, good }
});

/// Nothing but the one token that was signed is good. Its claims are read whatever they are.
fn bearer_tokens(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(Some(_)) = ISSUER.tokens.signed(&text) {
        assert_eq!(text, ISSUER.good);
    }
    if let Ok(claims) = serde_json::from_slice::<Claims>(data) {
        let again = serde_json::to_vec(&claims).expect("plain claims serialise");
        assert_eq!(serde_json::from_slice::<Claims>(&again).expect("what was written can be read"), claims);
    }
    if let Some((namespace, name)) = account_of(&text) {
        assert!(!namespace.is_empty() && !name.is_empty());
    }
}

/// Certificates and requests for them, in DER and in PEM, and public keys.
fn certificates(data: &[u8]) {
    if let Ok(user) = PeerCertificate::new(Bytes::copy_from_slice(data), Vouched::FOR_USER).user() {
        assert!(!user.name.is_empty(), "{user:?}");
    }
    groups_asked_for(data);
    if let Ok(text) = std::str::from_utf8(data) {
        public_key_of(text);
    }
}
