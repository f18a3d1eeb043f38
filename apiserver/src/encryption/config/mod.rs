//! `EncryptionConfiguration` of `apiserver.config.k8s.io/v1`: read strictly, checked with upstream's words, and never
//! shown: keys are in it.

use std::path::Path as FilePath;
use std::time::Duration;

use api::field::{FieldError, Path};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use daemon::ConfigFile;
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::resources::canonical;
use crate::strict::{self, Shape};

const VERSION: &str = "apiserver.config.k8s.io/v1";
const KIND: &str = "EncryptionConfiguration";

const KEYS: Shape =
    Shape::Fields(&[("keys", Shape::List(&Shape::Fields(&[("name", Shape::Any), ("secret", Shape::Any)])))]);
const KMS: Shape = Shape::Fields(&[
    ("apiVersion", Shape::Any),
    ("name", Shape::Any),
    ("cachesize", Shape::Any),
    ("endpoint", Shape::Any),
    ("timeout", Shape::Any),
]);
const PROVIDER: Shape = Shape::Fields(&[
    ("aesgcm", KEYS),
    ("aescbc", KEYS),
    ("secretbox", KEYS),
    ("identity", Shape::Fields(&[])),
    ("kms", KMS),
]);
const FILE: Shape = Shape::Fields(&[(
    "resources",
    Shape::List(&Shape::Fields(&[("resources", Shape::Any), ("providers", Shape::List(&PROVIDER))])),
)]);

/// What a file may be refused with for its one old-fashioned part.
const KMS_V1: &str = "KMSv1 is deprecated and will only receive security updates going forward. Use KMSv2 instead.  Set \
                      --feature-gates=KMSv1=true to use the deprecated KMSv1 feature.";

/// A file that has been checked.
pub(super) struct Configuration(pub(super) Vec<Rule>);

/// Resources and who seals them.
pub(super) struct Rule {
    /// In the form of `resources::canonical`.
    pub(super) resources: Vec<String>,
    pub(super) providers: Vec<Provider>,
}

/// One provider.
pub(super) enum Provider {
    Identity,
    AesGcm(Vec<Key>),
    AesCbc(Vec<Key>),
    Secretbox(Vec<Key>),
    Kms { name: String, socket: String, timeout: Duration },
}

