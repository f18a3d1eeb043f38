//! A text that is kept small, in two forms: as gzip for the clients that take it, and in pieces that are unpacked faster
//! than they can be sent for all others.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::{Stream, stream};
use lz4_flex::block;

/// How much of a text is unpacked at a time.
const PIECE: usize = 64 * 1024;

/// A text, packed.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    pub(crate) zipped: Bytes,
    /// How many bytes the text has.
    pub(crate) length: u64,
    pieces: Arc<[Piece]>,
}

/// A part of the text, as a block of LZ4.
#[derive(Debug)]
struct Piece {
    packed: Box<[u8]>,
    length: usize,
}

impl Packed {
    /// Packs what is written.
    pub(crate) fn of(write: impl FnOnce(&mut BufWriter<Packer>) -> io::Result<()>) -> io::Result<Self> {
        let packer = Packer {
            zip: GzEncoder::new(Vec::new(), Compression::default()),
            piece: Vec::with_capacity(PIECE),
            pieces: Vec::new(),
            length: 0,
        };
        let mut out = BufWriter::with_capacity(PIECE, packer);
        write(&mut out)?;
        let mut packer = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        packer.end_piece();
        let mut zipped = packer.zip.finish()?;
        zipped.shrink_to_fit();
        Ok(Self { zipped: zipped.into(), length: packer.length, pieces: packer.pieces.into() })
    }

    /// The text, unpacked as it is read.
    pub(crate) fn unpacked(self) -> impl Stream<Item = io::Result<Bytes>> {
        stream::iter((0..self.pieces.len()).map(move |at| {
            let piece = &self.pieces[at];
            block::decompress(&piece.packed, piece.length).map(Bytes::from).map_err(io::Error::other)
        }))
    }
}

/// Packs what is written to it.
pub(crate) struct Packer {
    zip: GzEncoder<Vec<u8>>,
    /// What has been written since the last whole piece.
    piece: Vec<u8>,
    pieces: Vec<Piece>,
    length: u64,
}

impl Packer {
    fn end_piece(&mut self) {
        if !self.piece.is_empty() {
            let packed = block::compress(&self.piece).into_boxed_slice();
            self.pieces.push(Piece { packed, length: self.piece.len() });
            self.piece.clear();
        }
    }
}

impl Write for Packer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.piece.len());
        let taken = self.zip.write(&bytes[..taken])?;
        self.piece.extend_from_slice(&bytes[..taken]);
        self.length += taken as u64;
        if self.piece.len() == PIECE {
            self.end_piece();
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;
    use futures::TryStreamExt as _;

    use super::*;

    #[tokio::test]
    async fn a_text_of_any_length_is_the_same_in_both_forms() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 7] {
            let text: Vec<u8> = (0..length).map(|at| (at / 3 % 251) as u8).collect();
            let packed = Packed::of(|out| text.chunks(1000).try_for_each(|part| out.write_all(part))).unwrap();
            assert_eq!(packed.length, length as u64);
            let mut unzipped = Vec::new();
            GzDecoder::new(&packed.zipped[..]).read_to_end(&mut unzipped).unwrap();
            assert_eq!(unzipped, text, "{length} bytes as gzip");
            let pieces: Vec<Bytes> = packed.unpacked().try_collect().await.unwrap();
            assert!(pieces.iter().all(|piece| piece.len() <= PIECE));
            assert_eq!(pieces.concat(), text, "{length} bytes in pieces");
        }
    }
}
