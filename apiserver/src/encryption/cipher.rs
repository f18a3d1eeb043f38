//! The ciphers of local keys. Sealed forms, as upstream lays them out:
//!
//! ```text
//! aesgcm     nonce (12) | ciphertext | tag (16)       authenticates the key in the store, too
//! aescbc     IV (16)    | ciphertext, padded by PKCS 7
//! secretbox  nonce (24) | tag (16) | ciphertext       XSalsa20-Poly1305
//! ```

use aws_lc_rs::aead::{AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{hkdf, rand};
use crypto_secretbox::aead::{AeadInPlace as _, KeyInit as _};
use crypto_secretbox::{Tag, XSalsa20Poly1305};
use zeroize::Zeroizing;

use super::Error;

const TAG: usize = 16;
const BLOCK: usize = 16;
const BOX_NONCE: usize = 24;

/// Bytes of a seed, of a key that is derived from one, and of what it is derived with.
pub(super) const SEED: usize = 32;

/// One key, ready to seal and open. Its copies of the key are wiped when it goes.
pub(super) enum Cipher {
    Gcm(LessSafeKey),
    Cbc(Box<(EncryptingKey, DecryptingKey)>),
    Secretbox(Box<XSalsa20Poly1305>),
}

impl Cipher {
    /// AES-GCM; `None` for a key of another size than 16, 24 or 32 bytes.
    pub(super) fn gcm(key: &[u8]) -> Option<Self> {
        let algorithm = match key.len() {
            16 => &AES_128_GCM,
            24 => &AES_192_GCM,
            32 => &AES_256_GCM,
            _ => return None,
        };
        UnboundKey::new(algorithm, key).ok().map(|key| Self::Gcm(LessSafeKey::new(key)))
    }

    /// AES-CBC; `None` for a key of another size than 16, 24 or 32 bytes.
    pub(super) fn cbc(key: &[u8]) -> Option<Self> {
        let algorithm = match key.len() {
            16 => &AES_128,
            24 => &AES_192,
            32 => &AES_256,
            _ => return None,
        };
        let unbound = || UnboundCipherKey::new(algorithm, key).ok();
        let keys = (EncryptingKey::cbc(unbound()?).ok()?, DecryptingKey::cbc(unbound()?).ok()?);
        Some(Self::Cbc(Box::new(keys)))
    }

    /// XSalsa20-Poly1305; `None` for a key of another size than 32 bytes.
    pub(super) fn secretbox(key: &[u8]) -> Option<Self> {
        XSalsa20Poly1305::new_from_slice(key).ok().map(|key| Self::Secretbox(Box::new(key)))
    }

    /// Seals `plain` for its place in the store, and appends it to `out`.
    pub(super) fn seal(&self, place: &str, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        match self {
            Self::Gcm(key) => {
                let nonce: [u8; NONCE_LEN] = random()?;
                out.extend_from_slice(&nonce);
                let mut text = plain.to_vec();
                let nonce = Nonce::assume_unique_for_key(nonce);
                key.seal_in_place_append_tag(nonce, Aad::from(place.as_bytes()), &mut text).map_err(|_| Error::Seal)?;
                out.extend_from_slice(&text);
            }
            Self::Cbc(keys) => {
                let iv: [u8; BLOCK] = random()?;
                out.extend_from_slice(&iv);
                let start = out.len();
                out.extend_from_slice(plain);
                let padding = BLOCK - plain.len() % BLOCK;
                // At most one block.
                out.resize(out.len() + padding, padding as u8);
                let context = EncryptionContext::Iv128(FixedLength::from(iv));
                keys.0.less_safe_encrypt(&mut out[start..], context).map_err(|_| Error::Seal)?;
            }
            Self::Secretbox(key) => {
                let nonce: [u8; BOX_NONCE] = random()?;
                let mut text = plain.to_vec();
                let tag = key.encrypt_in_place_detached(&nonce.into(), b"", &mut text).map_err(|_| Error::Seal)?;
                out.extend_from_slice(&nonce);
                out.extend_from_slice(&tag);
                out.extend_from_slice(&text);
            }
        }
        Ok(())
    }

    /// Opens what was sealed for this place.
    pub(super) fn open(&self, place: &str, sealed: &[u8]) -> Result<Vec<u8>, Error> {
        match self {
            Self::Gcm(key) => {
                let (nonce, text) = sealed.split_at_checked(NONCE_LEN).ok_or(Error::Short)?;
                let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Error::Short)?;
                let mut text = text.to_vec();
                let opened = key.open_in_place(nonce, Aad::from(place.as_bytes()), &mut text);
                let length = opened.map_err(|_| Error::Forged)?.len();
                text.truncate(length);
                Ok(text)
            }
            Self::Cbc(keys) => open_cbc(&keys.1, sealed),
            Self::Secretbox(key) => {
                let (nonce, rest) = sealed.split_at_checked(BOX_NONCE).ok_or(Error::Short)?;
                let (tag, text) = rest.split_at_checked(TAG).ok_or(Error::Short)?;
                let nonce: [u8; BOX_NONCE] = nonce.try_into().map_err(|_| Error::Short)?;
                let mut text = text.to_vec();
                key.decrypt_in_place_detached(&nonce.into(), b"", &mut text, Tag::from_slice(tag))
                    .map_err(|_| Error::Forged)?;
                Ok(text)
            }
        }
    }
}

