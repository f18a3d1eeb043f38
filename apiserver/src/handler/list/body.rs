//! The body of a long list, which makes its next chunk when it is asked for it.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll};

use api::ApiError;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body::Frame;

use super::envelope::Envelope;
use super::form::Form;
use super::{CHUNK, LOOKED, SOURCE};
use crate::registry::Cursor;

/// What was written and not read.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    done: VecDeque<Bytes>,
    last: Vec<u8>,
    len: usize,
    /// Whether large objects are pieces of their own, which are not copied.
    shares: bool,
}

impl Pieces {
    pub(super) fn new(shares: bool) -> Self {
        Self { shares, ..Self::default() }
    }

    /// How many bytes were written.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn write<T, E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<T, E>) -> Result<T, E> {
        let before = self.last.len();
        let written = write(&mut self.last)?;
        self.len += self.last.len() - before;
        Ok(written)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.last.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    fn push(&mut self, piece: Bytes) {
        self.len += piece.len();
        self.close();
        self.done.push_back(piece);
    }

    fn close(&mut self) {
        if !self.last.is_empty() {
            self.done.push_back(std::mem::take(&mut self.last).into());
        }
    }

    fn pop(&mut self) -> Option<Bytes> {
        self.close();
        self.done.pop_front()
    }

    fn is_empty(&self) -> bool {
        self.done.is_empty() && self.last.is_empty()
    }

    /// All of it.
    pub(super) fn whole(mut self) -> Bytes {
        if self.done.is_empty() {
            return self.last.into();
        }
        self.close();
        let pieces: Vec<&[u8]> = self.done.iter().map(|piece| &**piece).collect();
        pieces.concat().into()
    }
}

/// A list that is being written.
pub(super) struct ListBody {
    form: Form,
    cursor: Cursor,
    /// Not written yet: whether there are items decides how it looks.
    envelope: Option<Envelope>,
    tail: Vec<u8>,
    is_done: bool,
    /// What was made and not read.
    ready: Pieces,
    zipper: Option<GzEncoder<Vec<u8>>>,
}

impl ListBody {
    pub(super) fn new(form: Form, envelope: Envelope, cursor: Cursor) -> Self {
        Self {
            form,
            cursor,
            envelope: Some(envelope),
            tail: Vec::new(),
            is_done: false,
            ready: Pieces::default(),
            zipper: None,
        }
    }

    /// Whether everything was written.
    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    /// Writes on, about up to `enough` bytes. It may be that nothing is written because nothing was found yet.
    pub(super) fn write(&mut self, out: &mut Pieces, enough: usize) -> Result<(), ApiError> {
        let mut source = 0;
        let (form, envelope, tail) = (&self.form, &mut self.envelope, &mut self.tail);
        self.cursor.read(LOOKED, |cached| {
            let is_first = envelope.is_some();
            if let Some(begun) = envelope.take() {
                out.bytes(&begun.head);
                *tail = begun.tail;
            }
            if out.shares && form.shares(cached) {
                let rest = out.write(|out| Ok::<_, ApiError>(form.begin(cached, is_first, out)))?;
                out.push(rest);
            } else {
                out.write(|out| form.write(cached, is_first, out))?;
            }
            source += cached.size();
            Ok::<_, ApiError>(out.len() < enough && source < SOURCE)
        })?;
        if self.cursor.is_at_end() {
            if let Some(envelope) = self.envelope.take() {
                let Envelope { head, tail } = self.form.empty(envelope);
                out.bytes(&head);
                self.tail = tail;
            }
            out.bytes(&std::mem::take(&mut self.tail));
            self.is_done = true;
        }
        Ok(())
    }

    /// The rest as a body behind what was written.
    pub(super) fn behind(mut self, begun: Pieces, zips: bool) -> io::Result<Self> {
        if zips {
            let mut zipper = GzEncoder::new(Vec::new(), Compression::fast());
            zipper.write_all(&begun.whole())?;
            self.zipper = Some(zipper);
        } else {
            self.ready = begun;
        }
        Ok(self)
    }

    /// Makes the next chunk, if there is something for it.
    fn make(&mut self) -> Result<(), ApiError> {
        let mut chunk = Pieces::new(self.zipper.is_none());
        chunk.last.reserve(CHUNK + CHUNK / 8);
        self.write(&mut chunk, CHUNK)?;
        let Some(zipper) = &mut self.zipper else {
            self.ready = chunk;
            return Ok(());
        };
        zipper.write_all(&chunk.last).map_err(ApiError::internal)?;
        let zipped = if self.is_done {
            self.zipper.take().map_or_else(|| Ok(Vec::new()), GzEncoder::finish).map_err(ApiError::internal)?
        } else if zipper.get_ref().len() >= CHUNK / 2 {
            std::mem::take(zipper.get_mut())
        } else {
            return Ok(());
        };
        self.ready.bytes(&zipped);
        Ok(())
    }
}

impl http_body::Body for ListBody {
    type Data = Bytes;
    type Error = ApiError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ApiError>>> {
        let this = self.get_mut();
        if let Some(chunk) = this.ready.pop() {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if this.is_done {
            return Poll::Ready(None);
        }
        if let Err(err) = this.make() {
            // What was sent cannot be taken back: the client sees that the answer was cut.
            tracing::error!(error = &err as &dyn std::error::Error, "a list cannot be written to its end");
            this.is_done = true;
            return Poll::Ready(Some(Err(err)));
        }
        match this.ready.pop() {
            Some(chunk) => Poll::Ready(Some(Ok(Frame::data(chunk)))),
            None if this.is_done => Poll::Ready(None),
            None => {
                // Others have their turn before the search goes on.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_done && self.ready.is_empty()
    }
}