/// A local key.
pub(super) struct Key {
    pub(super) name: String,
    pub(super) secret: Zeroizing<Vec<u8>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    resources: Vec<FileRule>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FileRule {
    resources: Vec<String>,
    providers: Vec<FileProvider>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FileProvider {
    aesgcm: Option<FileKeys>,
    aescbc: Option<FileKeys>,
    secretbox: Option<FileKeys>,
    identity: Option<Value>,
    kms: Option<FileKms>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FileKeys {
    keys: Vec<FileKey>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FileKey {
    name: String,
    #[serde(deserialize_with = "wiped")]
    secret: Zeroizing<String>,
}

fn wiped<'de, D: serde::Deserializer<'de>>(text: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(text).map(Zeroizing::new)
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct FileKms {
    api_version: String,
    name: String,
    #[serde(rename = "cachesize")]
    cache_size: Option<i64>,
    endpoint: String,
    timeout: Option<String>,
}

impl Configuration {
    /// Reads a file's text. `reload`: whether it will be read again, for which names must be unique.
    pub(super) fn read(path: &FilePath, text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err(format!("encryption provider configuration file {:?} is empty", path.display().to_string()));
        }
        let flat = |err: daemon::ConfigFileError| format!("{:#}", anyhow::Error::from(err));
        let tree: Value = ConfigFile::parse(path, text, VERSION, KIND).and_then(ConfigFile::decode).map_err(flat)?;
        strict::check(&tree, &FILE)?;
        let file: File = serde_json::from_value(tree).map_err(|err| err.to_string())?;
        let errors = check(&file);
        match errors.len() {
            0 => file.into_rules().map(Self),
            1 => Err(errors[0].to_string()),
            _ => Err(format!("[{}]", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))),
        }
    }
}

fn check(file: &File) -> Vec<FieldError> {
    let root = Path::new("resources");
    if file.resources.is_empty() {
        return vec![FieldError::required(&root, "at least one resources is required")];
    }
    let mut errors = Vec::new();
    let mut names = Vec::new();
    for (at, rule) in file.resources.iter().enumerate() {
        let (resources, providers) = (root.index(at).child("resources"), root.index(at).child("providers"));
        if rule.resources.is_empty() {
            errors.push(FieldError::required(&resources, &format!("at least one {resources} is required")));
        }
        errors.extend(overlaps(&rule.resources, &resources));
        errors.extend(rule.resources.iter().enumerate().filter_map(|(at, name)| {
            let why = wrong_resource(name)?;
            Some(FieldError::invalid(&resources.index(at), name.as_str(), why))
        }));
        if rule.providers.is_empty() {
            errors.push(FieldError::required(&providers, &format!("at least one {providers} is required")));
        }
        for (at, provider) in rule.providers.iter().enumerate() {
            errors.extend(check_provider(provider, &providers.index(at), &mut names));
        }
    }
    errors
}

fn overlaps(resources: &[String], path: &Path) -> Vec<FieldError> {
    let parts: Vec<(&str, &str)> = resources.iter().map(|text| text.split_once('.').unwrap_or((text, ""))).collect();
    let pairs = || {
        let pair =
            |(at, one)| parts.iter().enumerate().filter(move |(other, _)| at != *other).map(move |(_, two)| (one, two));
        parts.iter().enumerate().flat_map(pair)
    };
    let twice = pairs().any(|(one, two)| one == two);
    let masked = pairs()
        .any(|(one, two)| one != two && (*one == ("*", "*") || (one.1 == two.1 && (one.0 == "*" || two.0 == "*"))));
    let refused = |why: &str| FieldError::invalid(path, json!(resources), why);
    let mut errors = Vec::new();
    if twice {
        errors.push(refused("the same resource cannot be specified multiple times"));
    }
    if masked {
        errors.push(refused(
            "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they \
             will be masked",
        ));
    }
    errors
}

fn wrong_resource(name: &str) -> Option<&'static str> {
    let (plural, group) = name.split_once('.').unwrap_or((name, ""));
    if name.to_lowercase() != name {
        return Some("resource name should not contain capital letters");
    }
    match (plural, group) {
        ("*", "") if name == "*" => {
            Some("use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources")
        }
        ("apiserveripinfo" | "serviceipallocations" | "servicenodeportallocations", "") => {
            Some("resources which do not have REST API/s cannot be encrypted")
        }
        (_, "events.k8s.io") => Some(
            "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the \
             config file",
        ),
        (_, "extensions") => Some("'extensions' group has been removed and cannot be used for encryption"),
        (plural, "*") if plural != "*" => Some("encrypting the same resource across groups is not supported"),
        _ => None,
    }
}

fn check_provider<'a>(provider: &'a FileProvider, path: &Path, names: &mut Vec<&'a str>) -> Vec<FieldError> {
    // Keys are in it.
    let refused = |why: &str| vec![FieldError::invalid(path, "REDACTED", why)];
    let keys = [
        ("aesgcm", &provider.aesgcm, &[16, 24, 32][..]),
        ("aescbc", &provider.aescbc, &[16, 24, 32]),
        ("secretbox", &provider.secretbox, &[32]),
    ];
    let mut keys = keys.into_iter().filter_map(|(name, keys, sizes)| Some((name, keys.as_ref()?, sizes)));
    let found = keys.clone().count() + usize::from(provider.kms.is_some()) + usize::from(provider.identity.is_some());
    match found {
        0 => {
            refused("provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity")
        }
        1 => match (&provider.kms, keys.next()) {
            (Some(kms), _) => check_kms(kms, &path.child("kms"), names),
            (None, Some((name, keys, sizes))) => check_keys(&keys.keys, &path.child(name).child("keys"), sizes),
            (None, None) => Vec::new(),
        },
        _ => refused("more than one provider specified in a single element, should split into different list elements"),
    }
}

fn check_keys(keys: &[FileKey], path: &Path, sizes: &[usize]) -> Vec<FieldError> {
    if keys.is_empty() {
        return vec![FieldError::required(path, "at least one keys is required")];
    }
    let mut errors = Vec::new();
    for (at, key) in keys.iter().enumerate() {
        let (name, secret) = (path.index(at).child("name"), path.index(at).child("secret"));
        if key.name.is_empty() {
            errors.push(FieldError::required(&name, "name is a mandatory field for a key"));
        }
        if key.secret.is_empty() {
            errors.push(FieldError::required(&secret, "secret is a mandatory field for a key"));
            continue;
        }
        let refused = |why: &str| FieldError::invalid(&secret, "REDACTED", why);
        match STANDARD.decode(key.secret.as_bytes()).map(Zeroizing::new) {
            Err(_) => errors.push(refused("secrets must be base64 encoded")),
            Ok(bytes) if !sizes.contains(&bytes.len()) => {
                let wanted: Vec<String> = sizes.iter().map(ToString::to_string).collect();
                errors.push(refused(&format!(
                    "secret is not of the expected length, got {}, expected one of [{}]",
                    bytes.len(),
                    wanted.join(" ")
                )));
            }
            Ok(_) => {}
        }
    }
    errors
}

fn check_kms<'a>(kms: &'a FileKms, path: &Path, names: &mut Vec<&'a str>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let field = |name: &str| path.child(name);
    let is_v1 = matches!(kms.api_version.as_str(), "" | "v1");
    if kms.name.is_empty() {
        errors.push(FieldError::required(&field("name"), "name is a mandatory field for a provider"));
    }
    if !is_v1 && kms.name.contains(':') {
        let why = format!("invalid KMS provider name {}, must not contain ':'", kms.name);
        errors.push(FieldError::invalid(&field("name"), kms.name.as_str(), &why));
    }
    if names.contains(&kms.name.as_str()) {
        let why = format!("duplicate KMS provider name {}, names must be unique", kms.name);
        errors.push(FieldError::invalid(&field("name"), kms.name.as_str(), &why));
    }
    names.push(&kms.name);
    if timeout_of(kms).is_none_or(|timeout| timeout.is_zero()) {
        let given = kms.timeout.as_deref().unwrap_or_default();
        errors.push(FieldError::invalid(&field("timeout"), given, "timeout should be a positive value"));
    }
    errors.extend(check_endpoint(&kms.endpoint, &field("endpoint")));
    if let Some(size) = kms.cache_size.filter(|_| !is_v1) {
        errors.push(FieldError::invalid(&field("cachesize"), size, "cachesize is not supported in v2"));
    }
    if !is_v1 && kms.api_version != "v2" {
        let why = "unsupported apiVersion apiVersion for KMS provider, only v1 and v2 are supported";
        errors.push(FieldError::invalid(&field("apiVersion"), kms.api_version.as_str(), why));
    }
    errors
}

