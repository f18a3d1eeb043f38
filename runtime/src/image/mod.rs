//! Images on this node: names, configurations, unpacked layers; pulling and importing.

mod archive;
mod budget;
mod config;
mod gate;
mod name;
mod registry;
mod store;
mod unpack;

pub(crate) use budget::Budget;
pub(crate) use config::ImageConfig;
pub(crate) use registry::Registry;
pub(crate) use store::{Record, Store};

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

/// No configuration or manifest is longer.
const MAX_DOCUMENT: u64 = 4 << 20;

/// `sha256:<hex>` of some bytes.
fn digest(bytes: &[u8]) -> String {
    format_digest(Sha256::digest(bytes).as_ref())
}

fn format_digest(hash: &[u8]) -> String {
    let mut text = String::with_capacity(7 + 2 * hash.len());
    text.push_str("sha256:");
    for byte in hash {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// Hashes what is read through it.
struct HashingReader<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> HashingReader<R> {
    fn new(inner: R) -> Self {
        Self { inner, hash: Sha256::new() }
    }

    /// Reads to the end and gives the digest of all of it.
    fn finish(mut self) -> io::Result<String> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(format_digest(self.hash.finalize().as_ref()))
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}
