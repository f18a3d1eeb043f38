//! The providers of one resource: the first seals, and whichever knows the prefix of a value opens it.

use std::sync::Arc;

use bytes::Bytes;

use super::cipher::Cipher;
use super::kms::Kms;
use super::{ENCRYPTED, Error, Opened};

/// Providers in order; never empty.
pub(super) struct Chain(Vec<Provider>);

/// One way to keep values.
#[derive(Clone)]
pub(super) enum Provider {
    /// As they are.
    Identity,
    Keys(Arc<Keys>),
    Kms(Arc<Kms>),
}

/// Local keys of one kind by name, the newest first.
pub(super) struct Keys {
    /// `k8s:enc:aesgcm:v1:`.
    pub(super) prefix: &'static str,
    /// How the kind is called in errors.
    pub(super) kind: &'static str,
    /// `NAME:` and the key.
    pub(super) named: Vec<(String, Cipher)>,
}

impl Chain {
    pub(super) fn new(providers: Vec<Provider>) -> Self {
        Self(providers)
    }

    /// Whether new values are sealed at all.
    pub(super) fn seals(&self) -> bool {
        !matches!(self.0.first(), None | Some(Provider::Identity))
    }

    /// Seals a value for its place in the store.
    pub(super) async fn seal(&self, place: &str, plain: Bytes) -> Result<Bytes, Error> {
        match self.0.first() {
            None | Some(Provider::Identity) => Ok(plain),
            Some(Provider::Keys(keys)) => keys.seal(place, &plain),
            Some(Provider::Kms(kms)) => kms.seal(place, &plain).await,
        }
    }

    /// Opens a value. Providers may share a prefix while keys are changed, so one that fails does not stop the others.
    pub(super) async fn open(&self, place: &str, value: &Bytes) -> Result<Opened, Error> {
        let mut errors = Vec::new();
        for (at, provider) in self.0.iter().enumerate() {
            match provider.open(place, value).await {
                None => {}
                Some(Ok(Opened { value, stale })) => return Ok(Opened { value, stale: stale || at != 0 }),
                Some(Err(err)) => errors.push(err),
            }
        }
        Err(match errors.len() {
            0 => Error::NoPrefix,
            1 => errors.swap_remove(0),
            _ => Error::Several(errors),
        })
    }
}

impl Provider {
    /// `None` for values of others.
    async fn open(&self, place: &str, value: &Bytes) -> Option<Result<Opened, Error>> {
        match self {
            Self::Identity if value.starts_with(ENCRYPTED) => None,
            Self::Identity => Some(Ok(Opened { value: value.clone(), stale: false })),
            Self::Keys(keys) => {
                let sealed = value.strip_prefix(keys.prefix.as_bytes())?;
                Some(keys.open(place, sealed))
            }
            Self::Kms(kms) => {
                let sealed = value.strip_prefix(kms.prefix())?;
                Some(kms.open(place, sealed).await)
            }
        }
    }
}

impl Keys {
    fn seal(&self, place: &str, plain: &[u8]) -> Result<Bytes, Error> {
        let (name, cipher) = self.named.first().ok_or(Error::NoKey(self.kind))?;
        let mut out = Vec::with_capacity(self.prefix.len() + name.len() + plain.len() + 64);
        out.extend_from_slice(self.prefix.as_bytes());
        out.extend_from_slice(name.as_bytes());
        cipher.seal(place, plain, &mut out)?;
        Ok(out.into())
    }

    fn open(&self, place: &str, sealed: &[u8]) -> Result<Opened, Error> {
        let mut failed = Error::NoKey(self.kind);
        for (at, (name, cipher)) in self.named.iter().enumerate() {
            let Some(sealed) = sealed.strip_prefix(name.as_bytes()) else { continue };
            match cipher.open(place, sealed) {
                Ok(plain) => return Ok(Opened { value: plain.into(), stale: at != 0 }),
                Err(err) => failed = err,
            }
        }
        Err(failed)
    }
}
