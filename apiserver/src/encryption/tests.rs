use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use faults::Attack;

use super::*;

/// Where the values of the file lie.
const PLACE: &str = "/registry/secrets/default/a";

/// The sealed values that others made, by name.
pub(super) fn vector(name: &str) -> Bytes {
    let line = include_str!("testdata/vectors.txt").lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    STANDARD.decode(line.unwrap_or_else(|| panic!("there is no vector {name}"))).unwrap().into()
}

fn key(length: usize) -> String {
    STANDARD.encode((0..length).map(|byte| byte as u8).collect::<Vec<_>>())
}

fn at_rest(providers: &str) -> AtRest {
    let file = tempfile::NamedTempFile::new().unwrap();
    let rules = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n\
         resources: [{{resources: [secrets], providers: [{providers}]}}]"
    );
    std::fs::write(file.path(), rules).unwrap();
    let config = EncryptionConfig { file: Some(file.path().to_owned()), ..EncryptionConfig::default() };
    AtRest::load(&config, &Catalog::builtin(), &daemon::Metrics::default()).unwrap().unwrap()
}

fn provider(kind: &str, name: &str, length: usize) -> String {
    format!("{{{kind}: {{keys: [{{name: {name}, secret: {}}}]}}}}", key(length))
}

#[tokio::test]
async fn what_others_have_sealed_is_opened() {
    for (kind, lengths) in [("aesgcm", &[16, 24, 32][..]), ("aescbc", &[16, 24, 32]), ("secretbox", &[32])] {
        for length in lengths {
            let sealed = vector(&format!("{kind}-{length}"));
            let opened = at_rest(&provider(kind, "k", *length)).open(PLACE, &sealed).await.unwrap();
            assert_eq!((opened.value, opened.stale), (vector("plain"), false), "{kind} {length}");
        }
    }
}

#[tokio::test]
async fn what_is_sealed_is_opened_whatever_its_length() {
    for (kind, overhead) in [("aesgcm", 28), ("aescbc", 16), ("secretbox", 40)] {
        let at_rest = at_rest(&provider(kind, "k", 32));
        for length in [0, 1, 15, 16, 17, 4096, 1 << 20] {
            let plain = Bytes::from(vec![b'x'; length]);
            let sealed = at_rest.seal(PLACE, plain.clone()).await.unwrap();
            let padding = if kind == "aescbc" { 16 - length % 16 } else { 0 };
            let head = format!("k8s:enc:{kind}:v1:k:");
            assert!(sealed.starts_with(head.as_bytes()));
            assert_eq!(sealed.len(), head.len() + overhead + length + padding, "{kind} {length}");
            assert_eq!(at_rest.open(PLACE, &sealed).await.unwrap().value, plain, "{kind} {length}");
            let again = at_rest.seal(PLACE, plain).await.unwrap();
            assert_ne!(sealed, again, "{kind}: a nonce is used twice");
        }
    }
}

#[tokio::test]
async fn damage_is_an_error_and_never_another_value() {
    let (mut tried, mut got_through) = (0, 0);
    for kind in ["aesgcm", "secretbox"] {
        let at_rest = at_rest(&provider(kind, "k", 32));
        let sealed = at_rest.seal(PLACE, vector("plain")).await.unwrap();
        let mut damaged: Vec<Vec<u8>> = (0..sealed.len()).map(|length| sealed[..length].to_vec()).collect();
        damaged.extend((0..sealed.len() * 8).map(|bit| {
            let mut damaged = sealed.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            damaged
        }));
        for damaged in damaged {
            tried += 1;
            got_through += u64::from(at_rest.open(PLACE, &damaged.into()).await.is_ok());
        }
    }
    Attack::new("encryption: bits flipped in and bytes cut off sealed values").tried(tried, got_through).record();
}

