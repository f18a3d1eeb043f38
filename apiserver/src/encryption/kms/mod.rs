//! Key management services (KMS v2, KEP-3299): a service that this server reaches over a socket keeps the one key that
//! counts, and encrypts a seed with it. Each value is encrypted with a key that is derived from the seed, and carries
//! the encrypted seed along:
//!
//! ```text
//! k8s:enc:kms:v2:NAME: | EncryptedObject { data, key id, encrypted seed, annotations, kind of seed }
//! ```
//!
//! The service is asked once for each seed: at the start, when its key changes, and for the seeds of other servers and
//! earlier times. Without the service reads of known seeds go on for ever, and writes for three minutes.

mod client;
mod message;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;
use prost::Message as _;
use tokio::time::Instant;
use zeroize::Zeroizing;

use self::client::{CallError, Client};
use self::message::{AES_GCM_KEY, DecryptRequest, EncryptRequest, EncryptedObject, SEED_FOR_KEYS};
use super::cipher::{self, Cipher, SEED};
use super::{Error, Opened};

/// How often the service is asked for its state while it is well, and while it is not.
const EVERY: Duration = Duration::from_secs(60);
const EVERY_WHEN_ILL: Duration = Duration::from_secs(10);
/// For how long an answer about its health counts.
const HEALTHY_FOR: Duration = Duration::from_secs(20);
const ILL_FOR: Duration = Duration::from_secs(3);
/// For how long a seed may seal when the service cannot confirm its key.
const COAST: Duration = Duration::from_secs(180);
/// After a failure the service is not asked to decrypt for so long: each try may take its whole timeout.
const REST: Duration = Duration::from_secs(1);
/// Seeds that are kept, and for how long.
const MAX_SEEDS: usize = 4096;
const SEEDS_FOR: Duration = Duration::from_secs(24 * 3600);
/// Bounds of what a service may say.
const MAX_KEY_ID: usize = 1024;
const MAX_SOURCE: usize = 1024;
const MAX_ANNOTATIONS: usize = 32 * 1024;

/// Why a service could not help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KmsError {
    #[error("failed to decrypt DEK, error: {0}")]
    Decrypt(String),
    #[error("failed to encrypt DEK, error: {0}")]
    Encrypt(String),
    #[error("failed to perform status section of the healthz check for KMS Provider {name}, error: {why}")]
    Status { name: String, why: String },
    #[error("kmsv2 Provider {name} is not healthy, error: {why}")]
    Ill { name: String, why: String },
    #[error("encryptedDEKSource expired: the service has not confirmed its key for {COAST:?}")]
    Expired,
    #[error("the stored data is no EncryptedObject: {0}")]
    Object(String),
    #[error("invalid seed length {0} used for key generation")]
    Seed(usize),
}

/// What new values are sealed with.
#[derive(Clone)]
struct State {
    seed: Zeroizing<Vec<u8>>,
    key_id: String,
    source: Vec<u8>,
    annotations: BTreeMap<String, Vec<u8>>,
    expires: Instant,
}

/// A seed or key that the service has decrypted.
struct Known {
    key: Zeroizing<Vec<u8>>,
    since: Instant,
}

/// What the service was last found to be.
#[derive(Clone)]
struct Health {
    at: Instant,
    found: Result<(), String>,
}

/// One service.
pub(crate) struct Kms {
    name: String,
    prefix: String,
    timeout: Duration,
    client: Client,
    state: RwLock<Option<Arc<State>>>,
    known: Mutex<HashMap<Vec<u8>, Arc<Known>>>,
    health: Mutex<Option<Health>>,
    failed: Mutex<Option<(Instant, String)>>,
    /// Held by whoever asks for the state, so that one asks at a time, and the version that the service has.
    asking: tokio::sync::Mutex<Option<String>>,
}

impl Kms {
    /// The service of this name behind a socket; it is not asked yet.
    pub(super) fn new(name: &str, socket: &str, timeout: Duration) -> Self {
        Self {
            name: name.to_owned(),
            prefix: format!("k8s:enc:kms:v2:{name}:"),
            timeout,
            client: Client::new(socket, timeout),
            state: RwLock::default(),
            known: Mutex::default(),
            health: Mutex::default(),
            failed: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        }
    }

    /// How values of this service begin.
    pub(super) fn prefix(&self) -> &[u8] {
        self.prefix.as_bytes()
    }

    /// How long a call may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Keeps the state fresh, for as long as it is polled.
    pub(super) async fn keep_fresh(&self) {
        loop {
            let found = self.ask().await;
            if let Err(why) = &found {
                tracing::warn!(provider = %self.name, %why, "a key management service is not well");
            }
            tokio::time::sleep(if found.is_ok() { EVERY } else { EVERY_WHEN_ILL }).await;
        }
    }