fn check_endpoint(endpoint: &str, path: &Path) -> Option<FieldError> {
    if endpoint.is_empty() {
        return Some(FieldError::invalid(path, "", "endpoint is a mandatory field for a kms"));
    }
    let scheme = endpoint.split_once(':').map_or("", |(scheme, _)| scheme);
    if scheme != "unix" {
        let why = format!("unsupported scheme {scheme:?} for KMS provider, only unix is supported");
        return Some(FieldError::invalid(path, endpoint, &why));
    }
    if socket_of(endpoint).is_empty() {
        let why = "invalid endpoint for kms provider, error: it names no socket";
        return Some(FieldError::invalid(path, endpoint, why));
    }
    None
}

fn timeout_of(kms: &FileKms) -> Option<Duration> {
    kms.timeout.as_deref().map_or(Some(Duration::from_secs(3)), |text| daemon::pflag::duration(text).ok())
}

/// `unix:///run/kms.sock` is a path, `unix:///@name` and `unix:@name` a name in the abstract namespace.
fn socket_of(endpoint: &str) -> &str {
    let path = endpoint.strip_prefix("unix:").unwrap_or("");
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.starts_with("/@") { &path[1..] } else { path }
}

impl File {
    fn into_rules(self) -> Result<Vec<Rule>, String> {
        let mut seen: Vec<String> = Vec::new();
        let mut rules = Vec::new();
        for rule in self.resources {
            let resources: Vec<String> = rule.resources.iter().map(|name| canonical(name)).collect();
            for resource in &resources {
                let group = resource.split_once('.').map_or("", |(_, group)| group);
                let masks = [format!("*.{group}"), "*.*".to_owned()];
                if let Some(mask) = masks.iter().find(|mask| seen.contains(mask)) {
                    return Err(format!("resource {resource:?} is masked by earlier rule {mask:?}"));
                }
                seen.push(resource.clone());
            }
            let providers = rule.providers.into_iter().map(FileProvider::into_provider).collect::<Result<_, _>>()?;
            rules.push(Rule { resources, providers });
        }
        Ok(rules)
    }
}

impl FileProvider {
    fn into_provider(self) -> Result<Provider, String> {
        let keys = |keys: FileKeys| keys.keys.into_iter().map(FileKey::into_key).collect::<Result<Vec<_>, _>>();
        if let Some(kms) = self.kms {
            if kms.api_version != "v2" {
                return Err(KMS_V1.to_owned());
            }
            let timeout = timeout_of(&kms).ok_or("timeout should be a positive value")?;
            let socket = socket_of(&kms.endpoint).to_owned();
            return Ok(Provider::Kms { name: kms.name, socket, timeout });
        }
        Ok(match (self.aesgcm, self.aescbc, self.secretbox) {
            (Some(given), _, _) => Provider::AesGcm(keys(given)?),
            (_, Some(given), _) => Provider::AesCbc(keys(given)?),
            (_, _, Some(given)) => Provider::Secretbox(keys(given)?),
            _ => Provider::Identity,
        })
    }
}

impl FileKey {
    fn into_key(self) -> Result<Key, String> {
        let secret = STANDARD.decode(self.secret.as_bytes()).map_err(|_| "secrets must be base64 encoded")?;
        Ok(Key { name: self.name, secret: Zeroizing::new(secret) })
    }
}

#[cfg(test)]
mod tests;