#[tokio::test]
async fn damage_of_aescbc_is_survived() {
    // Upstream's format has nothing that would tell of damage but the padding.
    let at_rest = at_rest(&provider("aescbc", "k", 32));
    let sealed = at_rest.seal(PLACE, vector("plain")).await.unwrap();
    for length in 0..sealed.len() {
        let cut = at_rest.open(PLACE, &sealed.slice(..length)).await;
        assert!(cut.is_err() || cut.unwrap().value != vector("plain"));
    }
}

#[tokio::test]
async fn a_value_is_no_good_at_another_key() {
    let at_rest = at_rest(&provider("aesgcm", "k", 32));
    let places: Vec<String> = (0..40).map(|at| format!("/registry/secrets/default/s{at}")).collect();
    let mut sealed = Vec::new();
    for place in &places {
        sealed.push(at_rest.seal(place, vector("plain")).await.unwrap());
    }
    let (mut tried, mut got_through) = (0, 0);
    for (at, place) in places.iter().enumerate() {
        for (from, value) in sealed.iter().enumerate().filter(|(from, _)| *from != at) {
            tried += 1;
            let taken = at_rest.open(place, value).await.is_ok();
            assert!(!taken, "{} is taken at {place}", places[from]);
            got_through += u64::from(taken);
        }
    }
    Attack::new("encryption: sealed values swapped between keys").tried(tried, got_through).record();
}

#[tokio::test]
async fn the_first_key_seals_and_all_open() {
    let old = at_rest(&provider("aesgcm", "old", 32));
    let sealed = old.seal(PLACE, vector("plain")).await.unwrap();
    let both = format!("{{name: new, secret: {}}}, {{name: old, secret: {}}}", key(16), key(32));
    let second_key = at_rest(&format!("{{aesgcm: {{keys: [{both}]}}}}"));
    let second_provider = at_rest(&[provider("secretbox", "x", 32), provider("aesgcm", "old", 32)].join(", "));
    let same_prefix = at_rest(&[provider("aesgcm", "old", 16), provider("aesgcm", "old", 32)].join(", "));
    for at_rest in [&second_key, &second_provider, &same_prefix] {
        let opened = at_rest.open(PLACE, &sealed).await.unwrap();
        assert_eq!((opened.value, opened.stale), (vector("plain"), true));
    }
    let sealed_anew = second_key.seal(PLACE, vector("plain")).await.unwrap();
    assert!(sealed_anew.starts_with(b"k8s:enc:aesgcm:v1:new:"));
    assert!(!second_key.open(PLACE, &sealed_anew).await.unwrap().stale);
    let err = old.open(PLACE, &sealed_anew).await.unwrap_err();
    assert_eq!(err.to_string(), "no matching key was found for the provided AES transformer");
}

#[tokio::test]
async fn plain_values_are_read_where_identity_is_a_provider() {
    let plain = vector("plain");
    let sealing = at_rest(&[provider("aesgcm", "k", 32), "{identity: {}}".to_owned()].join(", "));
    let opened = sealing.open(PLACE, &plain).await.unwrap();
    assert_eq!((opened.value, opened.stale), (plain.clone(), true));
    let leaving = at_rest(&["{identity: {}}".to_owned(), provider("aesgcm", "k", 32)].join(", "));
    let sealed = sealing.seal(PLACE, plain.clone()).await.unwrap();
    let opened = leaving.open(PLACE, &sealed).await.unwrap();
    assert_eq!((opened.value, opened.stale), (plain.clone(), true));
    assert_eq!(leaving.seal(PLACE, plain.clone()).await.unwrap(), plain);
    let err = at_rest(&provider("aesgcm", "k", 32)).open(PLACE, &plain).await.unwrap_err();
    assert_eq!(err.to_string(), "no matching prefix found");
    // Of a resource that is not configured, nothing is sealed, and nothing sealed is taken for a value.
    let elsewhere = "/registry/configmaps/default/a";
    assert_eq!(sealing.seal(elsewhere, plain.clone()).await.unwrap(), plain);
    let err = sealing.open(elsewhere, &sealed).await.unwrap_err();
    assert_eq!(err.to_string(), "identity transformer tried to read encrypted data");
}