    /// Whether the service is well; asks it if what is known is old.
    pub(super) async fn check(&self) -> Result<(), String> {
        let last = self.health.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(Health { at, found }) = last
            && at.elapsed() < if found.is_ok() { HEALTHY_FOR } else { ILL_FOR }
        {
            return found;
        }
        self.ask().await
    }

    /// Asks for the state, and makes a new seed when the service has a new key.
    async fn ask(&self) -> Result<(), String> {
        let mut version = self.asking.lock().await;
        // From before the call: a service that is slow must not prolong what it has not confirmed.
        let expires = Instant::now() + COAST;
        let found = self.follow(&mut version, expires).await.map_err(|err| err.to_string());
        let health = Health { at: Instant::now(), found: found.clone() };
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = Some(health);
        found
    }

    async fn follow(&self, version: &mut Option<String>, expires: Instant) -> Result<(), KmsError> {
        let ill = |why: String| KmsError::Ill { name: self.name.clone(), why };
        let status = self.client.status().await;
        let status = status.map_err(|err| KmsError::Status { name: self.name.clone(), why: err.to_string() })?;
        let mut wrong = Vec::new();
        if status.healthz != "ok" {
            wrong.push(format!("got unexpected healthz status: {}", status.healthz));
        }
        if !matches!(status.version.as_str(), "v2" | "v2beta1") {
            wrong.push(format!("expected KMSv2 API version v2, got {}", status.version));
        } else if *version.get_or_insert_with(|| status.version.clone()) != status.version {
            let first = version.as_deref().unwrap_or_default();
            wrong.push(format!(
                "KMSv2 API version should not change after the initial status response version {first}, got {}",
                status.version
            ));
        }
        if let Err(why) = check_key_id(&status.key_id) {
            wrong.push(format!("got invalid KMSv2 KeyID: {why}"));
        } else if let Err(err) = self.rotate(&status.key_id, expires).await {
            wrong.push(format!("failed to rotate DEK: {err}"));
        }
        match wrong.len() {
            0 => Ok(()),
            1 => Err(ill(wrong.swap_remove(0))),
            _ => Err(ill(format!("[{}]", wrong.join(", ")))),
        }
    }

    /// Goes on with the seed if the key is still the same, else makes a new one.
    async fn rotate(&self, key_id: &str, expires: Instant) -> Result<(), KmsError> {
        if let Some(state) = self.state().filter(|state| state.key_id == key_id) {
            self.set_state(State { expires, ..State::clone(&state) });
            return Ok(());
        }
        let failed = |why: String| KmsError::Encrypt(why);
        let seed = Zeroizing::new(cipher::random::<SEED>().map_err(|err| failed(err.to_string()))?.to_vec());
        let uid = uuid::Uuid::new_v4().to_string();
        let request = EncryptRequest { plaintext: seed.to_vec(), uid };
        let answer = self.client.encrypt(request).await.map_err(|err| failed(err.to_string()))?;
        if answer.key_id != key_id {
            return Err(failed(format!("the status names key {key_id:?}, the encryption {:?}", answer.key_id)));
        }
        let object = EncryptedObject {
            data: vec![0],
            key_id: answer.key_id,
            source: answer.ciphertext,
            annotations: answer.annotations,
            source_type: SEED_FOR_KEYS,
        };
        check_object(&object).map_err(failed)?;
        self.remember(identity(&object), seed.clone());
        let EncryptedObject { key_id, source, annotations, .. } = object;
        self.set_state(State { seed, key_id, source, annotations, expires });
        tracing::info!(provider = %self.name, "made a new seed for a new key");
        Ok(())
    }

