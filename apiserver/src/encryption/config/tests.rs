use super::*;

const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n";
const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn read(rest: &str) -> Result<Vec<Rule>, String> {
    Configuration::read(FilePath::new("enc.yaml"), &format!("{HEAD}{rest}")).map(|read| read.0)
}

fn refused(rest: &str, wanted: &str) {
    let err = read(rest).map(|_| ()).expect_err(rest);
    assert!(err.contains(wanted), "{rest}\n  is refused with: {err}\n  wanted: {wanted}");
    assert!(!err.contains(KEY) && !err.contains("AAAAAAAA"), "a key is shown: {err}");
}

fn rule(resources: &str, providers: &str) -> String {
    format!("resources: [{{resources: [{resources}], providers: [{providers}]}}]")
}

#[test]
fn every_provider_is_read() {
    let providers = format!(
        "{{aesgcm: {{keys: [{{name: a, secret: {KEY}}}]}}}}, {{aescbc: {{keys: [{{name: b, secret: {KEY}}}]}}}}, \
         {{secretbox: {{keys: [{{name: c, secret: {KEY}}}]}}}}, {{identity: {{}}}}, \
         {{kms: {{apiVersion: v2, name: k, endpoint: 'unix:///run/kms.sock', timeout: 5s}}}}, \
         {{kms: {{apiVersion: v2, name: l, endpoint: 'unix:///@kms'}}}}"
    );
    let rules = read(&rule("secrets, '*.apps', pandas.example.com", &providers)).unwrap();
    assert_eq!(rules[0].resources, ["secrets", "*.apps", "pandas.example.com"]);
    let [gcm, cbc, sbox, identity, kms, abstract_kms] = &rules[0].providers[..] else { panic!("six are given") };
    assert!(matches!(gcm, Provider::AesGcm(keys) if keys[0].name == "a" && keys[0].secret.len() == 32));
    assert!(matches!(cbc, Provider::AesCbc(_)) && matches!(sbox, Provider::Secretbox(_)));
    assert!(matches!(identity, Provider::Identity));
    let is = |provider: &Provider, wanted: &str, seconds: u64| matches!(provider, Provider::Kms { socket, timeout, .. } if socket == wanted && timeout.as_secs() == seconds);
    assert!(is(kms, "/run/kms.sock", 5) && is(abstract_kms, "@kms", 3));
}

#[test]
fn files_are_read_strictly() {
    refused("resourcez: []", "strict decoding error: unknown field \"resourcez\"");
    refused(&rule("secrets", "{aesgcm: {key: []}}"), "unknown field \"resources[0].providers[0].aesgcm.key\"");
    refused(&rule("secrets", "{identity: {x: 1}}"), "unknown field \"resources[0].providers[0].identity.x\"");
    refused("resources: []\nresources: []", "resources");
    let err = Configuration::read(FilePath::new("enc.yaml"), "kind: EncryptionConfig\napiVersion: v1\n").map(|_| ());
    assert!(err.unwrap_err().contains("want apiVersion apiserver.config.k8s.io/v1"));
    let err = Configuration::read(FilePath::new("enc.yaml"), "").map(|_| ());
    assert_eq!(err.unwrap_err(), "encryption provider configuration file \"enc.yaml\" is empty");
}

#[test]
fn what_is_wrong_is_said_in_upstreams_words() {
    let keys = |keys: &str| rule("secrets", &format!("{{aesgcm: {{keys: [{keys}]}}}}"));
    let kms = |fields: &str| rule("secrets", &format!("{{kms: {{{fields}}}}}"));
    let identity = |resources: &str| rule(resources, "{identity: {}}");
    for (rest, wanted) in [
        ("resources: []".to_owned(), "resources: Required value: at least one resources is required"),
        (identity(""), "resources[0].resources: Required value: at least one resources[0].resources is required"),
        (rule("secrets", ""), "resources[0].providers: Required value: at least one resources[0].providers is required"),
        (rule("secrets", "{}"), "provider does not contain any of the expected providers"),
        (
            rule("secrets", &format!("{{identity: {{}}, aesgcm: {{keys: [{{name: a, secret: {KEY}}}]}}}}")),
            "more than one provider specified in a single element",
        ),
        (keys(""), "resources[0].providers[0].aesgcm.keys: Required value: at least one keys is required"),
        (keys(&format!("{{secret: {KEY}}}")), "keys[0].name: Required value: name is a mandatory field for a key"),
        (keys("{name: a}"), "keys[0].secret: Required value: secret is a mandatory field for a key"),
        (keys("{name: a, secret: '%'}"), "keys[0].secret: Invalid value: \"REDACTED\": secrets must be base64 encoded"),
        (
            keys("{name: a, secret: AAAA}"),
            "secret is not of the expected length, got 3, expected one of [16 24 32]",
        ),
        (
            rule("secrets", "{secretbox: {keys: [{name: a, secret: AAAAAAAAAAAAAAAAAAAAAA==}]}}"),
            "secret is not of the expected length, got 16, expected one of [32]",
        ),
        (identity("Secrets"), "resource name should not contain capital letters"),
        (identity("'*'"), "use '*.' to encrypt all the resources from core API group"),
        (identity("serviceipallocations"), "resources which do not have REST API/s cannot be encrypted"),
        (identity("events.events.k8s.io"), "Use 'events' instead in the config file"),
        (identity("ingresses.extensions"), "'extensions' group has been removed"),
        (identity("'secrets.*'"), "encrypting the same resource across groups is not supported"),
        (identity("secrets, secrets"), "the same resource cannot be specified multiple times"),
        (identity("secrets, '*.'"), "using overlapping resources such as 'secrets' and '*.'"),
        (identity("pods.a, '*.*'"), "using overlapping resources"),
        (
            "resources: [{resources: ['*.'], providers: [{identity: {}}]}, {resources: [secrets], providers: [{identity: {}}]}]"
                .to_owned(),
            "resource \"secrets\" is masked by earlier rule \"*.\"",
        ),
        (kms("name: k, endpoint: 'unix:///a'"), "KMSv1 is deprecated"),
        (kms("apiVersion: v1, name: k, endpoint: 'unix:///a'"), "KMSv1 is deprecated"),
        (kms("apiVersion: v3, name: k, endpoint: 'unix:///a'"), "only v1 and v2 are supported"),
        (kms("apiVersion: v2, endpoint: 'unix:///a'"), "kms.name: Required value: name is a mandatory field"),
        (kms("apiVersion: v2, name: 'a:b', endpoint: 'unix:///a'"), "must not contain ':'"),
        (kms("apiVersion: v2, name: k"), "endpoint is a mandatory field for a kms"),
        (kms("apiVersion: v2, name: k, endpoint: 'tcp://a'"), "unsupported scheme \"tcp\" for KMS provider"),
        (kms("apiVersion: v2, name: k, endpoint: 'unix:///a', timeout: -1s"), "timeout should be a positive value"),
        (kms("apiVersion: v2, name: k, endpoint: 'unix:///a', timeout: 0s"), "timeout should be a positive value"),
        (kms("apiVersion: v2, name: k, endpoint: 'unix:///a', cachesize: 5"), "cachesize is not supported in v2"),
        (
            rule("secrets", &["{kms: {apiVersion: v2, name: k, endpoint: 'unix:///a'}}"; 2].join(", ")),
            "providers[1].kms.name: Invalid value: \"k\": duplicate KMS provider name k, names must be unique",
        ),
    ] {
        refused(&rest, wanted);
    }
}
