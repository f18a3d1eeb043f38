//! Header blocks of SPDY/3.1: length-prefixed names and values, compressed with one zlib state a direction.
use std::io;
use std::sync::LazyLock;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::number;

const MAX_BLOCK: usize = 64 * 1024;
const STEP: usize = 4096;

/// The words that both ends know before the first frame, in the order the protocol fixes.
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language \
    accept-ranges age allow authorization cache-control connection content-base content-encoding content-language \
    content-length content-location content-md5 content-range content-type date etag expect expires from host if-match \
    if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
    proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
    user-agent vary via warning www-authenticate method get status 200+OK version HTTP/1.1 url public set-cookie \
    keep-alive origin";
const TEXT: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505\
    203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden\
    404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug \
    Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,\
    application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdch\
    charset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = Vec::new();
    for word in WORDS.split_whitespace() {
        let word = word.replace('+', " ");
        bytes.put_u32(u32::try_from(word.len()).unwrap_or(0));
        bytes.extend_from_slice(word.as_bytes());
    }
    bytes.extend_from_slice(TEXT.as_bytes());
    bytes
});

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a SPDY header block is {why}"))
}

/// Reads the blocks of one direction, in their order.
pub(super) struct Decoder {
    zlib: Decompress,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self { zlib: Decompress::new(true) }
    }

    /// Names (in lower case) and values of one block.
    pub(super) fn decode(&mut self, block: &[u8]) -> io::Result<Vec<(String, String)>> {
        parse(Bytes::from(self.inflate(block)?))
    }

    fn inflate(&mut self, block: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::with_capacity(STEP);
        let mut rest = block;
        loop {
            if plain.len() >= MAX_BLOCK {
                return Err(invalid("too long"));
            }
            plain.reserve(STEP);
            let before = (self.zlib.total_in(), plain.len());
            let outcome = self.zlib.decompress_vec(rest, &mut plain, FlushDecompress::Sync);
            let read = usize::try_from(self.zlib.total_in() - before.0).unwrap_or(0);
            rest = rest.get(read..).unwrap_or_default();
            match outcome {
                Err(err) if err.needs_dictionary().is_some() => {
                    self.zlib.set_dictionary(&DICTIONARY).map_err(|_| invalid("of another dictionary"))?;
                }
                Err(_) => return Err(invalid("not compressed as it should be")),
                Ok(_) if rest.is_empty() && plain.len() < plain.capacity() => return Ok(plain),
                Ok(_) if read == 0 && plain.len() == before.1 => return Err(invalid("cut off")),
                Ok(_) => {}
            }
        }
    }
}

/// Names (in lower case) and values of a block that is no longer compressed.
pub(super) fn parse(mut plain: Bytes) -> io::Result<Vec<(String, String)>> {
    let count = number(&mut plain)?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let name = text(&mut plain)?.to_lowercase();
        headers.push((name, text(&mut plain)?));
    }
    Ok(headers)
}

fn text(plain: &mut Bytes) -> io::Result<String> {
    let length = number(plain)? as usize;
    if plain.remaining() < length {
        return Err(invalid("cut off"));
    }
    let bytes = plain.split_to(length);
    String::from_utf8(bytes.to_vec()).map_err(|_| invalid("not text"))
}

/// Writes the blocks of one direction.
pub(super) struct Encoder {
    zlib: Option<Compress>,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self { zlib: None }
    }

    pub(super) fn encode(&mut self, headers: &[(String, String)]) -> io::Result<Vec<u8>> {
        let mut plain = BytesMut::new();
        plain.put_u32(u32::try_from(headers.len()).unwrap_or(0));
        for part in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.put_u32(u32::try_from(part.len()).map_err(|_| invalid("too long"))?);
            plain.put_slice(part.as_bytes());
        }
        let zlib = match &mut self.zlib {
            Some(zlib) => zlib,
            none => {
                let mut zlib = Compress::new(Compression::default(), true);
                zlib.set_dictionary(&DICTIONARY).map_err(io::Error::other)?;
                none.insert(zlib)
            }
        };
        let mut block = Vec::with_capacity(plain.len() + 64);
        let mut rest: &[u8] = &plain;
        loop {
            let before = zlib.total_in();
            zlib.compress_vec(rest, &mut block, FlushCompress::Sync).map_err(io::Error::other)?;
            let read = usize::try_from(zlib.total_in() - before).unwrap_or(0);
            rest = rest.get(read..).unwrap_or_default();
            if rest.is_empty() && block.len() < block.capacity() {
                return Ok(block);
            }
            block.reserve(STEP);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_the_protocols() {
        let checksum = Compress::new(Compression::default(), true).set_dictionary(&DICTIONARY).unwrap();
        assert_eq!((DICTIONARY.len(), checksum), (1423, 0xe3c6_a7c2));
    }

    #[test]
    fn blocks_of_one_direction_share_their_compression() {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        for round in 0..3 {
            let headers = vec![("port".to_owned(), format!("80{round}")), ("streamtype".to_owned(), "data".to_owned())];
            let block = encoder.encode(&headers).unwrap();
            assert_eq!(decoder.decode(&block).unwrap(), headers);
        }
    }

    #[test]
    fn garbage_is_refused() {
        assert!(Decoder::new().decode(b"garbage that is no zlib").is_err());
        assert!(Decoder::new().decode(&[]).is_err());
    }
}