fn open_cbc(key: &DecryptingKey, sealed: &[u8]) -> Result<Vec<u8>, Error> {
    let (iv, text) = sealed.split_at_checked(BLOCK).ok_or(Error::Short)?;
    if !text.len().is_multiple_of(BLOCK) {
        return Err(Error::Blocks);
    }
    let iv: [u8; BLOCK] = iv.try_into().map_err(|_| Error::Short)?;
    let mut text = text.to_vec();
    let length =
        key.decrypt(&mut text, DecryptionContext::Iv128(FixedLength::from(iv))).map_err(|_| Error::Forged)?.len();
    text.truncate(length);
    let padding = text.last().copied().map_or(0, usize::from);
    if padding == 0 || padding > text.len() {
        return Err(Error::Unpadded);
    }
    let plain = text.len() - padding;
    if padding > BLOCK || text[plain..].iter().any(|byte| usize::from(*byte) != padding) {
        return Err(Error::Padding);
    }
    text.truncate(plain);
    Ok(text)
}

/// Seals with a key of its own, which is derived from a seed: `info (32) | nonce (12) | ciphertext | tag (16)`.
pub(super) fn seal_by_seed(seed: &[u8], place: &str, plain: &[u8]) -> Result<Vec<u8>, Error> {
    let info: [u8; SEED] = random()?;
    let mut out = info.to_vec();
    derived(seed, &info)?.seal(place, plain, &mut out)?;
    Ok(out)
}

/// Opens what [`seal_by_seed`] made.
pub(super) fn open_by_seed(seed: &[u8], place: &str, sealed: &[u8]) -> Result<Vec<u8>, Error> {
    let (info, rest) = sealed.split_at_checked(SEED).ok_or(Error::Short)?;
    derived(seed, info)?.open(place, rest)
}

/// HKDF with SHA-256, of which only the second half is done: the seed is random already.
fn derived(seed: &[u8], info: &[u8]) -> Result<Cipher, Error> {
    let mut key = Zeroizing::new([0; SEED]);
    let seed = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, seed);
    let expanded = seed.expand(&[info], hkdf::HKDF_SHA256).and_then(|okm| okm.fill(key.as_mut_slice()));
    expanded.map_err(|_| Error::Seal)?;
    Cipher::gcm(key.as_slice()).ok_or(Error::Seal)
}

/// Random bytes, from the kernel by way of the TLS library.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| Error::Seal)?;
    Ok(bytes)
}