    fn state(&self) -> Option<Arc<State>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_state(&self, state: State) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(state));
    }

    /// Seals a value for its place in the store.
    pub(super) async fn seal(&self, place: &str, plain: &[u8]) -> Result<Bytes, Error> {
        let usable = |state: &Arc<State>| Instant::now() <= state.expires;
        let mut state = self.state().filter(usable);
        if state.is_none() {
            self.check().await.map_err(|why| KmsError::Ill { name: self.name.clone(), why })?;
            state = self.state().filter(usable);
        }
        let state = state.ok_or(KmsError::Expired)?;
        let object = EncryptedObject {
            data: cipher::seal_by_seed(&state.seed, place, plain)?,
            key_id: state.key_id.clone(),
            source: state.source.clone(),
            annotations: state.annotations.clone(),
            source_type: SEED_FOR_KEYS,
        };
        let mut out = Vec::with_capacity(self.prefix.len() + object.encoded_len());
        out.extend_from_slice(self.prefix.as_bytes());
        out.extend_from_slice(&object.encode_to_vec());
        Ok(out.into())
    }

    /// Opens a value, without its prefix.
    pub(super) async fn open(&self, place: &str, sealed: &[u8]) -> Result<Opened, Error> {
        let object = EncryptedObject::decode(sealed).map_err(|err| KmsError::Object(err.to_string()))?;
        check_object(&object).map_err(KmsError::Object)?;
        let known = self.key_of(&object).await?;
        let plain = if object.source_type == SEED_FOR_KEYS {
            cipher::open_by_seed(&known.key, place, &object.data)?
        } else {
            Cipher::gcm(&known.key).ok_or(KmsError::Seed(known.key.len()))?.open(place, &object.data)?
        };
        let as_now = |state: Arc<State>| object.key_id == state.key_id && object.source_type == SEED_FOR_KEYS;
        Ok(Opened { value: plain.into(), stale: !self.state().is_none_or(as_now) })
    }

    /// The seed or key of a value: known already, or decrypted by the service.
    async fn key_of(&self, object: &EncryptedObject) -> Result<Arc<Known>, KmsError> {
        let identity = identity(object);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&identity).cloned();
        if let Some(known) = known.filter(|known| known.since.elapsed() < SEEDS_FOR) {
            return Ok(known);
        }
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, why)) = failed.filter(|(at, _)| at.elapsed() < REST) {
            return Err(KmsError::Decrypt(why));
        }
        let answer = self.client.decrypt(DecryptRequest {
            ciphertext: object.source.clone(),
            uid: uuid::Uuid::new_v4().to_string(),
            key_id: object.key_id.clone(),
            annotations: object.annotations.clone(),
        });
        let key = match answer.await {
            Ok(answer) => Zeroizing::new(answer.plaintext),
            Err(err) => {
                let why = err.to_string();
                // A service that answers is not to be spared for one value that it refuses.
                if !matches!(err, CallError::Refused { code, .. } if code != tonic::Code::Unavailable) {
                    let rest = Some((Instant::now(), why.clone()));
                    *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = rest;
                }
                return Err(KmsError::Decrypt(why));
            }
        };
        if object.source_type == SEED_FOR_KEYS && key.len() < SEED {
            return Err(KmsError::Seed(key.len()));
        }
        Ok(self.remember(identity, key))
    }

    fn remember(&self, identity: Vec<u8>, key: Zeroizing<Vec<u8>>) -> Arc<Known> {
        let now = Instant::now();
        let known = Arc::new(Known { key, since: now });
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_SEEDS {
            all.retain(|_, known| known.since.elapsed() < SEEDS_FOR);
        }
        if all.len() >= MAX_SEEDS
            && let Some(oldest) = all.iter().min_by_key(|(_, known)| known.since).map(|(identity, _)| identity.clone())
        {
            all.remove(&oldest);
        }
        all.insert(identity, known.clone());
        known
    }
}

/// What makes two values share a seed: everything that the service is told to decrypt it.
fn identity(object: &EncryptedObject) -> Vec<u8> {
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut add = |part: &[u8]| {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    };
    add(&object.source_type.to_be_bytes());
    add(&object.source);
    add(object.key_id.as_bytes());
    for (name, value) in &object.annotations {
        add(name.as_bytes());
        add(value);
    }
    hash.finish().as_ref().to_vec()
}

fn check_object(object: &EncryptedObject) -> Result<(), String> {
    if !matches!(object.source_type, AES_GCM_KEY | SEED_FOR_KEYS) {
        return Err(format!("unknown encryptedDEKSourceType: {}", object.source_type));
    }
    if object.data.is_empty() {
        return Err("encrypted data is empty".to_owned());
    }
    match object.source.len() {
        0 => return Err("failed to validate encrypted DEK source: encrypted DEK source is empty".to_owned()),
        length if length > MAX_SOURCE => {
            return Err(format!(
                "failed to validate encrypted DEK source: encrypted DEK source is {length} bytes, which exceeds the max \
                 size of {MAX_SOURCE}"
            ));
        }
        _ => {}
    }
    check_key_id(&object.key_id).map_err(|why| format!("failed to validate key id: {why}"))?;
    check_annotations(&object.annotations).map_err(|why| format!("failed to validate annotations: {why}"))
}

fn check_key_id(key_id: &str) -> Result<(), String> {
    match key_id.len() {
        0 => Err("keyID is empty".to_owned()),
        length if length > MAX_KEY_ID => {
            Err(format!("keyID is {length} bytes, which exceeds the max size of {MAX_KEY_ID}"))
        }
        _ => Ok(()),
    }
}

fn check_annotations(annotations: &BTreeMap<String, Vec<u8>>) -> Result<(), String> {
    for name in annotations.keys() {
        let wrong = api::names::dns1123_subdomain(name);
        if let Some(why) = wrong.first() {
            return Err(format!("annotations: Invalid value: {name:?}: {why}"));
        }
        if !name.contains('.') {
            let why = "should be a domain with at least two segments separated by dots";
            return Err(format!("annotations: Invalid value: {name:?}: {why}"));
        }
    }
    let size: usize = annotations.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > MAX_ANNOTATIONS {
        return Err(format!("total size of annotations is {size}, which exceeds the max size of {MAX_ANNOTATIONS}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object() -> EncryptedObject {
        EncryptedObject {
            data: vec![1],
            key_id: "k".into(),
            source: vec![2],
            annotations: BTreeMap::from([("a.b".to_owned(), vec![3])]),
            source_type: SEED_FOR_KEYS,
        }
    }

    #[tokio::test]
    async fn what_others_have_sealed_is_opened() {
        let place = "/registry/secrets/default/a";
        for (name, stale) in [("kms-seed", false), ("kms-key", true)] {
            let service = Kms::new("test", "/nowhere", Duration::from_secs(1));
            let sealed = super::super::tests::vector(name);
            let sealed = sealed.strip_prefix(service.prefix()).unwrap();
            let object = EncryptedObject::decode(sealed).unwrap();
            assert_eq!((object.key_id.as_str(), object.source.as_slice()), ("key-1", b"sealed by key-1".as_slice()));
            let seed = Zeroizing::new((0..32).collect::<Vec<u8>>());
            let seed_again = seed.clone();
            service.remember(identity(&object), seed.clone());
            let (source, annotations) = (object.source.clone(), object.annotations.clone());
            let expires = Instant::now() + COAST;
            service.set_state(State { seed, key_id: "key-1".into(), source, annotations, expires });
            let opened = service.open(place, sealed).await.unwrap();
            assert_eq!((opened.value, opened.stale), (super::super::tests::vector("plain"), stale), "{name}");
            assert!(service.open("/registry/secrets/default/b", sealed).await.is_err(), "{name}");
            // What is sealed has the same form.
            let anew = service.seal(place, b"x").await.unwrap();
            let anew = anew.strip_prefix(service.prefix()).unwrap();
            let again = EncryptedObject::decode(anew).unwrap();
            assert_eq!((&again.key_id, &again.source, again.source_type), (&object.key_id, &object.source, 1));
            assert_eq!(again.annotations, object.annotations);
            service.remember(identity(&again), seed_again);
            assert_eq!(service.open(place, anew).await.unwrap().value, "x");
        }
    }

    #[tokio::test]
    async fn a_service_that_is_not_there_is_named() {
        let service = Kms::new("test", "/nowhere/kms.sock", Duration::from_secs(1));
        let err = service.seal("/registry/secrets/default/a", b"x").await.unwrap_err().to_string();
        assert!(err.contains("KMS Provider test") && err.contains("No such file or directory"), "{err}");
        let object = EncryptedObject { data: vec![0; 80], ..object() };
        let err = service.open("/registry/secrets/default/a", &object.encode_to_vec()).await.unwrap_err().to_string();
        assert!(err.starts_with("failed to decrypt DEK, error: rpc error: code = Unavailable"), "{err}");
    }

    #[test]
    fn what_a_service_says_has_bounds() {
        let check = |change: fn(&mut EncryptedObject), wanted: &str| {
            let mut changed = object();
            change(&mut changed);
            let err = check_object(&changed).unwrap_err();
            assert!(err.contains(wanted), "{err}");
        };
        assert_eq!(check_object(&object()), Ok(()));
        check(|object| object.source_type = 2, "unknown encryptedDEKSourceType: 2");
        check(|object| object.data.clear(), "encrypted data is empty");
        check(|object| object.source.clear(), "source is empty");
        check(|object| object.source = vec![0; 1025], "is 1025 bytes");
        check(|object| object.key_id.clear(), "keyID is empty");
        check(|object| object.key_id = "k".repeat(1025), "keyID is 1025 bytes");
        check(|object| drop(object.annotations.insert("plain".into(), vec![])), "two segments");
        check(|object| drop(object.annotations.insert("c.d".into(), vec![0; 32 * 1024])), "total size of annotations");
    }

    #[test]
    fn seeds_are_told_apart_by_all_that_the_service_is_told() {
        let one = identity(&object());
        for change in [
            (|object| object.key_id = "l".into()) as fn(&mut EncryptedObject),
            |object| object.source = vec![4],
            |object| object.source_type = AES_GCM_KEY,
            |object| drop(object.annotations.insert("a.b".into(), vec![4])),
        ] {
            let mut changed = object();
            change(&mut changed);
            assert_ne!(identity(&changed), one);
        }
        let mut changed = object();
        changed.data = vec![9];
        assert_eq!(identity(&changed), one);
    }
}
